"""The columnar tracker against the specification, however a stream is cut and wherever the process restarts."""

import pickle
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import SessionKey, StoredSession
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.content_lookup import PAGES_AHEAD_MIN, WINDOW_US_MIN
from k2.sequencing.fingerprints import PAGE_NUMBERS
from k2.sequencing.kernel_layout import RANGES_MAX, RANGES_SEEDED
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracked import Tracked
from k2.sequencing.tracker import GroupTracker
from k2.sequencing.tracker_kernel import follow
from k2.venues import VENUES, SequenceMode
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import Plain
from tests.sequencing.stored_rows import StoredRows
from tests.sequencing.streams import markets, streams

MIN, MAX = -(2**63), 2**63 - 1
Outcome = tuple[list[int], list[int], list[SequenceEvent], int]
Doubts = dict[tuple[str, str], tuple[int, int]]


def outcome_of(tracked: Tracked) -> Outcome:
    """Return verdicts, sessions, events and the count of disorder as plain values."""
    piece = tracked.trade_slice
    return piece.verdicts.tolist(), piece.sessions.tolist(), tracked.events, tracked.out_of_order.total()


def by_the_plain_form(rows: list[Row]) -> tuple[Outcome, Doubts]:
    """Track row by row with the specification; also return the trades in doubt at the end."""
    plain = Plain()
    said = plain.track(rows)
    doubts = {
        name: (one.doubt.sequence, one.doubt.at) for name, one in plain._sequences.items() if one.doubt is not None
    }
    return (said.verdicts, said.sessions, plain.events, said.out_of_order), doubts


def by_the_tracker(rows: list[Row], cuts: list[int], *, restarts: bool) -> tuple[Outcome, Doubts]:
    """Track slices cut at the given indexes; on request, restart from a snapshot and the table at each cut."""
    table, doubts = StoredRows(), Doubts()
    tracker = GroupTracker(read_contents=table.read)
    verdicts, sessions, events, out_of_order = list[int](), list[int](), list[SequenceEvent](), 0
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        tracked = tracker.track(slice_of(rows[start:end], first_offset=start))
        outcome = outcome_of(tracked)
        verdicts += outcome[0]
        sessions += outcome[1]
        events += outcome[2]
        out_of_order += outcome[3]
        for one in tracked.trade_slice.doubts:
            doubts.pop((one.exchange, one.symbol), None)
            if one.sequence is not None:
                doubts[one.exchange, one.symbol] = one.sequence, one.at
        table.add(tracked.trade_slice)
        if restarts:
            state = pickle.loads(pickle.dumps(tracker.snapshot()))  # noqa: S301
            tracker = GroupTracker(state, read_contents=table.read)
    if not restarts:
        assert table.lookups == []
    return (verdicts, sessions, events, out_of_order), doubts


@given(streams(), st.lists(st.integers(0, 900), max_size=4), st.booleans())
def test_equals_the_plain_form(rows: list[Row], cuts: list[int], restarts: bool) -> None:  # noqa: FBT001
    """Verdicts, sessions, events, disorder and doubts are those of the plain form, however cut, and over restarts."""
    assert by_the_tracker(rows, cuts, restarts=restarts) == by_the_plain_form(rows)


STREAMS = {
    "at the old session's latest time": [(1, 1, 1), (2, 5, 1), (1, 6, 2), (2, 5, 1), (2, 6, 2)],
    "the old session goes on": [(1, 1, 1), (2, 5, 1), (1, 6, 2), (3, 5, 1), (2, 5, 1), (2, 7, 2)],
    "a next number of an earlier time": [(1, 1, 1), (2, 9, 1), (3, 5, 1), (2, 7, 1), (2, 10, 2), (3, 11, 2)],
    "past the last of 64 bits": [(MAX - 1, 1, 1), (MAX, 2, 1), (MIN, 2, 2), (MIN, 3, 2), (MIN + 1, 4, 2)],
    "on after a gap": [(1, 1, 1), (4, 2, 1), (5, 3, 1), (6, 4, 1), (5, 4, 1), (2, 4, 1), (8, 5, 1), (3, 5, 1)],
    "later after a gap": [(1, 1, 1), (4, 2, 1), (5, 3, 1), (6, 9, 1), (4, 8, 2), (3, 9, 1), (5, 10, 2)],
    "at the least time": [(5, MIN, 1), (6, MIN, 1), (5, MIN, 2), (5, MIN + 1, 2), (6, MIN, 1)],
    "a correction, then live": [(1, 1, 1), (2, 2, 1), (2, 3, 2), (3, 4, 1), (2, 5, 2), (4, 6, 1)],
    "two corrections in succession": [(1, 1, 1), (2, 2, 1), (3, 3, 1), (2, 4, 2), (3, 5, 2), (4, 6, 2)],
    "a copy of the old session under the next number": [(1, 1, 1), (2, 2, 1), (1, 3, 2), (2, 9, 1), (2, 4, 2)],
    "a copy of a session longer than the first": [(1, 1, 1), (1, 2, 2), (2, 3, 2), (1, 4, 3), (2, 5, 2), (2, 6, 3)],
    "a copy of what a restart set aside": [(1, 1, 1), (2, 2, 1), (3, 3, 1), (2, 4, 2), (2, 4, 2), (3, 5, 2), (2, 4, 2)],
}


@pytest.mark.parametrize("trades", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("restarts", [False, True])
def test_streams_that_leave_the_loop(trades: list[tuple[int, int, int]], restarts: bool) -> None:  # noqa: FBT001
    """In one slice, row by row and over restarts, the results are those of the plain form."""
    rows = [Row(sequence, at, price=price) for sequence, at, price in trades]
    expected = by_the_plain_form(rows)
    assert by_the_tracker(rows, [], restarts=restarts) == expected
    assert by_the_tracker(rows, list(range(len(rows))), restarts=restarts) == expected


@pytest.mark.parametrize(
    "copies",
    [
        [Row(6, 7)],
        [Row(7, 7, price=2), Row(5, 8)],
        [Row(4, 7)],
        [Row(4, 7, trade_id="own")],
    ],
    ids=["with a gap", "into a gap", "under the next number", "under the next number, named"],
)
def test_a_copy_from_before_a_start_is_a_copy_after_numbering_began_again(copies: list[Row]) -> None:
    """The new session begins in the page of the old one, of which only some contents were read since the start."""
    stored = [Row(1, 1), Row(4, 2, trade_id=copies[0].trade_id), Row(5, 2), Row(6, 2), Row(7, 2)]
    rows = [*stored, Row(2, 3), Row(3, 4), Row(2, 5, price=2), Row(3, 6, price=2), *copies]
    outcome = by_the_tracker(rows, [len(stored)], restarts=True)
    assert outcome == by_the_plain_form(rows)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_named_copy_of_an_old_session_is_a_copy(restarts: bool) -> None:  # noqa: FBT001
    """Also under the next number of the new session: its id distinguishes it from that session's own trade."""
    names = ["a", "b", "c", "b", "d"]
    rows = [Row(number, 1 + place, trade_id=names[place]) for place, number in enumerate((1, 2, 1, 2, 2))]
    outcome, doubts = by_the_tracker(rows, [3], restarts=restarts)
    assert outcome[:2] == ([STORED, STORED, STORED, DUPLICATE, STORED], [1, 1, 2, 1, 2])
    assert (outcome, doubts) == by_the_plain_form(rows)


@pytest.mark.parametrize(
    ("before", "new", "left"),
    [
        ([Row(1, 1), Row(3, 3)], range(4, 1_001), []),
        ([Row(1, 1), Row(2, 2), Row(1, 3, price=2)], range(2, 1_001), []),
        (
            [*(Row(number, number) for number in range(1, 1_001)), Row(1, 2_000, price=2)],
            range(2, 1_001),
            [256, 512, 768],
        ),
    ],
    ids=["after a gap", "beyond an old session", "under an old session's numbers"],
)
def test_few_numbers_leave_the_loop(
    before: list[Row], new: range, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a session repeats an old one's numbers the first of each page does; then the page's contents are known."""
    positions = list[int]()

    def noted(position: int, *arguments: Any) -> tuple[int, int]:
        positions.append(position)
        return follow(position, *arguments)

    tracker = GroupTracker()
    tracker.track(slice_of(before))
    monkeypatch.setattr("k2.sequencing.tracker.follow", noted)
    piece = tracker.track(slice_of([Row(number, 2_000 + number, price=2) for number in new])).trade_slice
    assert {*piece.verdicts.tolist()} == {STORED}
    assert positions == [0, *(1 + number - new[0] for number in left)]


def resumed(rows: list[Row]) -> tuple[GroupTracker, StoredRows]:
    """Return a tracker restarted after some rows, and the table that contains them."""
    table, before = StoredRows(), GroupTracker()
    table.add(before.track(slice_of(rows)).trade_slice)
    return GroupTracker(before.snapshot(), read_contents=table.read), table


def test_a_resumed_tracker_looks_nothing_up_on_the_clean_path() -> None:
    """Numbers that continue need no content, neither the first ones nor those after a gap."""
    names = [f"S{place}" for place in range(50)]
    tracker, table = resumed([Row(number, number, name) for name in names for number in range(1, 301)])
    more = [Row(number, number, name) for number in range(301, 900) for name in names]
    gaps = [Row(number, number, name) for number in (950, 951) for name in names]
    assert {*tracker.track(slice_of([*more, *gaps])).trade_slice.verdicts.tolist()} == {STORED}
    assert table.lookups == []


def test_one_lookup_serves_all_symbols_of_a_slice() -> None:
    """A slice of many symbols' copies is judged after one read, and the next slices read nothing more."""
    names = [f"S{place}" for place in range(50)]
    rows = [Row(number, number, name) for name in names for number in range(1, 301)]
    tracker, table = resumed(rows)
    for place in (0, 5_000):
        copies = [row._replace(timestamp=row.timestamp + place) for row in rows]
        assert {*tracker.track(slice_of(copies)).trade_slice.verdicts.tolist()} == {DUPLICATE}
    assert len(table.lookups) == 1
    assert {one.key.symbol for one in table.lookups[0]} == {*names}


def test_a_lookup_asks_for_nothing_that_was_judged() -> None:
    """Rows before the first that needs a content ask for none."""
    tracker, table = resumed([Row(number, number) for number in range(1, 10_001)])
    piece = tracker.track(slice_of([Row(10_001, 10_001), Row(5, 10_002), Row(1_000, 10_003)])).trade_slice
    assert piece.verdicts.tolist() == [STORED, DUPLICATE, DUPLICATE]
    assert [(one.first, one.last // PAGE_NUMBERS) for one in table.lookups[0]] == [(0, 3 + PAGES_AHEAD_MIN)]


def test_a_session_under_the_numbers_of_an_old_one_is_looked_up_in_few_reads() -> None:
    """It must not take a copy of the old session for its next number: twice as many pages are read each time."""
    rows = [Row(number, number) for number in range(1, 50_001)]
    tracker, table = resumed([*rows, *(Row(number, 60_000 + number, price=2) for number in range(1, 11))])
    new = [Row(number, 60_000 + number, price=2) for number in range(11, 49_000)]
    verdicts = [
        verdict
        for start in range(0, len(new), 1_000)
        for verdict in tracker.track(slice_of(new[start : start + 1_000])).trade_slice.verdicts.tolist()
    ]
    assert {*verdicts} == {STORED}
    assert 1 <= len(table.lookups) <= 6


@pytest.mark.parametrize(("price", "verdict"), [(1, DUPLICATE), (2, CONFLICT)])
@pytest.mark.parametrize("back", [0, 1, 200, 255, 256, 700, 999])
def test_content_from_before_the_process_is_known(back: int, price: int, verdict: int) -> None:
    """A number sent again with a newer time is a copy or a correction according to the table."""
    tracker, table = resumed([Row(number, number) for number in range(1, 1_002)])
    number = 1_001 - back
    assert tracker.track(slice_of([Row(number, 1_001, price=price)])).trade_slice.verdicts.tolist() == [verdict]
    assert len(table.lookups) == 1


def test_contents_are_let_go_after_two_windows_but_for_the_newest() -> None:
    """A contradiction of content that has expired counts as a copy; one of a symbol's newest numbers does not."""
    tracker, names = GroupTracker(), [f"S{place}" for place in range(40)]
    for number in (1, 10_001):
        tracker.track(slice_of([Row(number, number, name, kafka_timestamp=number) for name in names]))
    for windows in range(1, 7):
        time = windows * WINDOW_US_MIN
        tracker.track(slice_of([Row(1, time, f"N{windows}{place}", kafka_timestamp=time) for place in range(9)]))
    assert tracker.fingerprints.page_count == len(names) + 6 * 9
    for number, verdict in ((1, DUPLICATE), (10_001, CONFLICT)):
        changed = slice_of([Row(number, number, name, price=2) for name in names])
        assert {*tracker.track(changed).trade_slice.verdicts.tolist()} == {verdict}


@given(markets())
def test_open_gaps_are_those_of_the_ledger(rows: list[Row]) -> None:
    """An exchange's open gaps are the runs of numbers opened and not filled."""
    tracker = GroupTracker()
    tracked = tracker.track(slice_of(rows))
    missing = set[tuple[str, str, int, int]]()
    for event in tracked.events:
        numbers = range(event.first_sequence, event.last_sequence + 1)
        of = {(event.exchange, event.symbol, event.session, number) for number in numbers}
        if event.event is EventKind.GAP_OPENED:
            missing |= of
        elif event.event is EventKind.GAP_FILLED:
            missing -= of
    gaps = dict.fromkeys((row.exchange for row in rows), (0, 0))
    for exchange, symbol, session, number in missing:
        ranges, numbers = gaps[exchange]
        gaps[exchange] = ranges + ((exchange, symbol, session, number - 1) not in missing), numbers + 1
    assert tracker.open_gaps() == gaps


@pytest.mark.parametrize(
    ("numbers", "left_max"),
    [
        (range(2, 2_000, 2), 1_000 // (RANGES_MAX - RANGES_SEEDED) + 1),
        ([number + swap for number in range(1, 2_000, 2) for swap in (1, 0)], 1),
        ([number for pair in zip(range(2, 1_000), range(5_000, 6_000), strict=False) for number in pair], 1),
        ([number + jump for number in range(1, 2_000, 10) for jump in (0, 9, 4, 3, 5, 7, 1, 8, 2, 6)], 1),
    ],
    ids=["gaps", "swapped", "two ranges", "any order within ten"],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_gaps_and_late_trades_leave_the_loop_rarely(
    numbers: Iterable[int],
    left_max: int,
    restarted: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop opens gaps and fills them, in the first session and in a later one."""
    positions = list[int]()

    def noted(position: int, *arguments: Any) -> tuple[int, int]:
        positions.append(position)
        return follow(position, *arguments)

    before = [Row(1, 1)] if not restarted else [*(Row(number, 1) for number in range(1, 10)), Row(1, 2, price=2)]
    rows = [Row(number, 10 + number, price=3) for number in numbers if number != 1]
    tracker, plain = GroupTracker(), Plain()
    tracker.track(slice_of(before))
    plain.track(before)
    monkeypatch.setattr("k2.sequencing.tracker.follow", noted)
    tracked = tracker.track(slice_of(rows, first_offset=len(before)))
    said = plain.track(rows)
    assert outcome_of(tracked)[1:] == (said.sessions, plain.events[2 if restarted else 1 :], said.out_of_order)
    assert len(positions) - 1 <= left_max + restarted


def test_exchanges_and_symbols_are_apart() -> None:
    """A restart of one symbol leaves the others in their sessions, whatever their names share."""
    rows = [Row(1, 1, "x", "a"), Row(1, 1, "x", "b"), Row(1, 1, "y", "a"), Row(1, 2, "x", "a", price=2)]
    tracked = GroupTracker().track(slice_of([*rows, Row(2, 3, "x", "b"), Row(1, 1, "y", "a")]))
    assert tracked.trade_slice.sessions.tolist() == [1, 1, 1, 2, 1, 1]
    assert tracked.trade_slice.verdicts.tolist() == [STORED] * 5 + [DUPLICATE]
    assert [(event.exchange, event.symbol, event.session) for event in tracked.events] == [
        ("a", "x", 1),
        ("b", "x", 1),
        ("a", "y", 1),
        ("a", "x", 2),
    ]


def test_state_is_the_symbol_s_whatever_the_partition() -> None:
    """A symbol's trades in two partitions are one numbering, and events name the partition that caused them."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(2, 2)], partition=0))
    tracked = tracker.track(slice_of([Row(2, 2), Row(4, 3)], partition=7, first_offset=50))
    assert tracked.trade_slice.verdicts.tolist() == [DUPLICATE, STORED]
    assert [(event.partition, event.offset, event.missing) for event in tracked.events] == [(7, 51, 1)]


def test_the_slice_given_is_left_alone_and_only_its_rows_are_tracked() -> None:
    """Rows of other groups in the same batch are not read, and the given arrays are not written."""
    piece = slice_of([Row(1, 1), Row(5, 2, "other"), Row(1, 1), Row(2, 1)])
    piece = replace(
        piece,
        rows=np.array([0, 2, 3], dtype=np.int32),
        verdicts=np.zeros(3, dtype=np.uint8),
        sessions=np.zeros(3, dtype=np.int32),
    )
    tracker = GroupTracker()
    tracked = tracker.track(piece)
    assert tracked.trade_slice.verdicts.tolist() == [STORED, DUPLICATE, STORED]
    assert tracked.trade_slice.sessions.dtype == np.int32
    assert (piece.verdicts.tolist(), piece.sessions.tolist(), len(tracker)) == ([0, 0, 0], [0, 0, 0], 1)


@pytest.mark.parametrize("mode", [SequenceMode.MONOTONIC, SequenceMode.IDENTITY_ONLY])
def test_other_venues_have_no_gaps(mode: SequenceMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a hole means nothing, rows keep session 0, are stored, and cause no event."""
    monkeypatch.setitem(VENUES, "holes", replace(VENUES["k2"], name="holes", mode=mode))
    tracked = GroupTracker().track(slice_of([Row(1, 1), Row(9, 2), Row(9, 2)], venue="holes"))
    assert outcome_of(tracked) == ([STORED] * 3, [0] * 3, [], 0)


def test_a_closed_gap_leaves_nothing_behind() -> None:
    """After its gap is filled, a symbol is only a slot again."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(4, 2), Row(3, 2)]))
    assert tracker.open_gaps() == {"kraken": (1, 1)}
    tracker.track(slice_of([Row(2, 2)]))
    assert (tracker.open_gaps(), tracker._sequences) == ({"kraken": (0, 0)}, {})


def test_ten_thousand_new_symbols_in_one_slice() -> None:
    """Each starts its session 1, in the order of the rows, and the next slice finds them."""
    names = [f"S{number}" for number in range(10_000)]
    tracker = GroupTracker()
    tracked = tracker.track(slice_of([Row(5, 1, name) for name in names]))
    started = [(EventKind.SESSION_STARTED, name) for name in names]
    assert [(event.event, event.symbol) for event in tracked.events] == started
    again = tracker.track(slice_of([Row(6, 2, name) for name in names]))
    assert (again.events, {*again.trade_slice.verdicts.tolist()}, len(tracker)) == ([], {STORED}, 10_000)


def test_an_absorbed_session_may_reach_beyond_the_begin_of_the_next() -> None:
    """The times of two sessions may overlap: the loop places by them as the rules do."""
    plain, tracker = SymbolSequence(), GroupTracker()
    stored = [(1, ((1, 10),), 100, 1), (2, ((1, 5),), 200, 50)]
    for session, ranges, latest, earliest in stored:
        plain.absorb(session, ranges, latest, earliest)
    keys = [SessionKey("kraken", "BTC-USD", session) for session, *_ in stored]
    tracker.absorb(
        StoredSession(key, *one[1:], TopicPartition("trades", 0), 0) for key, one in zip(keys, stored, strict=True)
    )
    trades = [(11, 49), (6, 101), (7, 80), (12, 48), (8, 201)]
    placed = [plain.place(*trade, trade[0]) for trade in trades]
    tracked = tracker.track(slice_of([Row(*trade, price=trade[0]) for trade in trades])).trade_slice
    assert [placement.session for placement in placed] == tracked.sessions.tolist() == [1, 2, 2, 1, 2]
    assert [placement.verdict for placement in placed] == tracked.verdicts.tolist() == [STORED] * 5
