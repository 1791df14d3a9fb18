"""Head numbers: what the venue has named, compared with what arrived."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import TradeSlice
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import SessionKey, StoredSession
from k2.model.verdicts import HEAD, STORED
from k2.sequencing.announced import AnnouncedNumbers
from k2.sequencing.heads import HEAD_GRACE_US, QUIET_SECONDS, TradePartitions
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.symbol_slots import SymbolSlots
from k2.sequencing.tracked import NewestMissing
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of

MINUTE: Final = HEAD_GRACE_US


def trade(number: int, at: int, symbol: str = "BTC-USD") -> Row:
    """Return a trade that arrives at a time."""
    return Row(number, at, symbol, kafka_timestamp=at, price=number)


def head(number: int, at: int, symbol: str = "BTC-USD") -> Row:
    """Return a message that names the last number of a symbol."""
    return Row(number, 0, symbol, kafka_timestamp=at, verdict=HEAD)


def piece_of(row: Row, offset: int, *, is_live: bool = True) -> TradeSlice:
    """Return a slice of one row, whose message has an origin unless it is of the live feed."""
    piece = slice_of([row], first_offset=offset)
    source = replace(piece.batch.source, marks={} if is_live else {0: MessageMarks("person ann")})
    return replace(piece, batch=replace(piece.batch, source=source))


def placed(tracker: GroupTracker, rows: list[Row], *, is_live: bool = True) -> list[SequenceEvent]:
    """Track rows, each in a slice of its own, and return their events without the starts of sessions."""
    found = list[SequenceEvent]()
    for row in rows:
        tracked = tracker.track(piece_of(row, next(iter(tracker.positions.values()), 0), is_live=is_live))
        assert tracked.trade_slice.verdicts.tolist() == [row.verdict]
        found += [event for event in tracked.events if event.event is not EventKind.SESSION_STARTED]
    return found


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([trade(1, 0), head(1, 1), head(1, 3 * MINUTE)], []),
        ([trade(1, 0), head(3, 1), trade(2, 2), trade(3, 3), head(3, 3 * MINUTE)], []),
        ([trade(1, 0), head(3, 1), head(3, MINUTE)], []),
        ([trade(1, 0), head(3, 1), head(3, MINUTE + 1)], [(2, 3, 1)]),
        ([trade(1, 0), head(3, 1), head(5, 2), head(9, 2 * MINUTE)], [(2, 3, 1)]),
        ([trade(1, 0), head(3, 1), trade(2, 2), head(9, 2 * MINUTE)], [(3, 3, 1)]),
        ([trade(1, 0), head(3, 1), head(3, 2 * MINUTE), head(3, 2 * MINUTE + 1)], [(2, 3, 1)]),
        (
            [trade(1, 0), head(3, 1), head(5, 2 * MINUTE), head(5, 4 * MINUTE)],
            [(2, 3, 1), (4, 5, 2 * MINUTE)],
        ),
        ([trade(1, 0), head(3, 1), *(head(3, minutes * 2 * MINUTE) for minutes in range(1, 5))], [(2, 3, 1)]),
        ([head(3, 1), head(3, 2 * MINUTE)], []),
        ([trade(1, 0), head(9, 1), head(3, 2), head(3, MINUTE + 1), head(3, MINUTE + 2)], [(2, 3, 2)]),
    ],
    ids=[
        "the trade is there",
        "the trades come later",
        "the grace period is not over",
        "the trades do not come",
        "the oldest number counts",
        "only some come",
        "once for a number",
        "again for a later number",
        "once, however often it is named",
        "a symbol without trades",
        "a lower number after it",
    ],
)
def test_numbers_that_were_named_and_do_not_come(rows: list[Row], missing: list[tuple[int, int, int]]) -> None:
    """Each opens a gap a minute after it was named, at the time when it was; no row is stored for it."""
    tracker = GroupTracker()
    found = placed(tracker, rows)
    assert {event.event for event in found} <= {EventKind.GAP_OPENED}
    assert [(event.first_sequence, event.last_sequence, event.timestamp) for event in found] == missing
    if missing:
        assert tracker.missing("kraken", "BTC-USD") == (((missing[0][0], missing[-1][1]),),)


@pytest.mark.parametrize(
    ("numbers", "opened", "filled"),
    [
        ([2, 3, 4, 5, 6], [], [(2, 2), (3, 3), (4, 4), (5, 5)]),
        ([5, 2, 6], [], [(5, 5), (2, 2)]),
        ([6], [], []),
        ([9, 7, 3], [(6, 8)], [(7, 7), (3, 3)]),
    ],
    ids=["one after the other", "the last first", "the next after them", "far above them"],
)
def test_trades_fill_the_gap_above_the_newest(
    numbers: list[int], opened: list[tuple[int, int]], filled: list[tuple[int, int]]
) -> None:
    """No number is opened twice; the ledger closes number by number as for any gap."""
    tracker = GroupTracker()
    placed(tracker, [trade(1, 0), head(5, 1), head(5, 2 * MINUTE)])
    events = placed(tracker, [trade(number, 3 * MINUTE + number) for number in numbers])
    by_kind = {
        kind: [(one.first_sequence, one.last_sequence) for one in events if one.event is kind] for kind in EventKind
    }
    assert (by_kind[EventKind.GAP_OPENED], by_kind[EventKind.GAP_FILLED]) == (opened, filled)


def test_what_a_person_says_counts_at_once() -> None:
    """A message with an origin does not wait for the grace period."""
    tracker = GroupTracker()
    placed(tracker, [trade(1, 0)])
    (event,) = placed(tracker, [head(4, 1)], is_live=False)
    assert (event.event, event.first_sequence, event.last_sequence) == (EventKind.GAP_OPENED, 2, 4)
    assert placed(tracker, [head(3, 1), head(4, 2)], is_live=False) == []


def test_a_number_named_before_numbering_begins_again_is_forgotten() -> None:
    """It is not missing in the new session; what was found missing before stays missing in the old one."""
    tracker = GroupTracker()
    old = [trade(number, number) for number in range(100, 400)]
    placed(tracker, [*old, head(405, 500), head(409, 501 + MINUTE)])
    placed(tracker, [trade(1, 3 * MINUTE), head(2, 4 * MINUTE), trade(2, 5 * MINUTE), head(409, 9 * MINUTE)])
    placed(tracker, [head(2, 11 * MINUTE), head(2, 13 * MINUTE)])
    assert tracker.missing("kraken", "BTC-USD") == (((400, 405),), ())


steps = st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=40)


@given(steps)
def test_the_ledger_has_what_is_missing_below_the_newest_number_known(found: list[tuple[bool, int]]) -> None:
    """After each step: opened and not filled are the numbers between, and the tracker says the same.

    A number is filled only while it is open, and opened only while it is not.
    """
    tracker, seen, known, is_open = GroupTracker(), set[int](), 0, set[int]()
    for step, (is_head, number) in enumerate([(False, 1), *found]):
        if not is_head and number in seen:
            continue
        row = head(number, step) if is_head else trade(number, step)
        for event in placed(tracker, [row], is_live=not is_head):
            numbers = set(range(event.first_sequence, event.last_sequence + 1))
            if event.event is EventKind.GAP_OPENED:
                assert not numbers & (is_open | seen)
                is_open |= numbers
            else:
                assert numbers <= is_open
                is_open -= numbers
        known = max(known, number)
        seen |= set() if is_head else {number}
        assert is_open == set(range(1, known + 1)) - seen
        ranges = tracker.missing("kraken", "BTC-USD")[0]
        assert {one for first, last in ranges for one in range(first, last + 1)} == is_open
        assert sum(gaps.numbers for gaps in tracker.open_gaps().values()) == len(is_open)


@given(steps, st.data())
def test_a_start_knows_the_announced_numbers(found: list[tuple[bool, int]], data: st.DataObject) -> None:
    """Rebuilt from rows and property, or from its own state, a tracker goes on with the same events."""
    # Each trade once: a rebuilt tracker has no contents by which it could recognise a copy.
    steps_once = dict.fromkeys([(False, 1), *found])
    rows = [head(number, 1) if is_head else trade(number, 1) for is_head, number in steps_once]
    cut = data.draw(st.integers(1, len(rows)))
    whole, events, announced, stored = GroupTracker(), list[SequenceEvent](), AnnouncedNumbers(), set[int]()
    for offset, row in enumerate(rows):
        tracked = whole.track(piece_of(row, offset, is_live=row.verdict != HEAD))
        if offset >= cut:
            events += tracked.events
        else:
            announced.update(tracked.trade_slice.announced)
            stored |= {row.sequence} if tracked.trade_slice.verdicts[0] == STORED else set()
        if offset == cut - 1:
            state = whole.snapshot()
    numbers = IntervalSet()
    for number in sorted(stored):
        numbers.add(number)
    where = TopicPartition("trades", 0)
    rebuilt, restored = GroupTracker(), GroupTracker(state)
    key = SessionKey("kraken", "BTC-USD", 1)
    rebuilt.absorb([StoredSession(key, tuple(numbers.ranges()), 1, 0, where, 0)], {}, (), announced.each())
    restored.absorb([], {}, (), AnnouncedNumbers(announced.text()).each())
    for tracker in (rebuilt, restored):
        again = list[SequenceEvent]()
        for offset, row in enumerate(rows[cut:], start=cut):
            again += tracker.track(piece_of(row, offset, is_live=row.verdict != HEAD)).events
        assert again == events


def test_a_head_takes_no_number() -> None:
    """The trade with that number is stored, after its head and before it."""
    rows = [trade(1, 0), head(2, 1), trade(2, 2), head(3, 3), head(3, 4)]
    tracked = GroupTracker().track(slice_of(rows))
    assert tracked.trade_slice.verdicts.tolist() == [STORED, HEAD, STORED, HEAD, HEAD]
    assert tracked.trade_slice.sessions.tolist() == [1, 0, 1, 0, 0]


def test_a_head_waits_for_the_partition_of_the_trades() -> None:
    """It may be read far ahead of them: until they are read up to its time, or their partition is quiet."""
    now = 0.0
    partitions, slots = TradePartitions(lambda: now), SymbolSlots([0, 1])

    def note(row: Row, topic: str = "trades") -> None:
        piece = slice_of([row], topic=topic)
        partitions.note(piece, piece.batch.kafka_timestamps_of(piece.rows), slots)

    trades, tickers = TopicPartition("trades", 0), TopicPartition("tickers", 0)
    note(trade(1, MINUTE))
    note(head(9, 5 * MINUTE), "tickers")
    assert partitions.are_read(0, tickers, MINUTE)
    assert not partitions.are_read(0, tickers, MINUTE + 1)
    assert partitions.are_read(0, trades, MINUTE + 1)
    note(trade(2, 3 * MINUTE))
    assert partitions.are_read(0, tickers, 3 * MINUTE)
    note(trade(1, 4 * MINUTE), "others")
    assert partitions.are_read(0, tickers, 4 * MINUTE)
    assert not partitions.are_read(1, tickers, 4 * MINUTE)
    now = QUIET_SECONDS
    assert partitions.are_read(1, tickers, 9 * MINUTE)


def test_a_ticker_of_another_topic_opens_no_gap_while_trades_are_behind() -> None:
    """The trades that come are the next ones, and the number that never comes is missing in the end."""
    tracker = GroupTracker()
    tracker.track(slice_of([trade(1, 0)]))
    tickers = [head(number, number * MINUTE) for number in range(2, 9)]
    ahead = tracker.track(slice_of(tickers, topic="tickers", venue="coinbase-ticker"))
    assert (ahead.events, ahead.newest_missing) == ([], [])
    caught_up = tracker.track(slice_of([trade(number, number * MINUTE) for number in range(2, 8)], first_offset=1))
    assert caught_up.events == []
    late = [head(8, 9 * MINUTE), head(8, 11 * MINUTE)]
    tracker.track(slice_of([trade(1, 20 * MINUTE, symbol="OTHER")], first_offset=9))
    found = tracker.track(slice_of(late, topic="tickers", venue="coinbase-ticker", first_offset=9))
    assert found.newest_missing == [NewestMissing("kraken", "BTC-USD", 8, 8)]


def test_a_ticker_names_numbers_of_trades_that_have_no_holes() -> None:
    """Its own numbers have some, so its venue is monotonic: it is compared with the trades of the other view."""
    tracker = GroupTracker()
    tracker.track(slice_of([trade(1, 0)]))
    first = tracker.track(slice_of([head(3, 1), head(9, 1, "NEW")], venue="coinbase-ticker"))
    second = tracker.track(slice_of([head(4, 2 * MINUTE)], venue="coinbase-ticker"))
    assert (first.newest_missing, first.events) == ([], [])
    assert second.newest_missing == [NewestMissing("kraken", "BTC-USD", 2, 3)]
    assert [(event.first_sequence, event.last_sequence) for event in second.events] == [(2, 3)]
    assert tracker.track(slice_of([trade(2, 0)], first_offset=1)).trade_slice.verdicts.tolist() == [STORED]


@pytest.mark.parametrize("newest", [-(2**63), -7, -1, 0, 1, 2**63 - 1])
def test_the_last_number_of_64_bits_may_be_named(newest: int) -> None:
    """By mistake: the job must not end at the message, which it would read again after each start."""
    events = placed(GroupTracker(), [trade(newest, 0), head(2**63 - 1, 1)], is_live=False)
    ranges = [(event.first_sequence, event.last_sequence) for event in events]
    assert sum(last - first + 1 for first, last in ranges) == 2**63 - 1 - newest
    assert all(last - first < 2**63 - 1 for first, last in ranges)
    assert [first for first, _ in ranges[1:]] == [last + 1 for _, last in ranges[:-1]]
