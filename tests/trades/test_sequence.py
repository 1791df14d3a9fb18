"""The rules of numbering, one trade at a time: laws, and a table of the hard cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trades.events import EventKind
from trades.intervals import IntervalSet
from trades.sequence import Event, Kind, SymbolSequence
from trades.verdicts import DUPLICATE, STORED

MIN, MAX = -(2**63), 2**63 - 1
STARTED, OPENED, FILLED = EventKind.SESSION_STARTED, EventKind.GAP_OPENED, EventKind.GAP_FILLED
FIRST, NEXT, GAP, LATE = Kind.FIRST, Kind.NEXT, Kind.GAP, Kind.LATE
EARLIER, REPEAT, NEW_SESSION = Kind.EARLIER, Kind.DUPLICATE, Kind.NEW_SESSION
DAY = 86_400_000_000


def seen(low: int, high: int, latest: int) -> SymbolSequence:
    """Give a symbol that had all numbers from `low` to `high`, the last at `latest`."""
    return SymbolSequence([IntervalSet([low], [high])], latest=latest, earliest=[latest])


def restarted() -> SymbolSequence:
    """Give a symbol that had 1 to 1,000,000 until time 100, then 1 to 20 until time 120."""
    sequence = seen(1, 1_000_000, 100)
    for number in range(1, 21):
        sequence.place(number, 100 + number)
    return sequence


# Each: what the symbol had before, then trades as number, time, kind, session, events.
CASES = {
    "the first trade begins session 1": (SymbolSequence(), [(7, 5, FIRST, 1, [(STARTED, 1, 7, 7)])]),
    "in order": (seen(1, 9, 5), [(10, 6, NEXT, 1, []), (11, 6, NEXT, 1, [])]),
    "a gap of 1": (seen(1, 9, 5), [(11, 6, GAP, 1, [(OPENED, 1, 10, 10)])]),
    "a gap of 10": (seen(1, 9, 5), [(20, 6, GAP, 1, [(OPENED, 1, 10, 19)])]),
    "a gap of 11": (seen(1, 9, 5), [(21, 6, GAP, 1, [(OPENED, 1, 10, 20)])]),
    "a clock jump alone opens nothing": (seen(1, 9, 5), [(10, 3 * DAY, NEXT, 1, [])]),
    "a late fill splits and closes the gap": (
        seen(1, 9, 5),
        [
            (13, 6, GAP, 1, [(OPENED, 1, 10, 12)]),
            (11, 5, LATE, 1, [(FILLED, 1, 11, 11)]),
            (10, 9, LATE, 1, [(FILLED, 1, 10, 10)]),
            (12, 5, LATE, 1, [(FILLED, 1, 12, 12)]),
            (12, 5, REPEAT, 1, []),
        ],
    ),
    "a restart at 1 without a pause": (
        seen(1, 1_000_000, 100),
        [(1, 101, NEW_SESSION, 2, [(STARTED, 2, 1, 1)]), (2, 101, NEXT, 2, [])],
    ),
    "a restart whose first 40 numbers were lost": (
        seen(1, 1_000_000, 100),
        [
            (41, 101, NEW_SESSION, 2, [(STARTED, 2, 41, 41)]),
            (42, 102, NEXT, 2, []),
            (38, 101, EARLIER, 2, [(OPENED, 2, 39, 40)]),
        ],
    ),
    "a restart below the first number seen": (
        seen(500, 600, 100),
        [(3, 101, NEW_SESSION, 2, [(STARTED, 2, 3, 3)])],
    ),
    "a restart just below the first number seen": (
        seen(500, 600, 100),
        [(499, 101, NEW_SESSION, 2, [(STARTED, 2, 499, 499)])],
    ),
    "a restart into an open gap can't be told from a late fill": (
        SymbolSequence([IntervalSet([1, 50], [9, 60])], latest=100, earliest=[100]),
        [(20, 101, LATE, 1, [(FILLED, 1, 20, 20)])],
    ),
    "no restart at the very time of the latest": (seen(1, 9, 5), [(1, 5, REPEAT, 1, [])]),
    "a restart after 20 trades": (restarted(), [(1, 121, NEW_SESSION, 3, [(STARTED, 3, 1, 1)])]),
    "a duplicate from before the restart": (
        restarted(),
        [(15, 100, REPEAT, 1, []), (999_999, 7, REPEAT, 1, [])],
    ),
    "a straggler continues the old session": (
        restarted(),
        [(1_000_001, 100, LATE, 1, []), (21, 121, NEXT, 2, [])],
    ),
    "a straggler opens a gap in the old session": (
        restarted(),
        [
            (1_000_003, 100, LATE, 1, [(OPENED, 1, 1_000_001, 1_000_002)]),
            (1_000_001, 99, LATE, 1, [(FILLED, 1, 1_000_001, 1_000_001)]),
        ],
    ),
    "a straggler below the old session's first": (
        restarted(),
        [(0, 100, LATE, 1, []), (-2, 3, LATE, 1, [(OPENED, 1, -1, -1)])],
    ),
    "a straggler later than all of the old session that was seen": (
        seen(1, 999_999, 100),
        [
            (1, 110, NEW_SESSION, 2, [(STARTED, 2, 1, 1)]),
            (2, 111, NEXT, 2, []),
            (1_000_002, 106, LATE, 1, [(OPENED, 1, 1_000_000, 1_000_001)]),
            (1_000_000, 104, LATE, 1, [(FILLED, 1, 1_000_000, 1_000_000)]),
            (1_000_002, 106, REPEAT, 1, []),
            (1_000_001, 105, LATE, 1, [(FILLED, 1, 1_000_001, 1_000_001)]),
            (1_000_003, 109, LATE, 1, []),
            (1_000_004, 110, GAP, 2, [(OPENED, 2, 3, 1_000_003)]),
        ],
    ),
    "a straggler of a short session that the next one has outgrown": (
        seen(1, 3, 100),
        [
            (1, 110, NEW_SESSION, 2, [(STARTED, 2, 1, 1)]),
            *[(number, 109 + number, NEXT, 2, []) for number in range(2, 7)],
            (4, 105, LATE, 1, []),
            (4, 105, REPEAT, 1, []),
            (4, 113, REPEAT, 2, []),
        ],
    ),
    "a straggler two sessions back": (
        seen(1, 9, 100),
        [
            (1, 110, NEW_SESSION, 2, [(STARTED, 2, 1, 1)]),
            (2, 111, NEXT, 2, []),
            (1, 120, NEW_SESSION, 3, [(STARTED, 3, 1, 1)]),
            (10, 105, LATE, 1, []),
            (3, 115, LATE, 2, []),
            (2, 121, NEXT, 3, []),
        ],
    ),
    "what a restart had lost at its begin stays its own": (
        seen(1, 100, 100),
        [
            (41, 110, NEW_SESSION, 2, [(STARTED, 2, 41, 41)]),
            (39, 105, EARLIER, 2, [(OPENED, 2, 40, 40)]),
            (40, 106, LATE, 2, [(FILLED, 2, 40, 40)]),
            (42, 104, NEXT, 2, []),
            (101, 107, GAP, 2, [(OPENED, 2, 43, 100)]),
        ],
    ),
    "the old session's highest under a later time is no repeat of it": (
        seen(1, 9, 100),
        [(1, 110, NEW_SESSION, 2, [(STARTED, 2, 1, 1)]), (9, 105, GAP, 2, [(OPENED, 2, 2, 8)])],
    ),
    "an old session begins no other": (restarted(), [(1, 100, REPEAT, 1, []), (1, 120, REPEAT, 2, [])]),
    "an exact duplicate three days later": (
        seen(1, 9, 3 * DAY),
        [(9, 3 * DAY, REPEAT, 1, []), (10, 6 * DAY, NEXT, 1, []), (9, 3 * DAY, REPEAT, 1, [])],
    ),
    "a descending batch leaves no gap open": (
        seen(1, 1, 5),
        [
            (4, 9, GAP, 1, [(OPENED, 1, 2, 3)]),
            (3, 8, LATE, 1, [(FILLED, 1, 3, 3)]),
            (2, 7, LATE, 1, [(FILLED, 1, 2, 2)]),
        ],
    ),
    "a descending batch at the start": (
        SymbolSequence(),
        [(3, 9, FIRST, 1, [(STARTED, 1, 3, 3)]), (2, 8, EARLIER, 1, []), (1, 9, EARLIER, 1, [])],
    ),
    "negative numbers": (
        seen(-9, -3, 5),
        [(-2, 6, NEXT, 1, []), (1, 6, GAP, 1, [(OPENED, 1, -1, 0)]), (-9, 6, REPEAT, 1, [])],
    ),
    "the last number of 64 bits": (
        seen(1, MAX - 1, 5),
        [(MAX, 6, NEXT, 1, []), (MAX, 6, REPEAT, 1, []), (MIN, 7, NEW_SESSION, 2, [(STARTED, 2, MIN, MIN)])],
    ),
    "a gap whose size is more than 64 bits hold is told in two": (
        seen(MIN, MIN, MIN),
        [
            (MAX, MAX, GAP, 1, [(OPENED, 1, MIN + 1, -1), (OPENED, 1, 0, MAX - 1)]),
            (0, MIN, LATE, 1, [(FILLED, 1, 0, 0)]),
            (MIN + 1, 0, LATE, 1, [(FILLED, 1, MIN + 1, MIN + 1)]),
        ],
    ),
    "the largest gap that is told in one": (seen(-1, -1, 5), [(MAX, 6, GAP, 1, [(OPENED, 1, 0, MAX - 1)])]),
    "the smallest gap that is told in two": (
        seen(-2, -2, 5),
        [(MAX, 6, GAP, 1, [(OPENED, 1, -1, -1), (OPENED, 1, 0, MAX - 1)])],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hard_cases(case: tuple[SymbolSequence, list[tuple[int, int, Kind, int, list[object]]]]) -> None:
    """Each trade gets the verdict, session, kind and events that the rules name."""
    before, trades = case
    sequence = SymbolSequence.restore(before.snapshot())
    for number, timestamp, kind, session, events in trades:
        placement = sequence.place(number, timestamp)
        assert (placement.kind, placement.session, list(placement.events)) == (kind, session, events)
        assert placement.verdict == (DUPLICATE if kind is REPEAT else STORED)
        assert placement.out_of_order == (kind in {LATE, EARLIER})


def test_what_is_absorbed_of_old_sessions_moves_their_times() -> None:
    """Of each session its own: stragglers are placed as if they had been seen."""
    sequence = seen(1, 9, 100)
    for number, timestamp in ((1, 110), (1, 120)):
        sequence.place(number, timestamp)
    sequence.absorb(1, [(11, 11)], latest=105, earliest=104)
    sequence.absorb(2, [(4, 4)], latest=115, earliest=108)
    found = [sequence.place(*trade) for trade in ((10, 104), (2, 109), (3, 115), (12, 107), (13, 109), (2, 116))]
    assert [placement.session for placement in found] == [1, 2, 2, 1, 2, 3]
    assert all(placement.verdict == STORED for placement in found)


def test_a_session_of_which_nothing_is_left_takes_no_straggler() -> None:
    """It has neither numbers nor times by which one could be its own."""
    sequence = SymbolSequence()
    sequence.absorb(2, [(5, 9)], latest=200, earliest=150)
    assert [sequence.place(*trade).session for trade in ((10, 120), (4, 110), (3, 0), (2, -(10**15)))] == [2, 2, 2, 2]


def test_the_lowest_number_left_of_a_session_is_no_straggler() -> None:
    """It is a duplicate, though what is left of the session before ends below it; one above it can be no other."""
    sequence = SymbolSequence()
    sequence.absorb(1, [(1, 5)], latest=100, earliest=90)
    sequence.absorb(2, [(8, 9)], latest=120, earliest=110)
    placed = [sequence.place(number, 105) for number in (8, 9)]
    assert [(placement.session, placement.verdict) for placement in placed] == [(2, DUPLICATE), (1, STORED)]


def test_a_gap_of_5_000_000_filled_from_both_ends_and_the_middle() -> None:
    """The ranges stay few while it fills, and none is left open."""
    sequence = seen(1, 1, 0)
    sequence.place(5_000_002, 0)
    low, high = range(2, 1_002), range(5_000_001, 4_999_001, -1)
    middle = range(2_500_000, 2_501_000)
    for numbers in (low, high, middle):
        assert all(sequence.place(number, 0).verdict == STORED for number in numbers)
    assert sequence.gap_count == 2
    assert list(sequence.numbers.ranges()) == [(1, 1_001), (2_500_000, 2_500_999), (4_999_002, 5_000_002)]


@given(st.permutations(range(-4, 5)), st.lists(st.integers(-4, 4), max_size=6))
def test_no_input_order_loses_or_invents_a_trade(numbers: list[int], again: list[int]) -> None:
    """Under one time, each number is stored once, in whatever order, and what was opened is filled."""
    sequence = SymbolSequence()
    placements = [sequence.place(number, 0) for number in numbers]
    assert all(placement.verdict == STORED for placement in placements)
    assert all(sequence.place(number, 0).verdict == DUPLICATE for number in again)
    assert (sequence.session, list(sequence.numbers.ranges())) == (1, [(-4, 4)])
    missing = ledger_of([event for placement in placements for event in placement.events])
    assert missing == set()


def ledger_of(events: list[Event]) -> set[tuple[int, int]]:
    """Give what is missing by the ledger, as (session, number): each opened once, filled once."""
    missing = set[tuple[int, int]]()
    for kind, session, first, last in events:
        numbers = {(session, number) for number in range(first, last + 1)}
        if kind is OPENED:
            assert not missing & numbers
            missing |= numbers
        elif kind is FILLED:
            assert missing >= numbers
            missing -= numbers
    return missing


@given(st.lists(st.tuples(st.integers(-5, 12), st.integers(0, 12)), max_size=60))
def test_a_number_is_stored_once_a_session_and_the_ledger_balances(trades: list[tuple[int, int]]) -> None:
    """Under any disorder: one row a number and session, and missing is what lies between them."""
    sequence, stored, events = SymbolSequence(), set[tuple[int, int]](), list[Event]()
    for number, timestamp in trades:
        placement = sequence.place(number, timestamp)
        assert ((placement.session, number) not in stored) == (placement.verdict == STORED)
        stored.add((placement.session, number))
        events += placement.events
    expected = set[tuple[int, int]]()
    for session in {session for session, _ in stored}:
        mine = [number for of, number in stored if of == session]
        expected |= {(session, number) for number in range(min(mine), max(mine))} - stored
    assert ledger_of(events) == expected
