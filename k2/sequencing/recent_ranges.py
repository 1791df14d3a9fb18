"""The highest ranges of numbers of a symbol's newest session, for the compiled loop: gaps that open and are filled.

A row of the array has those below the topmost range, which is in the slot of the symbol, ascending; what lies below
them only the `SymbolSequence` has. Between two ranges that are known, every number is missing.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled

__all__ = [
    "COUNT",
    "FIRST_RANGE",
    "GAPS",
    "HIGHEST",
    "KEPT",
    "NOT_TAKEN",
    "OLD_LATEST",
    "OLD_LOWEST",
    "RANGES_MAX",
    "RANGES_SEEDED",
    "RANGE_COLUMNS",
    "TOP_START",
    "fill",
    "no_ranges",
    "open_gap",
]

TOP_START: Final = 0
"""Column of a slot: start of the topmost range of numbers in the newest session."""
HIGHEST: Final = 1
"""Column of a slot: end of that range, inclusive."""

COUNT: Final = 0
"""Column: number of ranges that are known below the topmost one."""
KEPT: Final = 1
"""Column: number of ranges below these."""
GAPS: Final = 2
"""Column: number of missing ranges in all sessions, those of announced numbers included."""
OLD_LATEST: Final = 3
"""Column: latest effective time of the earlier sessions with numbers, microseconds; the least int64 if none has any."""
OLD_LOWEST: Final = 4
"""Column: the lowest of the highest numbers of these sessions; the greatest int64 if none has any."""
FIRST_RANGE: Final = 5
"""Column of the first range: start and end, inclusive; those of the next follow."""
RANGES_MAX: Final = 32
RANGES_SEEDED: Final = 8
"""Ranges that a row of the array begins with, so that there is room for those of gaps that open."""
RANGE_COLUMNS: Final = FIRST_RANGE + 2 * RANGES_MAX
NOT_TAKEN: Final = -2


def no_ranges(slots: int) -> NDArray[np.int64]:
    """Return int64[slots, RANGE_COLUMNS] without ranges."""
    return np.zeros((slots, RANGE_COLUMNS), dtype=np.int64)


@compiled
def open_gap(slot: NDArray[np.int64], ranges: NDArray[np.int64], first: int, last: int) -> bool:
    """Begin a topmost range, above a gap; return false if there is no room for the one below, and nothing changes."""
    count = ranges[COUNT]
    if count == RANGES_MAX:
        return False
    column = FIRST_RANGE + 2 * count
    ranges[column], ranges[column + 1] = slot[TOP_START], slot[HIGHEST]
    slot[TOP_START], slot[HIGHEST] = first, last
    ranges[COUNT] = count + 1
    ranges[GAPS] += 1
    return True


@compiled
def fill(slot: NDArray[np.int64], ranges: NDArray[np.int64], first: int, last: int) -> int:
    """Add numbers, all of them missing and between two known ranges; return the change of the number of ranges.

    Returns `NOT_TAKEN`, and changes nothing, if they are not known to be missing, or there is no room.
    """
    upper = slot[TOP_START]
    for idx in range(ranges[COUNT] - 1, -1, -1):
        column = FIRST_RANGE + 2 * idx
        if ranges[column + 1] < first:
            return _fill_between(slot, ranges, idx, upper, first, last) if last < upper else NOT_TAKEN
        upper = ranges[column]
    return NOT_TAKEN


@compiled
def _fill_between(
    slot: NDArray[np.int64], ranges: NDArray[np.int64], idx: int, upper: int, first: int, last: int
) -> int:
    """Add missing numbers between the range `idx` and the one that begins with `upper`."""
    count, column = ranges[COUNT], FIRST_RANGE + 2 * idx
    is_top = idx == count - 1
    joins_lower, joins_upper = ranges[column + 1] == first - 1, upper == last + 1
    if joins_lower and joins_upper:
        if is_top:
            slot[TOP_START] = ranges[column]
        else:
            ranges[column + 1] = ranges[column + 3]
            for at in range(column + 2, FIRST_RANGE + 2 * (count - 1)):
                ranges[at] = ranges[at + 2]
        ranges[COUNT] -= 1
        ranges[GAPS] -= 1
        return -1
    if joins_lower:
        ranges[column + 1] = last
        return 0
    if joins_upper:
        if is_top:
            slot[TOP_START] = first
        else:
            ranges[column + 2] = first
        return 0
    if count == RANGES_MAX:
        return NOT_TAKEN
    for at in range(FIRST_RANGE + 2 * count - 1, column + 1, -1):
        ranges[at + 2] = ranges[at]
    ranges[column + 2], ranges[column + 3] = first, last
    ranges[COUNT] += 1
    ranges[GAPS] += 1
    return 1
