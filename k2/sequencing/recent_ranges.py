"""Compiled rules on the highest ranges of numbers of a symbol's newest session, and on its doubt.

A row of the array has those below the topmost range, which is in the slot of the symbol, ascending; what lies below
them only the `SymbolSequence` has. Between two ranges that are known, every number is missing.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.sequencing.kernel_layout import (
    CHECKED,
    DOUBT_AT,
    DOUBT_HERE,
    DOUBT_NUMBER,
    DOUBTED,
    EARLIEST,
    FILLED,
    FIRST_RANGE,
    HIGHEST,
    LATEST,
    NO_DOUBT,
    NOT_TAKEN,
    OLD_HIGHEST,
    OLD_LATEST,
    OLD_LOWEST,
    OPENED,
    RANGE_COUNT,
    RANGES_MAX,
    SESSION,
    SETTLED,
    TOP_START,
)

__all__ = ["add_event", "begin_doubt", "contradicts", "settle_doubt", "take_number"]

_NONE: Final = np.iinfo(np.int64).min
_LONG_MAX: Final = np.iinfo(np.int64).max


@compiled
def _open_gap(slot: NDArray[np.int64], ranges: NDArray[np.int64], first: int, last: int) -> bool:
    """Begin a topmost range, above a gap; return false if there is no room for the one below, and nothing changes."""
    count = ranges[RANGE_COUNT]
    if count == RANGES_MAX:
        return False
    column = FIRST_RANGE + 2 * count
    ranges[column], ranges[column + 1] = slot[TOP_START], slot[HIGHEST]
    slot[TOP_START], slot[HIGHEST] = first, last
    ranges[RANGE_COUNT] = count + 1
    return True


@compiled
def _fill(slot: NDArray[np.int64], ranges: NDArray[np.int64], first: int, last: int) -> int:
    """Add numbers, all of them missing and between two known ranges; return the change of the number of ranges.

    Returns `NOT_TAKEN`, and changes nothing, if they are not known to be missing, or there is no room.
    """
    upper = slot[TOP_START]
    for idx in range(ranges[RANGE_COUNT] - 1, -1, -1):
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
    count, column = ranges[RANGE_COUNT], FIRST_RANGE + 2 * idx
    is_top = idx == count - 1
    joins_lower, joins_upper = ranges[column + 1] == first - 1, upper == last + 1
    if joins_lower and joins_upper:
        if is_top:
            slot[TOP_START] = ranges[column]
        else:
            ranges[column + 1] = ranges[column + 3]
            for target in range(column + 2, FIRST_RANGE + 2 * (count - 1)):
                ranges[target] = ranges[target + 2]
        ranges[RANGE_COUNT] -= 1
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
    for source in range(FIRST_RANGE + 2 * count - 1, column + 1, -1):
        ranges[source + 2] = ranges[source]
    ranges[column + 2], ranges[column + 3] = first, last
    ranges[RANGE_COUNT] += 1
    return 1


@compiled
def add_event(event: NDArray[np.int64], slice_idx: int, kind: int, first: int, last: int, more: int) -> None:
    """Write an event."""
    event[0], event[1], event[2], event[3], event[4] = slice_idx, kind, first, last, more


@compiled
def _opens_gap(slot: NDArray[np.int64], ranges: NDArray[np.int64], first: int, sequence: int, at: int) -> bool:
    """Return whether a trade above the highest number belongs to the newest session, and leaves a gap below it."""
    if first <= slot[HIGHEST] or first - 1 == slot[HIGHEST]:
        return False
    # The length of the gap must fit 64 bits.
    if slot[HIGHEST] < 0 and first > _LONG_MAX + slot[HIGHEST]:
        return False
    if slot[SESSION] == 1:
        return True
    if at < slot[EARLIEST] or at < ranges[OLD_LATEST]:
        return False
    # No earlier session is anywhere near as near to the number as to be continued by it, or lacks it.
    return bool(sequence <= ranges[OLD_LOWEST] or sequence - (first - slot[HIGHEST]) > slot[OLD_HIGHEST])


@compiled
def take_number(
    slot: NDArray[np.int64],
    ranges: NDArray[np.int64],
    first: int,
    sequence: int,
    at: int,
    slice_idx: int,
    event: NDArray[np.int64],
) -> bool:
    """Add a missing number to the newest session, and write its event; return false if the specification decides."""
    highest = slot[HIGHEST]
    if _opens_gap(slot, ranges, first, sequence, at):
        if not _open_gap(slot, ranges, first, sequence):
            return False
        add_event(event, slice_idx, OPENED, highest + 1, first - 1, 1)
    elif slot[SESSION] == 1 or at >= slot[EARLIEST]:
        more = _fill(slot, ranges, first, sequence)
        if more == NOT_TAKEN:
            return False
        add_event(event, slice_idx, FILLED, first, sequence, more)
    else:
        return False
    slot[LATEST], slot[EARLIEST] = max(slot[LATEST], at), min(slot[EARLIEST], at)
    return True


@compiled
def contradicts(slot: NDArray[np.int64], ranges: NDArray[np.int64], first: int, sequence: int) -> bool:
    """Return whether a number that the only session has with other content is the first that contradicts it.

    It is not if it may be the lowest, with which numbering may have begun again.
    """
    lowest = ranges[FIRST_RANGE] if ranges[RANGE_COUNT] else slot[TOP_START]
    return bool(slot[SESSION] == 1 and slot[OLD_HIGHEST] == _NONE and first == sequence and sequence > lowest)


@compiled
def begin_doubt(slot: NDArray[np.int64], ranges: NDArray[np.int64], sequence: int, at: int) -> None:
    """Note the first conflict of a symbol, which has one session."""
    slot[OLD_HIGHEST], slot[CHECKED] = _LONG_MAX, _NONE
    ranges[DOUBTED], ranges[DOUBT_NUMBER], ranges[DOUBT_AT] = DOUBT_HERE, sequence, at


@compiled
def settle_doubt(slot: NDArray[np.int64], ranges: NDArray[np.int64], slice_idx: int, event: NDArray[np.int64]) -> None:
    """Note that the only session of a symbol has gone on after a conflict, and write the event."""
    slot[OLD_HIGHEST], ranges[DOUBTED] = _NONE, NO_DOUBT
    add_event(event, slice_idx, SETTLED, slot[HIGHEST], slot[LATEST], 0)
