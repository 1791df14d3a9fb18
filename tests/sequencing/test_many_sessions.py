"""A feed whose numbering begins again with each trade: what is decided, and what the number of sessions costs."""

import cProfile
import pickle
from collections.abc import Callable, Iterable

import pytest

from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.sequence import SESSIONS_SEARCHED
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import FORMS, Form, Plain
from tests.sequencing.stored_rows import StoredRows

SESSIONS = 200


def restarts(sessions: Iterable[int], *, with_gap: bool = False) -> list[Row]:
    """Return the first trades of some sessions, of which each has the same number and a later time."""
    numbers = (1_000, 1_002) if with_gap else (1_000,)
    return [Row(number, 10 * session + number - 1_000, price=session) for session in sessions for number in numbers]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_constant_number_begins_a_session_with_each_trade(form: Callable[[], Form]) -> None:
    """Each is stored, and a copy of one of the last 64 sessions is dropped; an older one looks like a new session."""
    tracker = form()
    tracked = tracker.track(restarts(range(1, SESSIONS + 1)))
    assert (tracked.verdicts, tracked.sessions) == ([STORED] * SESSIONS, [*range(1, SESSIONS + 1)])
    oldest = SESSIONS - SESSIONS_SEARCHED + 1
    later = 10 * SESSIONS + 5
    for session, verdict, found in ((SESSIONS, DUPLICATE, SESSIONS), (oldest, DUPLICATE, oldest)):
        tracked = tracker.track([Row(1_000, later, price=session)])
        assert (tracked.verdicts, tracked.sessions) == ([verdict], [found])
    tracked = tracker.track([Row(1_000, later, price=oldest - 1)])
    assert (tracked.verdicts, tracked.sessions) == ([STORED], [SESSIONS + 1])


def python_calls(tracker: GroupTracker, rows: list[Row], first_offset: int) -> int:
    """Track rows; return the number of function calls, without those inside compiled loops."""
    with cProfile.Profile() as profile:
        tracker.track(slice_of(rows, first_offset=first_offset))
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("with_gap", [False, True])
def test_the_work_of_a_row_does_not_grow_with_the_sessions(with_gap: bool) -> None:  # noqa: FBT001
    """It grows up to 64 of them, with which a row is compared."""
    tracker = GroupTracker()
    rows = restarts(range(1, 801), with_gap=with_gap)
    quarter = len(rows) // 4
    counts = [python_calls(tracker, rows[start : start + quarter], start) for start in range(0, len(rows), quarter)]
    assert counts[3] < 1.1 * counts[1]


OLD = [Row(1, 10), Row(2, 10), Row(3, 10), Row(2, 20, price=2), Row(3, 21, price=2)]
"""Two sessions."""
EARLY = {
    "stored in the second session, where it is missing": (
        [*OLD, *(Row(2, 100 + session, price=10 + session) for session in range(SESSIONS_SEARCHED))],
        Row(1, 10, price=2),
        (STORED, 2),
    ),
    "contradicts the first session": (
        [Row(1, 10 * session, price=session) for session in range(1, SESSIONS_SEARCHED + 2)],
        Row(1, 10, price=999),
        (CONFLICT, 1),
    ),
    "a copy of the first session": (
        [Row(1, 10 * session, price=session) for session in range(1, SESSIONS_SEARCHED + 2)],
        Row(1, 10, price=1),
        (DUPLICATE, 1),
    ),
}


@pytest.mark.parametrize(("rows", "early", "expected"), EARLY.values(), ids=EARLY)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_early_trade_is_compared_with_a_session_of_any_age(
    rows: list[Row],
    early: Row,
    expected: tuple[int, int],
    is_restarted: bool,  # noqa: FBT001
) -> None:
    """Its content is read from the table after a restart, even if 64 sessions have begun since."""
    plain, table = Plain(), StoredRows()
    plain.track(rows)
    tracker = GroupTracker(read_contents=table.read)
    table.add(tracker.track(slice_of(rows)).trade_slice)
    if is_restarted:
        tracker = GroupTracker(pickle.loads(pickle.dumps(tracker.snapshot())), read_contents=table.read)  # noqa: S301
    placed = tracker.track(slice_of([early], first_offset=len(rows))).trade_slice
    by_plain = plain.track([early])
    assert (placed.verdicts.tolist(), placed.sessions.tolist()) == ([expected[0]], [expected[1]])
    assert (by_plain.verdicts, by_plain.sessions) == ([expected[0]], [expected[1]])
