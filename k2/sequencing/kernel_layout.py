"""Layout of what the compiled loop of sequence tracking keeps of each symbol, and of what it finds."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.sequence_events import EventKind

__all__ = [
    "CHECKED",
    "COLUMNS",
    "CONTRADICTED",
    "DOUBTED",
    "DOUBT_AT",
    "DOUBT_ELSEWHERE",
    "DOUBT_HERE",
    "DOUBT_NUMBER",
    "EARLIEST",
    "EVENT_COLUMNS",
    "EVENT_KINDS",
    "FILLED",
    "FIRST_RANGE",
    "HIGHEST",
    "LATEST",
    "LOWER_COUNT",
    "NOT_TAKEN",
    "NO_DOUBT",
    "OLD_HIGHEST",
    "OLD_LATEST",
    "OLD_LOWEST",
    "OPENED",
    "RANGES_MAX",
    "RANGES_SEEDED",
    "RANGE_COLUMNS",
    "RANGE_COUNT",
    "SESSION",
    "SETTLED",
    "STARTED",
    "TOP_PAGE",
    "TOP_START",
    "no_ranges",
]

TOP_START: Final = 0
"""Column of a slot: start of the topmost range of numbers in the newest session."""
HIGHEST: Final = 1
"""Column of a slot: end of that range, inclusive."""
LATEST: Final = 2
"""Column of a slot: latest effective time of the newest session, microseconds."""
EARLIEST: Final = 3
"""Column of a slot: earliest effective time of the newest session, microseconds."""
SESSION: Final = 4
"""Column of a slot: the newest session; 0 before the symbol's first trade."""
OLD_HIGHEST: Final = 5
"""Column of a slot: highest number of the earlier sessions that are searched (`SESSIONS_SEARCHED`); the least int64 if
there are none, and the greatest int64 if the symbol has a doubt or an announced number, so that `SymbolSequence`
decides all rows but the one that settles a doubt."""
TOP_PAGE: Final = 6
"""Column of a slot: the fingerprint page of `HIGHEST`, or `NO_PAGE`."""
CHECKED: Final = 7
"""Column of a slot: number of the page whose fingerprints of earlier sessions are in memory; least int64 for none."""
COLUMNS: Final = 8
"""Eight int64 columns fill a CPU cache line of 64 bytes."""

STARTED, OPENED, FILLED, CONTRADICTED, SETTLED = range(5)
"""Kinds of events: a symbol's first trade, a gap that opened above the highest number, missing numbers that arrived, a
conflict, which the symbol's doubt is now, and the end of a doubt."""
EVENT_KINDS: Final = (EventKind.SESSION_STARTED, EventKind.GAP_OPENED, EventKind.GAP_FILLED)
"""Those of the ledger."""
EVENT_COLUMNS: Final = 5
"""An event is the index of its row in the slice, its kind, the first and last number, inclusive (of a conflict the
number and the effective time), and the change of the number of missing ranges."""

RANGE_COUNT: Final = 0
"""Column: number of ranges that are known below the topmost one."""
LOWER_COUNT: Final = 1
"""Column: number of ranges below these, which only the `SymbolSequence` has."""
OLD_LATEST: Final = 2
"""Column: latest effective time of the earlier sessions with numbers, microseconds; the least int64 if none has any."""
OLD_LOWEST: Final = 3
"""Column: the lowest of the highest numbers of these sessions; the greatest int64 if none has any."""
DOUBTED: Final = 4
"""Column: 0 if the symbol has no doubt, `DOUBT_HERE` if it is in the next two columns, else `DOUBT_ELSEWHERE`."""
DOUBT_NUMBER: Final = 5
DOUBT_AT: Final = 6
NO_DOUBT, DOUBT_HERE, DOUBT_ELSEWHERE = range(3)
"""The loop knows the doubt of a symbol with one session and no announced number."""
FIRST_RANGE: Final = 7
"""Column of the first range: start and end, inclusive; those of the next follow."""
RANGES_MAX: Final = 32
RANGES_SEEDED: Final = 8
"""Ranges that a row of the array begins with, so that there is room for those of gaps that open."""
RANGE_COLUMNS: Final = FIRST_RANGE + 2 * RANGES_MAX
NOT_TAKEN: Final = -2


def no_ranges(slots: int) -> NDArray[np.int64]:
    """Return int64[slots, RANGE_COLUMNS] without ranges."""
    return np.zeros((slots, RANGE_COLUMNS), dtype=np.int64)
