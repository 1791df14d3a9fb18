"""Disorder on a venue whose numbers grow, though their holes mean nothing: the highest of each symbol says all."""

from collections import Counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.compiled import compiled
from k2.model.symbols import SYMBOLS
from k2.venues import VENUES, SequenceMode

__all__ = ["GroupDisorder"]

_LEAST: Final = np.iinfo(np.int64).min
"""Below, or at, every number: nothing is out of order before a symbol's first."""
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
    """Mark the rows whose number is below their symbol's highest before them.

    Args:
        rows: int32[m], into the columns.
        symbols: int32[n], numbers of this process.
        has_sequence: bool[n]; a row without is passed over.
        sequences: int64[n].
        highest: int64[symbols], changed in place.
        is_late: bool[m], false before, written.

    Returns:
        How many were marked.
    """
    count = 0
    for place in range(len(rows)):
        row = rows[place]
        if not has_sequence[row]:
            continue
        symbol, sequence = symbols[row], sequences[row]
        if sequence < highest[symbol]:
            is_late[place] = True
            count += 1
        else:
            highest[symbol] = sequence
    return count


class GroupDisorder:
    """The highest number seen of each of a key group's symbols on `monotonic` venues.

    A copy of the highest trade is no disorder; one of an older trade is, since it can't be told here from a trade that
    comes late. Nothing hangs on it but a count: no verdict, and no event. A state that is lost begins anew.

    Memory: 8 bytes a symbol of the process.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        """Start anew, or from what `snapshot` gave."""
        self._highest = _NO_SYMBOLS
        for exchange, symbol, highest in (state or {}).get("highest", ()):
            number = SYMBOLS.intern(exchange, symbol)
            self._make_room(number)
            self._highest[number] = highest

    def out_of_order(self, piece: TradeSlice) -> Counter[str]:
        """Count a slice's rows by exchange that come after one of their symbol with a higher number."""
        if not len(piece) or VENUES[piece.batch.source.venue].mode is not SequenceMode.MONOTONIC:
            return Counter()
        columns = piece.batch.columns
        symbols = columns.symbols[piece.rows]
        self._make_room(int(symbols.max()))
        is_late = np.zeros(len(piece), dtype=np.bool_)
        if not _mark_disorder(
            piece.rows, columns.symbols, columns.has_sequence, columns.sequences, self._highest, is_late
        ):
            return Counter()
        return Counter(SYMBOLS.name(int(symbol))[0] for symbol in symbols[is_late])

    def snapshot(self) -> dict[str, object]:
        """Return the state as builtins alone, by names."""
        seen = np.flatnonzero(self._highest > _LEAST).tolist()
        return {"highest": [[*SYMBOLS.name(number), int(self._highest[number])] for number in seen]}

    def _make_room(self, number: int) -> None:
        if number >= len(self._highest):
            grown = np.full(2 * (number + 1), _LEAST, dtype=np.int64)
            grown[: len(self._highest)] = self._highest
            self._highest = grown
