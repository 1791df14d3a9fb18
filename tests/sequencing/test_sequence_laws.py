"""Laws of the specification: no order loses or invents a trade, the ledger balances, state survives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.sequence_events import EventKind
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.contents import PlainContents
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.placement import Event
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.session import CLOCK_TOLERANCE_US, Doubt, Session

Trades = list[tuple[int, int, int, bool]]
"""Number, time, content, and whether the trade has an id."""
SECOND = 1_000_000


def content(number: int, session: int = 1) -> int:
    """Return a content that is a function of the number and the session."""
    return 1_000 * session + number + 100


def seen(low: int, high: int, latest: int) -> SymbolSequence:
    """Return a symbol that had all numbers from `low` to `high`, at `latest`, with unknown contents."""
    return SymbolSequence(sessions=[Session(IntervalSet([low], [high]), latest, latest)])


def missing_by(events: list[Event]) -> set[tuple[int, int]]:
    """Return what is missing according to the ledger, as (session, number): opened once, filled at most once."""
    missing, opened = set[tuple[int, int]](), set[tuple[int, int]]()
    for kind, session, first, last in events:
        numbers = {(session, number) for number in range(first, last + 1)}
        if kind is EventKind.GAP_OPENED:
            assert not opened & numbers
            opened |= numbers
            missing |= numbers
        elif kind is EventKind.GAP_FILLED:
            assert missing >= numbers
            missing -= numbers
    return missing


@given(st.permutations(range(-4, 5)), st.lists(st.integers(-4, 4), max_size=6))
def test_no_order_loses_or_invents_a_trade(numbers: list[int], again: list[int]) -> None:
    """With equal times each number is stored once, in whatever order, and what was opened is filled."""
    sequence = SymbolSequence()
    placements = [sequence.place(number, 0, content(number)) for number in numbers]
    assert all(placement.verdict == STORED for placement in placements)
    assert all(sequence.place(number, at, content(number)).verdict == DUPLICATE for at, number in enumerate(again))
    assert [list(session.numbers.ranges()) for session in sequence.sessions] == [[(-4, 4)]]
    assert missing_by([event for placement in placements for event in placement.events]) == set()


@st.composite
def any_trades(draw: st.DrawFn) -> Trades:
    """Generate trades of few numbers, times on both sides of the clock tolerance, and few contents."""
    trade = st.tuples(st.integers(-5, 12), st.integers(0, 12), st.sampled_from([1, SECOND]), st.integers(1, 3))
    found = draw(st.lists(st.tuples(trade, st.booleans()), max_size=60))
    return [(number, at * unit, mark, named) for (number, at, unit, mark), named in found]


@given(any_trades(), st.integers(0, 300))
def test_a_number_is_stored_once_a_session_and_the_ledger_balances(trades: Trades, before: int) -> None:
    """In any disorder: one trade for each number and session, and the numbers between them are missing."""
    sequence, stored, events = SymbolSequence(), set[tuple[int, int]](), list[Event]()
    rows = [*((number, 0, 1, False) for number in range(1, before + 1)), *trades]
    for number, at, mark, named in rows:
        placement = sequence.place(number, at, mark, is_named=named)
        where = placement.session, number
        if placement.verdict == STORED:
            assert where not in stored
            stored.add(where)
        else:
            assert placement.events == ()
        events += placement.events
    expected = set[tuple[int, int]]()
    for session in {session for session, _ in stored}:
        mine = [number for of, number in stored if of == session]
        expected |= {(session, number) for number in range(min(mine), max(mine))} - stored
    assert missing_by(events) == expected
    assert sum(session.numbers.gap_count for session in sequence.sessions) == sequence.gap_count


@given(any_trades())
def test_a_duplicate_is_a_copy_of_what_is_stored(trades: Trades) -> None:
    """While all contents are known, only a trade stored with the same number and content is dropped."""
    sequence, stored = SymbolSequence(), set[tuple[int, int, int]]()
    for number, at, mark, named in trades:
        placement = sequence.place(number, at, mark, is_named=named)
        where = placement.session, number, mark
        if placement.verdict == STORED:
            stored.add(where)
        elif placement.verdict == DUPLICATE:
            assert where in stored


@given(any_trades(), st.integers(0, 60))
def test_a_restored_state_goes_on_alike(trades: Trades, cut: int) -> None:
    """Placing depends only on a snapshot and the contents."""
    whole = SymbolSequence()
    for number, at, mark, named in trades[:cut]:
        whole.place(number, at, mark, is_named=named)
    again = SymbolSequence.restore(whole.snapshot(), whole.contents)
    assert (again.doubt, again.missing()) == (whole.doubt, whole.missing())
    again.contents = PlainContents()
    assert isinstance(whole.contents, PlainContents)
    again.contents._contents = dict(whole.contents._contents)
    for number, at, mark, named in trades[cut:]:
        assert again.place(number, at, mark, is_named=named) == whole.place(number, at, mark, is_named=named)


@given(st.integers(2, 600), st.integers(0, 60), st.integers(-5 * SECOND, 5 * SECOND))
def test_at_most_two_messages_are_set_aside_for_a_restart(before: int, lost: int, shift: int) -> None:
    """Whatever the clock within 5 seconds and whatever was lost at the start of the new numbering."""
    sequence = SymbolSequence()
    for number in range(1, before + 1):
        sequence.place(number, 10 * SECOND + number, content(number))
    start = 10 * SECOND + before + shift
    placed = [sequence.place(number, start + number, content(number, 2)) for number in range(1 + lost, 900)]
    assert sum(one.verdict == CONFLICT for one in placed) <= 2
    assert all(one.verdict != DUPLICATE for one in placed)
    if lost + 1 < before:
        assert [one.session for one in placed[2:]] == [2] * (len(placed) - 2)


def test_what_is_absorbed_of_old_sessions_moves_their_times() -> None:
    """Stragglers are placed by the times of each session as if it had been seen live."""
    sequence = seen(1, 9, 100)
    for number, at, session in ((1, 110, 2), (1, 120, 3)):
        sequence.place(number, at, content(number, session))
    sequence.absorb(1, [(11, 11)], latest=105, earliest=104)
    sequence.absorb(2, [(4, 4)], latest=115, earliest=108)
    trades = ((10, 104, 1), (2, 109, 2), (3, 115, 2), (12, 107, 1), (2, 121, 3))
    found = [sequence.place(number, at, content(number, session)) for number, at, session in trades]
    assert [placement.session for placement in found] == [session for *_, session in trades]
    assert all(placement.verdict == STORED for placement in found)


def test_a_session_of_which_nothing_is_left_takes_no_straggler() -> None:
    """It has neither numbers nor times that could match one."""
    sequence = SymbolSequence()
    sequence.absorb(2, [(5, 9)], latest=200, earliest=150)
    trades = ((10, 120), (4, 110), (3, 0), (2, -(10**15)))
    assert [sequence.place(*trade, content(trade[0])).session for trade in trades] == [2, 2, 2, 2]


def test_absorbing_what_is_seen_changes_nothing() -> None:
    """Numbers and times within those seen add nothing."""
    sequence = seen(1, 9, 100)
    before = sequence.snapshot()
    sequence.absorb(1, [(2, 3), (9, 9)], latest=100, earliest=100)
    assert sequence.snapshot() == before


def test_a_gap_of_5_000_000_filled_from_both_ends_and_the_middle() -> None:
    """The ranges stay few while it fills, and none is left open."""
    sequence = seen(1, 1, 0)
    sequence.place(5_000_002, 0, content(5_000_002))
    low, high = range(2, 1_002), range(5_000_001, 4_999_001, -1)
    middle = range(2_500_000, 2_501_000)
    for numbers in (low, high, middle):
        assert all(sequence.place(number, 0, content(number)).verdict == STORED for number in numbers)
    assert sequence.gap_count == 2
    assert list(sequence.sessions[0].numbers.ranges()) == [(1, 1_001), (2_500_000, 2_500_999), (4_999_002, 5_000_002)]


@pytest.mark.parametrize(
    ("then", "doubt"),
    [
        ((11, 101), None),
        ((11, 100), None),
        ((11, 99), Doubt(5, 100)),
        ((10, 9), None),
        ((9, 500), Doubt(5, 100)),
    ],
)
def test_a_trade_stored_settles_the_doubt(then: tuple[int, int], doubt: Doubt | None) -> None:
    """It does so if it is not earlier, or if its session continues with it; a copy settles nothing."""
    sequence = SymbolSequence()
    for number in range(1, 10):
        sequence.place(number, number, content(number))
    assert sequence.place(5, 100, content(5, 2)).verdict == CONFLICT
    assert sequence.doubt == Doubt(5, 100)
    sequence.place(*then, content(then[0]))
    assert sequence.doubt == doubt


@pytest.mark.parametrize(
    ("number", "at", "is_confirmed"),
    [
        (500, 1_001, False),
        (500, 999, False),
        (501, 999, True),
        (499, 1_001, True),
        (502, 1_001, True),
        (502, 1_000, False),
        (498, 999, True),
        (498, 1_000, False),
        (564, 1_001, True),
        (565, 1_001, False),
        (436, 999, True),
        (435, 999, False),
    ],
)
def test_what_confirms_a_doubt(number: int, at: int, is_confirmed: bool) -> None:  # noqa: FBT001
    """A neighbour does at any time; a number at most 64 away if number and time have the same order."""
    assert Doubt(500, 1_000).is_confirmed_by(number, number, at) is is_confirmed


@pytest.mark.parametrize(("count", "is_later"), [(255, False), (256, True)])
def test_a_session_is_old_from_256_numbers_on(count: int, is_later: bool) -> None:  # noqa: FBT001
    """From then on a clock that is 5 seconds behind is not earlier than the newest."""
    session = Session(IntervalSet([1], [count]), 0, CLOCK_TOLERANCE_US)
    assert session.is_young is not is_later
    assert session.is_later(0) is is_later
    assert not session.is_later(-1)
    assert session.is_later(CLOCK_TOLERANCE_US + 1)
