"""State restored from the table: a key group whose state is lost or behind judges as if it had seen all rows."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.dedup.deduplicator import GroupDeduplicator
from k2.model.batch import TradeSlice
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import NO_CONTENTS, NO_STATE_SOURCE, Ledger, NumberDoubt, SessionKey, StoredSession
from k2.model.verdicts import DUPLICATE, STORED
from k2.sequencing.doubts import Doubts
from k2.sequencing.effective_time import effective_time
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.owed_events import owed_events
from k2.sequencing.ranges import difference, intersection
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of, stored_ids
from tests.sequencing.stored_rows import StoredRows
from tests.sequencing.streams import streams

WHERE = TopicPartition("trades", 0)


def table_of(rows: list[Row], verdicts: list[int], sessions: list[int]) -> list[StoredSession]:
    """Return what a table of the stored rows says, computed with plain sets."""
    table = defaultdict[SessionKey, list[tuple[int, int, int]]](list)
    for offset, (row, verdict, session) in enumerate(zip(rows, verdicts, sessions, strict=True)):
        if verdict == STORED and row.sequence is not None:
            at = effective_time(row.timestamp, row.kafka_timestamp)
            table[SessionKey(row.exchange, row.symbol, session)].append((at, offset, row.sequence))
    return [
        StoredSession(
            key, _ranges({sequence for *_, sequence in trades}), max(trades)[0], min(trades)[0], WHERE, max(trades)[1]
        )
        for key, trades in sorted(table.items())
    ]


def doubts_of(pieces: Iterable[TradeSlice]) -> list[NumberDoubt]:
    """Return the conflicts that some tracked slices left unsettled, in the form of the table's property."""
    kept = Doubts()
    for piece in pieces:
        kept.update(piece.doubts)
    return kept.each()


def _ranges(numbers: set[int]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        found.append((members[0], members[-1]))
    return tuple(found)


def _track(tracker: GroupTracker, rows: list[Row], first_offset: int = 0) -> tuple[TradeSlice, list[SequenceEvent]]:
    tracked = tracker.track(slice_of(rows, first_offset=first_offset))
    return tracked.trade_slice, tracked.events


@given(streams(), st.integers(0, 900), st.integers(0, 900), st.booleans())
def test_state_from_the_table_judges_as_if_it_had_seen_all(
    rows: list[Row],
    one: int,
    other: int,
    lost: bool,  # noqa: FBT001
) -> None:
    """Store at one cut or lost, table at a later one: the replay causes nothing, and later verdicts are the same."""
    stored_at, committed_at = sorted((one % (len(rows) + 1), other % (len(rows) + 1)))
    whole, table = GroupTracker(), StoredRows()
    before, _ = _track(whole, rows[:stored_at])
    snapshot = whole.snapshot()
    between, _ = _track(whole, rows[stored_at:committed_at], stored_at)
    after, events = _track(whole, rows[committed_at:], committed_at)
    pieces = [before, between]
    verdicts, sessions = ([*before.verdicts, *between.verdicts], [*before.sessions, *between.sessions])
    for piece in pieces:
        table.add(piece)

    rebuilt = GroupTracker(None if lost else snapshot, read_contents=table.read)
    stored = table_of(rows[:committed_at], verdicts, sessions)
    rebuilt.absorb(stored, {WHERE: committed_at}, doubts_of(pieces))
    replay, again = _track(rebuilt, rows[stored_at:committed_at], stored_at)
    assert ([*again], replay.doubts) == ([], ())
    found, more = _track(rebuilt, rows[committed_at:], committed_at)
    assert (found.verdicts.tolist(), found.sessions.tolist()) == (after.verdicts.tolist(), after.sessions.tolist())
    assert (found.doubts, more) == (after.doubts, events)


Sent = list[tuple[int, int]]
"""Partition and number of each trade."""


@st.composite
def two_partitions(draw: st.DrawFn) -> tuple[Sent, int]:
    """Return each trade in both partitions, in the order of one reader, and how much of it was committed."""
    count = draw(st.integers(1, 30))
    turns = draw(st.permutations([0] * count + [1] * count))
    numbers = [0, 0]
    sent = Sent()
    for partition in turns:
        numbers[partition] += 1
        sent.append((partition, numbers[partition]))
    return sent, draw(st.integers(0, 2 * count))


@given(two_partitions(), st.randoms(use_true_random=False))
def test_a_replay_in_another_order_of_partitions_stores_each_trade_once(both: tuple[Sent, int], random: object) -> None:
    """A restart reads the partitions of a doubled feed in another order than the rows committed."""
    sent, committed = both
    tracker, table = GroupTracker(), StoredRows()
    offsets, stored = [0, 0], list[int]()

    def send(partition: int, number: int) -> TradeSlice:
        first_offset, offsets[partition] = offsets[partition], offsets[partition] + 1
        piece = tracker.track(
            slice_of([Row(number, number)], partition=partition, first_offset=first_offset)
        ).trade_slice
        stored.extend([number] * int(piece.verdicts[0] == STORED))
        return piece

    for one in sent[:committed]:
        table.add(send(*one))
    if stored:
        session = StoredSession(SessionKey("kraken", "BTC-USD", 1), _ranges({*stored}), max(stored), 1, WHERE, 0)
        tracker = GroupTracker(read_contents=table.read)
        tracker.absorb([session], {TopicPartition("trades", partition): offsets[partition] for partition in (0, 1)})
    rest = [[one for one in sent[committed:] if one[0] == partition] for partition in (0, 1)]
    while any(rest):
        send(*random.choice([part for part in rest if part]).pop(0))  # type: ignore[attr-defined]
    assert sorted(stored) == [*range(1, len(sent) // 2 + 1)]


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
    """Examples: an absorbed number is a duplicate, the next one continues, and a session without rows stays."""
    sequence = SymbolSequence()
    for number, at in had:
        sequence.place(number, at, number)
    sequence.absorb(session, ranges, latest, latest)
    placement = sequence.place(*then, then[0])
    assert (placement.verdict, placement.session) == (verdict, in_session)


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_ranges_are_subtracted_and_intersected_as_sets_are(left: set[int], right: set[int]) -> None:
    """The difference and the intersection of ranges are those of their numbers."""
    assert difference(_ranges(left), _ranges(right)) == _ranges(left - right)
    assert intersection(_ranges(left), _ranges(right)) == _ranges(left & right)


@given(st.sets(st.integers(-20, 20)), st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 9))))
def test_ranges_are_added_as_sets_are(numbers: set[int], more: list[tuple[int, int]]) -> None:
    """Adding a range adds its numbers; what is missing is what a set lacks."""
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
def test_the_ledger_gets_what_it_lacks(ledger: Ledger, owed: list[str]) -> None:
    """Events that a crash kept from the ledger are written for trades in the table, and for no others."""
    stored = [StoredSession(SessionKey("a", "x", 1), ((1, 2), (5, 6), (8, 8)), 50, 40, WHERE, 7)]
    tracker = GroupTracker()
    tracker.absorb(stored)
    events = list(owed_events(stored, tracker, ledger))
    assert [f"{event.event} {event.first_sequence}-{event.last_sequence}" for event in events] == owed
    assert all(event[6:] == (50, "trades", 0, 7, True) for event in events)
    assert all(isinstance(event, SequenceEvent) and isinstance(event.event, EventKind) for event in events)


def test_absorbed_ids_are_duplicates_within_the_window() -> None:
    """An id in the table counts as stored at its Kafka time, no longer than the window."""
    deduplicator = GroupDeduplicator(window_us=100)
    deduplicator.absorb([stored_ids([Row(trade_id="7", kafka_timestamp=1_000)], reached=1_000)])
    rows = [Row(trade_id="7", kafka_timestamp=at) for at in (1_050, 1_100, 1_101)]
    assert deduplicator.deduplicate(slice_of(rows)).verdicts.tolist() == [DUPLICATE, DUPLICATE, STORED]


def test_a_flow_without_tables_has_no_history() -> None:
    """Nothing was stored before, for any group."""
    NO_STATE_SOURCE.report_positions({WHERE: 5})
    NO_STATE_SOURCE.report_clocks({})
    assert (*NO_STATE_SOURCE.sessions(3), *NO_STATE_SOURCE.ids(3, 5, is_resumed=True), *NO_STATE_SOURCE.doubts(3)) == ()
    assert NO_STATE_SOURCE.contents([], 0) is NO_CONTENTS
    assert [len(column) for column in NO_CONTENTS] == [0] * 5
    assert NO_STATE_SOURCE.committed(3) == {}
    assert NO_STATE_SOURCE.ledger() == Ledger(frozenset(), {})
