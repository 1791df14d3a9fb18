"""The state of one symbol in both forms: its `SymbolSequence`, and what the compiled loop keeps of it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.sequencing.intervals import IntervalSet
from k2.sequencing.kernel_layout import (
    DOUBT_AT,
    DOUBT_ELSEWHERE,
    DOUBT_HERE,
    DOUBTED,
    FIRST_RANGE,
    LOWER_COUNT,
    NO_DOUBT,
    OLD_LATEST,
    OLD_LOWEST,
    RANGE_COUNT,
    RANGES_SEEDED,
    SESSION,
)
from k2.sequencing.sequence import SESSIONS_SEARCHED, SymbolSequence
from k2.sequencing.session import Doubt, Session

__all__ = ["update_sequence", "write_slot"]

_MIN: Final = int(np.iinfo(np.int64).min)
_MAX: Final = int(np.iinfo(np.int64).max)


def update_sequence(slot: NDArray[np.int64], ranges: NDArray[np.int64], sequence: SymbolSequence) -> None:
    """Apply to a `SymbolSequence` what the compiled loop has done since the last `write_slot`.

    int64[COLUMNS] `slot` and int64[RANGE_COLUMNS] `ranges` are those of its symbol. A new one gets its first session.
    """
    top_start, highest, latest, earliest = slot[:SESSION].tolist()
    count, kept = ranges[: LOWER_COUNT + 1].tolist()
    known = ranges[FIRST_RANGE : FIRST_RANGE + 2 * count].tolist()
    if not sequence.sessions:
        sequence.sessions.append(Session(IntervalSet(), earliest, latest))
    newest = sequence.sessions[-1]
    newest.numbers.replace_top(kept, [*known[::2], top_start], [*known[1::2], highest])
    newest.latest, newest.earliest = latest, earliest
    is_doubted, number, at = ranges[DOUBTED : DOUBT_AT + 1].tolist()
    if is_doubted != DOUBT_ELSEWHERE:
        sequence.doubt = Doubt(number, at) if is_doubted else None


def write_slot(
    slot: NDArray[np.int64], ranges: NDArray[np.int64], sequence: SymbolSequence, page: int, checked: int
) -> None:
    """Write what the loop keeps of a `SymbolSequence` that has a session.

    int64[COLUMNS] `slot` and int64[RANGE_COLUMNS] `ranges` are changed. `page` is the page of its highest number, and
    `checked` the number of the page whose contents of earlier sessions are in memory.
    """
    newest, session, doubt = sequence.sessions[-1], len(sequence.sessions), sequence.doubt
    old = [one for one in sequence.sessions[-SESSIONS_SEARCHED:-1] if one.numbers]
    old_highest = [one.numbers.highest for one in old]
    # In the order of the columns.
    slot[:] = (
        newest.numbers.top_start,
        newest.numbers.highest,
        newest.latest,
        newest.earliest,
        session,
        max(old_highest, default=_MIN) if sequence.is_certain else _MAX,
        page,
        checked if sequence.is_certain else _MIN,
    )
    known = newest.numbers.highest_ranges(RANGES_SEEDED)
    ranges[RANGE_COUNT], ranges[LOWER_COUNT] = len(known) // 2, newest.numbers.gap_count - len(known) // 2
    ranges[FIRST_RANGE : FIRST_RANGE + len(known)] = known
    ranges[OLD_LATEST] = max([one.latest for one in old], default=_MIN)
    ranges[OLD_LOWEST] = min(old_highest, default=_MAX)
    if doubt is None:
        ranges[DOUBTED] = NO_DOUBT
    elif session > 1 or sequence.announced:
        ranges[DOUBTED] = DOUBT_ELSEWHERE
    else:
        ranges[DOUBTED : DOUBT_AT + 1] = DOUBT_HERE, *doubt
