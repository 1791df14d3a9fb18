"""State brought up from the table: a key group that lost its state, or is behind, judges as if it had seen all."""

from collections import defaultdict
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trades.trade_slices import Row, seen_ids, slice_of
from trades.deduplication import GroupDeduplicator
from trades.events import EventKind, SequenceEvent
from trades.history import NO_HISTORY, NO_TRADES, Ledger, SeenSession, SeenTrades, SessionKey
from trades.intervals import IntervalSet
from trades.ledger import difference, owed_events
from trades.progress import TopicPartition
from trades.recent_kernel import content
from trades.sequence import SymbolSequence
from trades.tracker import GroupTracker
from trades.verdicts import DUPLICATE, STORED

WHERE = TopicPartition("trades", 0)
NAMES = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Rows of a few numbers and times, so that gaps, repeats, restarts and stragglers all meet."""
    rows = draw(st.lists(st.tuples(NAMES, st.integers(1, 9), st.integers(1, 12)), max_size=40))
    return [Row(sequence, at, symbol, exchange) for (exchange, symbol), sequence, at in rows]


def table_of(rows: list[Row], verdicts: list[int], sessions: list[int]) -> list[SeenSession]:
    """Give what a table of the stored rows says, worked out with plain sets."""
    table = defaultdict[SessionKey, list[tuple[int, int, int]]](list)
    for offset, (row, verdict, session) in enumerate(zip(rows, verdicts, sessions, strict=True)):
        if verdict == STORED and row.sequence is not None:
            table[SessionKey(row.exchange, row.symbol, session)].append((row.timestamp, offset, row.sequence))
    return [
        SeenSession(
            key, _ranges({sequence for *_, sequence in trades}), max(trades)[0], min(trades)[0], WHERE, max(trades)[1]
        )
        for key, trades in sorted(table.items())
    ]


def newest_of(rows: list[Row], verdicts: list[int], sessions: list[int]) -> SeenTrades:
    """Give the stored trades of a few rows, all of them among the newest."""
    stored = [
        (row, session)
        for row, verdict, session in zip(rows, verdicts, sessions, strict=True)
        if verdict == STORED and row.sequence is not None
    ]
    names = sorted({(row.exchange, row.symbol) for row, _ in stored})
    columns = [
        (names.index((row.exchange, row.symbol)), session, row.sequence, content(*_words(row), 0, row.timestamp))
        for row, session in stored
    ]
    return SeenTrades(names, *(np.array(column, dtype=np.int64) for column in np.array(columns).reshape(-1, 4).T))


def _words(row: Row) -> np.ndarray:
    return np.array([[row.price, 0], [1, 1]], dtype=np.uint64)


def _ranges(numbers: set[int]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        found.append((members[0], members[-1]))
    return tuple(found)


def _track(tracker: GroupTracker, rows: list[Row], first_offset: int = 0) -> tuple[list[int], list[int], object]:
    tracked = tracker.track(slice_of(rows, first_offset=first_offset))
    return tracked.piece.verdicts.tolist(), tracked.piece.sessions.tolist(), tracked.events


@given(streams(), st.integers(0, 40), st.integers(0, 40), st.randoms(use_true_random=False), st.booleans())
def test_state_from_the_table_judges_as_if_it_had_seen_all(
    rows: list[Row],
    one: int,
    other: int,
    random: object,
    lost: bool,  # noqa: FBT001
) -> None:
    """Store at one cut or lost, table at a later one, replay in any order: nothing twice, all goes on alike."""
    stored_at, committed_at = sorted((one % (len(rows) + 1), other % (len(rows) + 1)))
    whole = GroupTracker()
    before = _track(whole, rows[:stored_at])
    snapshot = whole.snapshot()
    between = _track(whole, rows[stored_at:committed_at], stored_at)
    after = _track(whole, rows[committed_at:], committed_at)

    rebuilt = GroupTracker(None if lost else snapshot)
    verdicts, sessions = before[0] + between[0], before[1] + between[1]
    since = 0 if lost else stored_at
    newest = newest_of(rows[since:committed_at], verdicts[since:], sessions[since:])
    rebuilt.absorb(table_of(rows[:committed_at], verdicts, sessions), newest)
    replay = rows[stored_at:committed_at]
    random.shuffle(replay)  # type: ignore[attr-defined]
    assert STORED not in _track(rebuilt, replay, stored_at)[0]
    assert _track(rebuilt, rows[committed_at:], committed_at) == after


@pytest.mark.parametrize(
    ("had", "session", "ranges", "latest", "then", "verdict", "in_session"),
    [
        ([], 1, [(5, 9)], 50, (9, 50), DUPLICATE, 1),
        ([], 1, [(5, 9)], 50, (10, 51), STORED, 1),
        ([], 1, [(5, 9)], 50, (5, 51), STORED, 2),
        ([(1, 10)], 2, [(1, 3)], 20, (1, 10), DUPLICATE, 1),
        ([(1, 10)], 2, [(1, 3)], 20, (4, 21), STORED, 2),
        ([(1, 10)], 3, [(1, 3)], 20, (4, 21), STORED, 3),
        ([(1, 10)], 1, [(3, 4)], 40, (2, 41), STORED, 1),
        ([(1, 10)], 1, [(3, 4)], 5, (1, 8), DUPLICATE, 1),
    ],
)
def test_absorbed_numbers_count_as_seen(
    had: list[tuple[int, int]],
    session: int,
    ranges: list[tuple[int, int]],
    latest: int,
    then: tuple[int, int],
    verdict: int,
    in_session: int,
) -> None:
    """Examples: what was absorbed is a duplicate, what follows goes on, and a session without rows keeps its place."""
    sequence = SymbolSequence()
    for number, at in had:
        sequence.place(number, at)
    sequence.absorb(session, ranges, latest, latest)
    placement = sequence.place(*then)
    assert (placement.verdict, placement.session) == (verdict, in_session)


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_difference_is_that_of_sets(left: set[int], right: set[int]) -> None:
    """Ranges less ranges are numbers less numbers."""
    assert difference(_ranges(left), _ranges(right)) == _ranges(left - right)


@given(st.sets(st.integers(-20, 20)), st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 9))))
def test_ranges_are_added_as_sets_are(numbers: set[int], more: list[tuple[int, int]]) -> None:
    """A range added is its numbers added; what is missing is what a set lacks."""
    found = IntervalSet()
    for number in numbers:
        found.add(number)
    for first, size in more:
        found.add_range(first, first + size)
        numbers |= set(range(first, first + size + 1))
    assert tuple(found.ranges()) == _ranges(numbers)
    if numbers:
        assert found.missing() == _ranges(set(range(min(numbers), max(numbers))) - numbers)


@pytest.mark.parametrize(
    ("ledger", "owed"),
    [
        (Ledger(frozenset(), {}), ["session_started 1-1", "gap_opened 3-4", "gap_opened 7-7"]),
        (Ledger(frozenset({SessionKey("a", "x", 1)}), {}), ["gap_opened 3-4", "gap_opened 7-7"]),
        (
            Ledger(frozenset({SessionKey("a", "x", 1)}), {SessionKey("a", "x", 1): ((2, 3), (7, 7))}),
            ["gap_opened 4-4", "gap_filled 2-2"],
        ),
        (Ledger(frozenset({SessionKey("a", "x", 1)}), {SessionKey("a", "x", 1): ((3, 4), (7, 7))}), []),
    ],
)
def test_the_ledger_is_told_what_it_lacks(ledger: Ledger, owed: list[str]) -> None:
    """Events of trades in the table that a crash kept from the ledger are made up for, and no others."""
    seen = [SeenSession(SessionKey("a", "x", 1), ((1, 2), (5, 6), (8, 8)), 50, 40, WHERE, 7)]
    tracker = GroupTracker()
    tracker.absorb(seen)
    events = list(owed_events(seen, tracker, ledger))
    assert [f"{event.event} {event.first_sequence}-{event.last_sequence}" for event in events] == owed
    assert all(event[6:] == (50, "trades", 0, 7, True) for event in events)
    assert all(isinstance(event, SequenceEvent) and isinstance(event.event, EventKind) for event in events)


def test_absorbed_ids_are_duplicates_within_the_window() -> None:
    """An id in the table counts as stored at its Kafka time, and no longer than the window."""
    deduplicator = GroupDeduplicator(window_us=100)
    deduplicator.absorb([seen_ids([Row(trade_id="7", kafka_timestamp=1_000)], reached=1_000)])
    rows = [Row(trade_id="7", kafka_timestamp=at) for at in (1_050, 1_100, 1_101)]
    assert deduplicator.deduplicate(slice_of(rows)).verdicts.tolist() == [DUPLICATE, DUPLICATE, STORED]


def test_trades_are_taken_by_the_names_chosen() -> None:
    """In their order, numbered anew among the names that are left."""
    names = [("a", "x"), ("a", "y"), ("b", "x")]
    seen = SeenTrades(names, *(np.array(column) for column in ([2, 1, 0, 2], [1, 1, 2, 3], [5, 6, 7, 8], [9, 8, 7, 6])))
    chosen = seen.of(np.array([True, False, True]))
    assert chosen.names == [("a", "x"), ("b", "x")]
    assert [column.tolist() for column in chosen[1:]] == [[1, 0, 1], [1, 2, 3], [5, 7, 8], [9, 7, 6]]
    assert [len(column) for column in seen.of(np.zeros(3, dtype=np.bool_))] == [0] * 5


def test_a_flow_without_tables_has_no_history() -> None:
    """Nothing was stored before, whoever asks."""
    NO_HISTORY.resumed({WHERE: 5})
    NO_HISTORY.clocks({})
    assert (*NO_HISTORY.sessions(3), *NO_HISTORY.ids(3, 5, is_resumed=True)) == ()
    assert NO_HISTORY.recent(3) is NO_TRADES
    assert [len(column) for column in NO_TRADES] == [0] * 5
    assert NO_HISTORY.ledger() == Ledger(frozenset(), {})
