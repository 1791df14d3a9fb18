"""The columnar tracker against the plain rules, and what only it does."""

import pickle
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trades.trade_slices import Row, slice_of
from trades.errors import StateError
from trades.events import EventKind, SequenceEvent
from trades.history import SeenSession, SessionKey
from trades.progress import TopicPartition
from trades.recent import PlainRecent
from trades.sequence import SymbolSequence
from trades.tracker import GroupTracker, Tracked
from trades.venues import VENUES, SequenceMode
from trades.verdicts import CONFLICT, DUPLICATE, STORED

MIN, MAX = -(2**63), 2**63 - 1
Outcome = tuple[list[int], list[int], list[SequenceEvent], int]


def outcome_of(tracked: Tracked) -> Outcome:
    """Give verdicts, sessions, events and the count of disorder as plain values."""
    piece = tracked.piece
    return piece.verdicts.tolist(), piece.sessions.tolist(), tracked.events, tracked.out_of_order.total()


def by_the_plain_form(rows: list[Row]) -> Outcome:
    """Track row by row with `SymbolSequence`, the rows' places being their offsets."""
    sequences = defaultdict[tuple[str, str], SymbolSequence](SymbolSequence)
    recent = defaultdict[tuple[str, str], PlainRecent](PlainRecent)
    verdicts, sessions, events, out_of_order = [], [], list[SequenceEvent](), 0
    for offset, row in enumerate(rows):
        if row.sequence is None:
            verdicts.append(STORED)
            sessions.append(0)
            continue
        placement = sequences[row.exchange, row.symbol].place(row.sequence, row.timestamp)
        trade = placement.session, row.sequence, (row.price, row.timestamp)
        if placement.verdict == STORED:
            recent[row.exchange, row.symbol].add(*trade)
        is_conflict = placement.verdict == DUPLICATE and recent[row.exchange, row.symbol].differs(*trade)
        verdicts.append(CONFLICT if is_conflict else placement.verdict)
        sessions.append(placement.session)
        out_of_order += placement.out_of_order
        for kind, session, first, last in placement.events:
            names = row.exchange, row.symbol
            events.append(SequenceEvent(*names, session, kind, first, last, row.timestamp, "trades", 0, offset))
    return verdicts, sessions, events, out_of_order


def by_the_tracker(rows: list[Row], cuts: list[int], *, restarts: bool) -> Outcome:
    """Track slices cut at the places given, through a pickled snapshot at each cut where asked to."""
    tracker = GroupTracker()
    verdicts, sessions, events, out_of_order = list[int](), list[int](), list[SequenceEvent](), 0
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        outcome = outcome_of(tracker.track(slice_of(rows[start:end], first_offset=start)))
        verdicts += outcome[0]
        sessions += outcome[1]
        events += outcome[2]
        out_of_order += outcome[3]
        if restarts:
            tracker = GroupTracker(pickle.loads(pickle.dumps(tracker.snapshot())))  # noqa: S301
    return verdicts, sessions, events, out_of_order


SEQUENCES = st.one_of(
    st.none(), st.integers(0, 12), st.integers(0, 12), st.sampled_from([MIN, MIN + 1, -1, MAX - 1, MAX])
)
TIMES = st.one_of(st.integers(0, 8), st.sampled_from([MIN, MIN + 1, MAX]))
NAMES = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])


@st.composite
def anything(draw: st.DrawFn) -> list[Row]:
    """Rows of any number and time."""
    rows = draw(st.lists(st.tuples(SEQUENCES, TIMES, NAMES, st.integers(1, 2)), max_size=40))
    return [Row(sequence, at, symbol, exchange, price=price) for sequence, at, (exchange, symbol), price in rows]


@st.composite
def markets(draw: st.DrawFn) -> list[Row]:
    """Rows that mostly continue, with gaps, repeats, stragglers and restarts among them."""
    rows, numbers, clock = list[Row](), defaultdict[tuple[str, str], int](int), 0
    for step in draw(st.lists(st.tuples(NAMES, st.integers(0, 11), st.integers(0, 3)), max_size=60)):
        (exchange, symbol), action, amount = step
        clock += amount
        numbers[exchange, symbol] += 1
        if action == 0:
            numbers[exchange, symbol] += amount
        elif action == 1:
            numbers[exchange, symbol] = amount
        number, at = numbers[exchange, symbol], clock
        if action in {2, 3}:
            number, at = number - amount, at - action * amount
        rows.append(Row(number, at, symbol, exchange))
        if action == 4 and len(rows) > 5 * amount:
            rows.append(rows[-1 - 5 * amount])
    return rows


@st.composite
def crowded(draw: st.DrawFn) -> list[Row]:
    """Rows of one symbol with so few numbers and times that all of them meet."""
    trades = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 2)), max_size=25))
    return [Row(sequence, at, price=price) for sequence, at, price in trades]


@st.composite
def long_ago(draw: st.DrawFn) -> list[Row]:
    """Many rows in order, then some of them again, with the same content or another: within reach and beyond."""
    count = draw(st.integers(200, 600))
    again = draw(st.lists(st.tuples(st.integers(1, count), st.integers(1, 2)), max_size=20))
    return [
        *(Row(number, number) for number in range(1, count + 1)),
        *(Row(number, number, price=price) for number, price in again),
    ]


@given(
    st.one_of(anything(), markets(), crowded(), long_ago()), st.lists(st.integers(0, 600), max_size=4), st.booleans()
)
def test_equals_the_plain_form(rows: list[Row], cuts: list[int], restarts: bool) -> None:  # noqa: FBT001
    """Verdicts, sessions, events and disorder are the plain form's, however cut, and over restarts."""
    assert by_the_tracker(rows, cuts, restarts=restarts) == by_the_plain_form(rows)


@pytest.mark.parametrize(
    "trades",
    [
        pytest.param([(1, 1), (2, 5), (1, 6), (2, 5), (2, 6)], id="at the old session's latest time"),
        pytest.param([(1, 1), (2, 5), (1, 6), (3, 5), (2, 5), (2, 7)], id="the old session goes on"),
        pytest.param([(1, 1), (2, 9), (3, 5), (2, 7), (2, 10)], id="a next number of an earlier time"),
        pytest.param([(MAX - 1, 1), (MAX, 2), (MIN, 2), (MIN, 3)], id="past the last of 64 bits"),
        pytest.param([(1, 1), (4, 2), (5, 3), (6, 4), (5, 4), (2, 4), (8, 5), (3, 5)], id="on after a gap"),
        pytest.param([(1, 1), (4, 2), (5, 3), (6, 9), (4, 8), (3, 9), (5, 10)], id="later after a gap"),
        pytest.param([(5, MIN), (6, MIN), (5, MIN), (5, MIN + 1), (6, MIN)], id="at the least time"),
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_streams_that_leave_the_loop(trades: list[tuple[int, int]], restarts: bool) -> None:  # noqa: FBT001
    """In one slice, row by row and over restarts, what the plain form says holds."""
    rows = [Row(sequence, at) for sequence, at in trades]
    expected = by_the_plain_form(rows)
    assert by_the_tracker(rows, [], restarts=restarts) == expected
    assert by_the_tracker(rows, list(range(len(rows))), restarts=restarts) == expected


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
    runs = dict.fromkeys((row.exchange for row in rows), 0)
    for exchange, symbol, session, number in missing:
        runs[exchange] += (exchange, symbol, session, number - 1) not in missing
    assert tracker.open_gaps() == runs


def test_exchanges_and_symbols_are_apart() -> None:
    """A restart of one symbol leaves the others in their sessions, whatever their names share."""
    rows = [Row(1, 1, "x", "a"), Row(1, 1, "x", "b"), Row(1, 1, "y", "a"), Row(1, 2, "x", "a")]
    tracked = GroupTracker().track(slice_of([*rows, Row(2, 3, "x", "b"), Row(1, 1, "y", "a")]))
    assert tracked.piece.sessions.tolist() == [1, 1, 1, 2, 1, 1]
    assert tracked.piece.verdicts.tolist() == [STORED] * 5 + [DUPLICATE]
    assert [(event.exchange, event.symbol, event.session) for event in tracked.events] == [
        ("a", "x", 1),
        ("b", "x", 1),
        ("a", "y", 1),
        ("a", "x", 2),
    ]


def test_state_is_the_symbol_s_whatever_the_partition() -> None:
    """A symbol's trades in two partitions are one numbering, and events name the partition that told."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(2, 2)], partition=0))
    tracked = tracker.track(slice_of([Row(2, 2), Row(4, 3)], partition=7, first_offset=50))
    assert tracked.piece.verdicts.tolist() == [DUPLICATE, STORED]
    assert [(event.partition, event.offset, event.missing) for event in tracked.events] == [(7, 51, 1)]


def test_the_slice_given_is_left_alone_and_only_its_rows_are_tracked() -> None:
    """Rows of other groups in the same batch are not looked at, nor are the arrays given written."""
    piece = slice_of([Row(1, 1), Row(5, 2, "other"), Row(1, 1), Row(2, 1)])
    piece = replace(
        piece,
        rows=np.array([0, 2, 3], dtype=np.int32),
        verdicts=np.zeros(3, dtype=np.uint8),
        sessions=np.zeros(3, dtype=np.int32),
    )
    tracker = GroupTracker()
    tracked = tracker.track(piece)
    assert tracked.piece.verdicts.tolist() == [STORED, DUPLICATE, STORED]
    assert tracked.piece.sessions.dtype == np.int32
    assert (piece.verdicts.tolist(), piece.sessions.tolist(), len(tracker)) == ([0, 0, 0], [0, 0, 0], 1)


@pytest.mark.parametrize("mode", [SequenceMode.MONOTONIC, SequenceMode.IDENTITY_ONLY])
def test_other_venues_have_no_gaps(mode: SequenceMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a hole means nothing, rows keep session 0, are stored, and cause no event."""
    monkeypatch.setitem(VENUES, "holes", replace(VENUES["k2"], name="holes", mode=mode))
    tracked = GroupTracker().track(slice_of([Row(1, 1), Row(9, 2), Row(9, 2)], venue="holes"))
    assert outcome_of(tracked) == ([STORED] * 3, [0] * 3, [], 0)


def test_a_closed_gap_leaves_nothing_behind() -> None:
    """When its gap is filled, a symbol is a slot again and nothing more."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(4, 2), Row(3, 2)]))
    assert tracker.open_gaps() == {"kraken": 1}
    tracker.track(slice_of([Row(2, 2)]))
    assert (tracker.open_gaps(), tracker._sequences) == ({"kraken": 0}, {})


def test_ten_thousand_new_symbols_in_one_slice() -> None:
    """Each begins its session 1, in the order of the rows, and the next slice finds them."""
    names = [f"S{number}" for number in range(10_000)]
    tracker = GroupTracker()
    tracked = tracker.track(slice_of([Row(5, 1, name) for name in names]))
    started = [(EventKind.SESSION_STARTED, name) for name in names]
    assert [(event.event, event.symbol) for event in tracked.events] == started
    again = tracker.track(slice_of([Row(6, 2, name) for name in names]))
    assert (again.events, set(again.piece.verdicts.tolist()), len(tracker)) == ([], {STORED}, 10_000)


def test_an_absorbed_session_may_reach_beyond_the_begin_of_the_next() -> None:
    """Read in another order it did: a trade not later than its latest is its straggler, in the loop as in the rules."""
    plain, tracker = SymbolSequence(), GroupTracker()
    seen = [(1, ((1, 10),), 100, 1), (2, ((1, 5),), 200, 50)]
    for session, ranges, latest, earliest in seen:
        plain.absorb(session, ranges, latest, earliest)
        key = SessionKey("kraken", "BTC-USD", session)
        tracker.absorb([SeenSession(key, ranges, latest, earliest, TopicPartition("trades", 0), 0)])
    trades = [(6, 80), (11, 100), (6, 101), (7, 50)]
    placed = [plain.place(*trade) for trade in trades]
    tracked = tracker.track(slice_of([Row(*trade) for trade in trades])).piece
    assert [placement.session for placement in placed] == tracked.sessions.tolist() == [1, 1, 2, 1]
    assert [placement.verdict for placement in placed] == tracked.verdicts.tolist()


def builtin(value: object) -> bool:
    """Tell whether a value is made of builtins alone."""
    if isinstance(value, dict):
        return all(builtin(key) and builtin(item) for key, item in value.items())
    if isinstance(value, list):
        return all(builtin(item) for item in value)
    return type(value) in {int, str, bytes}


def test_a_snapshot_is_builtins_and_stays_as_it_was() -> None:
    """Nothing of ours or NumPy's is in a snapshot, it bears names, and later rows do not reach it."""
    tracker = GroupTracker()
    tracker.track(slice_of([Row(1, 1), Row(4, 2), Row(1, 3), Row(8, 4), Row(1, 1, "y")]))
    state = tracker.snapshot()
    before = pickle.dumps(state)
    tracker.track(slice_of([Row(2, 2), Row(6, 4), Row(1, 5), Row(2, 2, "y")]))
    assert builtin(state)
    assert state["symbols"] == [["kraken", "BTC-USD"], ["kraken", "y"]]
    assert pickle.dumps(state) == before


def test_a_foreign_format_is_refused() -> None:
    """State of another version stops the job instead of being misread."""
    with pytest.raises(StateError) as caught:
        GroupTracker({**GroupTracker().snapshot(), "format": 9})
    assert str(caught.value) == (
        "the recovery store's sequence state has format 9, this version reads 3: run the version that wrote it, or"
        " start without that store to rebuild the state"
    )
