"""The compiled loop of sequence tracking: rows that simply continue their symbol, or repeat it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trades.compiled import compiled
from trades.recent_kernel import Ring, content, recall, remember
from trades.verdicts import CONFLICT, DUPLICATE, SKIPPED, STORED

__all__ = ["BOUNDARY", "COLUMNS", "EARLIEST", "HIGHEST", "LATEST", "SESSION", "TOP_START", "follow"]

TOP_START: Final = 0
"""Column of a slot: where the topmost range of numbers seen in the current session starts."""
HIGHEST: Final = 1
"""Column of a slot: where that range ends."""
LATEST: Final = 2
"""Column of a slot: the current session's latest venue time."""
BOUNDARY: Final = 3
"""Column of a slot: the latest venue time of the session before; the least int64 where there is none."""
SESSION: Final = 4
"""Column of a slot: the current session; 0 before the symbol's first trade."""
EARLIEST: Final = 5
"""Column of a slot: the current session's earliest venue time."""
COLUMNS: Final = 6

_TIME_MIN: Final = np.iinfo(np.int64).min


@compiled
def _start(slot: NDArray[np.int64], sequence: int, timestamp: int) -> None:
    slot[TOP_START] = sequence
    slot[HIGHEST] = sequence
    slot[LATEST] = timestamp
    slot[BOUNDARY] = _TIME_MIN
    slot[SESSION] = 1
    slot[EARLIEST] = timestamp


@compiled
def _is_next(slot: NDArray[np.int64], sequence: int) -> bool:
    """Tell whether a number is one above the highest, without adding to what may be the last of 64 bits."""
    return bool(sequence > slot[HIGHEST] and sequence - 1 == slot[HIGHEST])


@compiled
def _is_repeat(slot: NDArray[np.int64], sequence: int, timestamp: int) -> bool:
    """Tell whether a number lies in the topmost range, on a trade that can't begin a session."""
    return bool(slot[TOP_START] <= sequence <= slot[HIGHEST] and timestamp <= slot[LATEST])


@compiled
def _judged(verdict: int, recent: Ring, slot: int, session: int, sequence: int, mixed: int) -> int:
    """Keep a trade that is stored; tell a conflict from a repeat of one."""
    if verdict == STORED:
        remember(recent, slot, session, sequence, mixed)
    elif recall(recent, slot, session, sequence, mixed):
        return CONFLICT
    return verdict


@compiled
def follow(
    position: int,
    rows: NDArray[np.int32],
    symbols: NDArray[np.int32],
    has_sequence: NDArray[np.bool_],
    sequences: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    prices: NDArray[np.uint64],
    quantities: NDArray[np.uint64],
    sides: NDArray[np.int8],
    slot_of: NDArray[np.int32],
    slots: NDArray[np.int64],
    recent: Ring,
    verdicts: NDArray[np.uint8],
    sessions: NDArray[np.int32],
    started: NDArray[np.int32],
) -> tuple[int, int]:
    """Track rows from `position` on, up to the first that needs the plain form.

    Args:
        position: where to begin in `rows`.
        rows: int32[m], into the columns.
        symbols: int32[n], numbers of this process; each has a slot in `slot_of`.
        has_sequence: bool[n]; a row without is passed over.
        sequences: int64[n].
        timestamps: int64[n], the venue's, microseconds.
        prices: uint64[n, 2].
        quantities: uint64[n, 2].
        sides: int8[n].
        slot_of: int32[symbols].
        slots: int64[slots, COLUMNS], changed in place.
        recent: of as many slots, changed in place.
        verdicts: uint8[m], written for the rows tracked; a row that is `SKIPPED` stays so, and is no content.
        sessions: int32[m], likewise.
        started: int32[m], written: the places in `rows` of symbols' first trades, ascending.

    Returns:
        The place in `rows` of the row that was left alone, or m; and how many `started` holds.
    """
    count = 0
    for place in range(position, len(rows)):
        row = rows[place]
        if not has_sequence[row]:
            continue
        is_off_book = verdicts[place] == SKIPPED
        number = slot_of[symbols[row]]
        slot = slots[number]
        sequence, timestamp = sequences[row], timestamps[row]
        if slot[SESSION] == 0:
            _start(slot, sequence, timestamp)
            started[count] = place
            count += 1
            verdicts[place] = STORED
        elif timestamp <= slot[BOUNDARY] or timestamp < slot[EARLIEST]:
            return place, count
        elif _is_next(slot, sequence):
            slot[HIGHEST] = sequence
            slot[LATEST] = max(slot[LATEST], timestamp)
            verdicts[place] = STORED
        elif _is_repeat(slot, sequence, timestamp):
            verdicts[place] = DUPLICATE
        else:
            return place, count
        session = sessions[place] = slot[SESSION]
        if is_off_book:
            verdicts[place] = SKIPPED
        else:
            mixed = content(prices[row], quantities[row], sides[row], timestamp)
            verdicts[place] = _judged(verdicts[place], recent, number, session, sequence, mixed)
    return len(rows), count
