"""The sort order of rows in a file: by rank (exchange and symbol), then venue time, then Kafka coordinates."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled

__all__ = ["SortKeys", "counting_sort", "sort_rows"]

_BLOCK: Final = 16
"""Number of rows that are sorted by insertion before blocks are merged."""


class SortKeys(NamedTuple):
    """Sort keys of n rows within a rank, in order of precedence."""

    timestamps: NDArray[np.int64]
    topic_partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    indexes: NDArray[np.int32]


@compiled
def _after(keys: SortKeys, left: int, right: int) -> bool:
    """Return whether row `left` sorts after row `right`."""
    timestamps, topic_partitions, offsets, indexes = keys
    if timestamps[left] != timestamps[right]:
        return bool(timestamps[left] > timestamps[right])
    if topic_partitions[left] != topic_partitions[right]:
        return bool(topic_partitions[left] > topic_partitions[right])
    if offsets[left] != offsets[right]:
        return bool(offsets[left] > offsets[right])
    return bool(indexes[left] > indexes[right])


@compiled
def counting_sort(
    values: NDArray[np.int32], value_count: int, order: NDArray[np.int64], out: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Write the rows of int64[n] `order` to `out`, sorted by their values; the sort is stable.

    `values` is int32[n], from 0 to `value_count` (exclusive). Returns int64[value_count + 1], the start of each value's
    run.
    """
    starts = np.zeros(value_count + 1, np.int64)
    for value in values:
        starts[value + 1] += 1
    for value in range(value_count):
        starts[value + 1] += starts[value]
    cursor = starts.copy()
    for row in order:
        value = values[row]
        out[cursor[value]] = row
        cursor[value] += 1
    return starts


@compiled
def _insert_block(keys: SortKeys, order: NDArray[np.int64], start: int, stop: int) -> None:
    for position in range(start + 1, stop):
        row = order[position]
        hole = position
        while hole > start and _after(keys, order[hole - 1], row):
            order[hole] = order[hole - 1]
            hole -= 1
        order[hole] = row


@compiled
def _merge(
    keys: SortKeys, order: NDArray[np.int64], start: int, middle: int, stop: int, scratch: NDArray[np.int64]
) -> None:
    """Merge two adjacent sorted runs; nothing is moved if they are already in order."""
    if not _after(keys, order[middle - 1], order[middle]):
        return
    # An assignment of slices takes a tenth of the time to compile all rules, for the error that it may raise.
    for idx in range(start, middle):
        scratch[idx] = order[idx]
    left, right, to = start, middle, start
    while left < middle:
        if right < stop and _after(keys, scratch[left], order[right]):
            order[to] = order[right]
            right += 1
        else:
            order[to] = scratch[left]
            left += 1
        to += 1


@compiled
def _sort_run(keys: SortKeys, order: NDArray[np.int64], start: int, stop: int, scratch: NDArray[np.int64]) -> None:
    """Merge-sort one run: n log n comparisons for any order of times, and n for sorted input."""
    for block in range(start, stop, _BLOCK):
        _insert_block(keys, order, block, min(block + _BLOCK, stop))
    width = _BLOCK
    while width < stop - start:
        for left in range(start, stop - width, 2 * width):
            _merge(keys, order, left, left + width, min(left + 2 * width, stop), scratch)
        width *= 2


@compiled
def sort_rows(ranks: NDArray[np.int32], rank_count: int, keys: SortKeys) -> NDArray[np.int64]:
    """Return int64[n], the row indexes sorted by int32[n] `ranks` (0 to `rank_count`, exclusive), then by `keys`."""
    count = len(ranks)
    order = np.empty(count, np.int64)
    scratch = np.arange(count).astype(np.int64)
    starts = counting_sort(ranks, rank_count, scratch, order)
    for rank in range(rank_count):
        if starts[rank + 1] - starts[rank] > 1:
            _sort_run(keys, order, starts[rank], starts[rank + 1], scratch)
    return order
