"""Slices of a decoded batch: its rows by key group, with the verdicts that decoding gives."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeBatch, TradeSlice
from k2.model.compiled import compiled
from k2.model.key_groups import GROUPS
from k2.model.symbols import Symbols
from k2.model.verdicts import HEAD, SKIPPED, STORED

__all__ = ["empty_slice", "split"]

_NO_ROWS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


def split(
    trades: TradeBatch, non_market: NDArray[np.int64] | None = None, heads: NDArray[np.int64] | None = None
) -> list[TradeSlice]:
    """Return one slice for each key group with rows, the rows ascending.

    Verdicts are `SKIPPED` for the rows `non_market` (int64, ascending), `HEAD` for the rows `heads` (likewise) and
    `STORED` for the others; sessions are 0.
    """
    symbols = trades.columns.symbols
    rows = np.empty(len(symbols), dtype=np.int32)
    ends = np.zeros(GROUPS, dtype=np.int64)
    names = trades.columns.names
    assert isinstance(names, Symbols)
    _split(symbols, names.groups, rows, ends)
    shares = np.split(rows, ends[:-1])
    verdicts = np.full(len(symbols), STORED, dtype=np.uint8)
    verdicts[_NO_ROWS if non_market is None else non_market] = SKIPPED
    verdicts[_NO_ROWS if heads is None else heads] = HEAD
    return [
        TradeSlice(trades, group, share, verdicts[share], np.zeros(len(share), dtype=np.int32))
        for group, share in enumerate(shares)
        if len(share)
    ]


def empty_slice(trades: TradeBatch, group: int) -> TradeSlice:
    """Return the slice of a key group that has no rows in a batch."""
    no_rows = np.empty(0, dtype=np.int32)
    return TradeSlice(trades, group, no_rows, np.empty(0, dtype=np.uint8), no_rows)


@compiled
def _split(
    symbols: NDArray[np.int32], groups: NDArray[np.int32], rows: NDArray[np.int32], ends: NDArray[np.int64]
) -> None:
    """Sort row indices by group with a stable counting sort.

    Args:
        symbols: int32[n], symbol ids.
        groups: int32[symbols], key group of each symbol id.
        rows: int32[n], written.
        ends: int64[groups], written with the end of each group in `rows`.
    """
    counts = np.zeros(len(ends), dtype=np.int64)
    for row in range(len(symbols)):
        counts[groups[symbols[row]]] += 1
    total = 0
    for group in range(len(ends)):
        ends[group] = total
        total += counts[group]
    for row in range(len(symbols)):
        group = groups[symbols[row]]
        rows[ends[group]] = row
        ends[group] += 1
