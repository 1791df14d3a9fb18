"""The newest trades of a symbol: what comes again with other content is told from a plain repeat."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trades.trade_slices import Row, slice_of
from trades.recent import PlainRecent, Recent
from trades.recent_kernel import RECENT, content
from trades.tracker import GroupTracker
from trades.verdicts import CONFLICT, DUPLICATE, STORED

TRADES = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(-(2**63), 2**63 - 1), st.integers(0, 3))


@given(st.lists(TRADES, max_size=40), st.lists(TRADES, max_size=10), st.integers(0, 600), st.booleans())
def test_equals_the_plain_form(
    trades: list[tuple[int, int, int, int]],
    asked: list[tuple[int, int, int, int]],
    more: int,
    restarts: bool,  # noqa: FBT001
) -> None:
    """What is kept, forgotten and told is the plain form's, also over a snapshot."""
    plain, recent = [PlainRecent() for _ in range(3)], Recent()
    for slot, session, number, mixed in [*((0, 1, n, 0) for n in range(more)), *trades]:
        plain[slot].add(session, number, mixed)
        recent.add(slot, session, number, mixed)
    if restarts:
        recent = Recent.restore(pickle.loads(pickle.dumps(recent.snapshot(3))))  # noqa: S301
    stored = [*((0, 1, n) for n in range(more)), *(trade[:3] for trade in trades)]
    for slot, session, number, mixed in [*trades, *asked, (0, 1, more - 1, 1), (0, 1, max(more - RECENT, 0), 1)]:
        # A number is stored once in a session; where these were drawn with it twice, no question arises.
        if stored.count((slot, session, number)) < 2:
            assert recent.differs(slot, session, number, mixed) == plain[slot].differs(session, number, mixed)


def test_a_snapshot_is_of_what_was_kept_alone() -> None:
    """Of symbols that had no trade, one, some, and more than are kept, each to its own when taken up."""
    counts = [0, 1, 3, RECENT + 5, 2]
    recent = Recent()
    for slot, count in enumerate(counts):
        for number in range(count):
            recent.add(slot, 2**31 - 1, number, 10 * slot + number)
    state = recent.snapshot(5)
    assert [len(state["counts"]), len(state["contents"])] == [2 * 5, 4 * (1 + 3 + RECENT + 2)]
    again = Recent.restore(state)
    assert again.snapshot(5) == state
    for slot, count in enumerate(counts):
        for number in range(max(count - RECENT, 0), count):
            assert not again.differs(slot, 2**31 - 1, number, 10 * slot + number)
            assert again.differs(slot, 2**31 - 1, number, 10 * slot + number + 1)


def test_there_is_room_for_as_many_symbols_as_asked_for() -> None:
    """What was kept stays, and a new symbol has nothing."""
    recent = Recent()
    recent.add(63, 1, 5, 7)
    recent.make_room(65)
    recent.add(64, 1, 6, 7)
    assert [recent.differs(slot, 1, number, 8) for slot in (63, 64) for number in (5, 6)] == [True, False, False, True]
    assert [column.dtype for column in recent.ring] == [np.int64, np.uint64, np.int64]
    assert [column.shape[1:] for column in recent.ring] == [(RECENT,), (RECENT,), ()]


@pytest.mark.parametrize("back", [0, 1, 200, 255])
def test_other_content_within_reach_is_a_conflict(back: int) -> None:
    """The same number with another price, next to the newest and far back; the same content is a repeat."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(number, number) for number in range(1, 1001)]))
    again = tracker.track(slice_of([Row(1000 - back, 1000 - back, price=2), Row(1000 - back, 1000 - back)]))
    assert again.piece.verdicts.tolist() == [CONFLICT, DUPLICATE]


def test_a_conflict_changes_nothing() -> None:
    """It is not stored: what comes after is judged by the trade that was."""
    tracker = GroupTracker()
    tracked = tracker.track(slice_of([Row(1, 1), Row(1, 1, price=2), Row(1, 1, price=2), Row(1, 1), Row(2, 2)]))
    assert tracked.piece.verdicts.tolist() == [STORED, CONFLICT, CONFLICT, DUPLICATE, STORED]
    assert len(tracked.events) == 1


def test_sessions_are_apart() -> None:
    """A number of a new session is not held against that of the old one; a straggler is held against its own."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(2, 2), Row(1, 5, price=7), Row(2, 6, price=7)]))
    again = tracker.track(slice_of([Row(2, 2), Row(2, 2, price=7), Row(2, 6, price=7), Row(2, 6)]))
    assert again.piece.verdicts.tolist() == [DUPLICATE, CONFLICT, DUPLICATE, CONFLICT]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 0, 1, 0, 0, 5), (2, 0, 1, 0, 0, 5)),
        ((1, 0, 1, 0, 0, 5), (1, 1, 1, 0, 0, 5)),
        ((1, 0, 1, 0, 0, 5), (1, 0, 2, 0, 0, 5)),
        ((1, 0, 2, 0, 0, 5), (2, 0, 1, 0, 0, 5)),
        ((1, 0, 1, 0, 0, 5), (1, 0, 1, 0, 1, 5)),
        ((1, 0, 1, 0, 0, 5), (1, 0, 1, 0, 0, 6)),
    ],
)
def test_every_part_is_content(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Price, quantity, which is which, side and venue time each count."""
    assert mixed(*one) == mixed(*one) != mixed(*other)


def mixed(low: int, high: int, quantity_low: int, quantity_high: int, side: int, timestamp: int) -> int:
    """Mix a trade's content."""
    words = np.array([[low, high], [quantity_low, quantity_high]], dtype=np.uint64)
    return content(words[0], words[1], side, timestamp)


def test_content_is_the_same_for_ever() -> None:
    """Snapshots bear it, so another process or version must mix alike."""
    assert [mixed(1, 0, 2, 0, 1, 1_700_000_000_000_000), mixed(2**64 - 1, 2**64 - 1, 0, 0, 2, -1)] == [
        2362504863,
        2296746294,
    ]
