"""Out-of-order trades on `monotonic` venues, detected by the highest number of each symbol."""

from collections import Counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.compiled import compiled
from k2.model.symbols import Symbols
from k2.model.verdicts import HEAD
from k2.venues import VENUES, SequenceMode

__all__ = ["GroupDisorder"]

_LEAST: Final = np.iinfo(np.int64).min
"""Not above any number, so a symbol's first trade is never out of order."""
_NO_SYMBOLS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


@compiled
def _mark_disorder(
    rows: NDArray[np.int32],
    symbols: NDArray[np.int32],
    has_sequence: NDArray[np.bool_],
    sequences: NDArray[np.int64],
    highest: NDArray[np.int64],
    is_late: NDArray[np.bool_],
) -> int:
    """Mark the rows whose number is below the highest earlier number of their symbol.

    Args:
        rows: int32[m], indices into the columns.
        symbols: int32[n], symbol ids.
        has_sequence: bool[n]; a row without a number is ignored.
        sequences: int64[n].
        highest: int64[symbols], changed in place.
        is_late: bool[m], initially false; written.

    Returns:
        The number of rows marked.
    """
    count = 0
    for slice_idx in range(len(rows)):
        row = rows[slice_idx]
        if not has_sequence[row]:
            continue
        symbol, sequence = symbols[row], sequences[row]
        if sequence < highest[symbol]:
            is_late[slice_idx] = True
            count += 1
        else:
            highest[symbol] = sequence
    return count


class GroupDisorder:
    """The highest number seen for each of a key group's symbols on `monotonic` venues.

    A copy of the trade with the highest number is not out of order. A copy of an older trade is counted as out of
    order, because it cannot be distinguished here from a late trade. Only a count depends on this state, no verdict and
    no event, so a lost state starts empty.

    Memory: 8 bytes per symbol of the process.
    """

    def __init__(self, state: dict[str, Any] | None = None, symbols: Symbols | None = None) -> None:
        """Start empty, or from a state returned by `snapshot`, with the registry `symbols` or one of its own."""
        self._symbols = Symbols() if symbols is None else symbols
        self._highest = _NO_SYMBOLS
        for exchange, symbol, highest in (state or {}).get("highest", ()):
            symbol_id = self._symbols.intern(exchange, symbol)
            self._make_room(symbol_id)
            self._highest[symbol_id] = highest

    def out_of_order(self, trade_slice: TradeSlice) -> Counter[str]:
        """Count, by exchange, the rows of a slice that come after a row of their symbol with a higher number.

        Rows that only name the number of a trade do not count: the trade may come after them.
        """
        if not len(trade_slice) or VENUES[trade_slice.batch.source.venue].mode is not SequenceMode.MONOTONIC:
            return Counter()
        trade_slice = trade_slice.with_ids_of(self._symbols)
        columns, rows = trade_slice.batch.columns, trade_slice.rows[trade_slice.verdicts != HEAD]
        if not len(rows):
            return Counter()
        symbols = columns.symbols[rows]
        self._make_room(int(symbols.max()))
        is_late = np.zeros(len(rows), dtype=np.bool_)
        if not _mark_disorder(rows, columns.symbols, columns.has_sequence, columns.sequences, self._highest, is_late):
            return Counter()
        return Counter(self._symbols.name(int(symbol))[0] for symbol in symbols[is_late])

    def snapshot(self) -> dict[str, object]:
        """Return the state as builtins, with symbols by name."""
        symbol_ids = np.flatnonzero(self._highest > _LEAST).tolist()
        return {
            "highest": [[*self._symbols.name(symbol_id), int(self._highest[symbol_id])] for symbol_id in symbol_ids]
        }

    def _make_room(self, symbol_id: int) -> None:
        if symbol_id >= len(self._highest):
            more = 2 * (symbol_id + 1) - len(self._highest)
            self._highest = np.pad(self._highest, (0, more), constant_values=_LEAST)
