"""What each of several feeds brought of the same trades: the numbers that it passed over, and how late it was.

A feed brings a number if its trade is stored, or dropped as a copy of the stored one. It passes over a number if one
that is higher, of the same symbol and session, comes before it. What it has passed over it may still bring. Its first
number of a session begins the account: what was before is not judged, except that the first 256 numbers may come in any
order. All this depends only on what the feed brings, and not on what others bring or on when they are read.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME, TradeSlice
from k2.model.feeds import BUCKETS, COLUMNS, SINCE, FeedDay, FeedKey, FeedRange, FeedTopic, GroupFeeds, SymbolFeeds
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Positions, Ranges
from k2.model.symbols import Symbols
from k2.model.verdicts import SKIPPED
from k2.sequencing.feeds_kernel import (
    DAY,
    DAY_US,
    SUM,
    Copies,
    FeedColumns,
    Sums,
    feed_columns,
    follow_feed,
    note_copy,
    session_of,
)
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.ranges import difference, intersection
from k2.sequencing.session import YOUNG
from k2.sequencing.symbol_slots import SymbolSlots

__all__ = ["COPIES", "GAPS_MAX", "SESSIONS_KEPT", "FeedTracker"]

SESSIONS_KEPT: Final = 2
"""Newest sessions of a symbol and feed that are judged: a straggler of an older one counts as brought nowhere."""
GAPS_MAX: Final = 4_096
"""Ranges that a feed may have passed over in a session, 16 bytes each: beyond it, the lower half is judged no more."""
COPIES: Final = 1 << 15
"""Newest trades of a key group whose Kafka timestamps are compared: more than two polls of one symbol."""
SUMS_MAX: Final = 32
"""Days of exchanges whose trades are summed at a time; a replay of years has more."""
_CAPACITY: Final = 64
_NO_DAY: Final = np.iinfo(np.int64).min


class _Brought:
    """The numbers that one feed brought of one session of a symbol, from a floor on."""

    __slots__ = ("first", "numbers", "session")

    def __init__(self, session: int, numbers: IntervalSet, first: int) -> None:
        self.session = session
        self.numbers = numbers
        self.first = first
        """The lowest number that it brought; the lowest of `numbers` is the floor."""

    @property
    def is_plain(self) -> bool:
        """Whether the slot says it all."""
        return len(self.numbers) == 1

    def add(self, first: int, last: int) -> Iterator[tuple[EventKind, int, int]]:
        """Add a trade's numbers; yield what it fills, and what it passes over."""
        numbers = self.numbers
        if last < numbers.lowest:
            if self.first < numbers.lowest or not _is_near(numbers, last):
                return
            if last + 1 < numbers.lowest:
                yield EventKind.FEED_GAP, last + 1, numbers.lowest - 1
            self.first = first
            numbers.add_range(first, last)
            return
        for low, high in _missing(numbers, max(first, numbers.lowest), min(last, numbers.highest)):
            yield EventKind.FEED_GAP_FILLED, low, high
        if first > numbers.highest and first - 1 > numbers.highest:
            yield EventKind.FEED_GAP, numbers.highest + 1, first - 1
        numbers.add_range(max(first, numbers.lowest), last)
        if numbers.gap_count > GAPS_MAX:
            numbers.drop_lowest(len(numbers) // 2)


class _Place(NamedTuple):
    """A row that the loop has not followed."""

    slice_idx: int
    row: int
    slot: int
    feed: int
    session: int


class FeedTracker:
    """The feeds of one key group's symbols.

    Each symbol and feed has a slot of six integers, which suffice for a feed that loses nothing; a compiled loop
    follows its rows. On replay, rows below the committed offsets are ignored: `ranges` has what they brought.
    """

    def __init__(
        self,
        group: int,
        topics: Sequence[FeedTopic],
        symbols: Symbols,
        ranges: Iterable[FeedRange] = (),
        recent: Iterable[SequenceEvent] = (),
        recorded: Mapping[FeedKey, Ranges] = MappingProxyType({}),
        committed: Positions = MappingProxyType({}),
    ) -> None:
        """Continue from the tables.

        Args:
            group: the key group.
            topics: the feeds.
            symbols: the registry of the symbol ids of the rows.
            ranges: what the feeds have reached as of the offsets `committed`.
            recent: events of the last commits, which the ledger may lack, in their order.
            recorded: the numbers that feeds passed over and did not bring, by the ledger.
            committed: the first offset of each topic partition that `ranges` does not know.
        """
        self._group, self._symbols, self._committed = group, symbols, committed
        self._is_open = False
        self._topics = tuple(one.topic for one in topics)
        self._peers = [one.peers for one in topics]
        self._feed_of = {topic: feed for feed, topic in enumerate(self._topics)}
        self._names: list[tuple[str, str]] = []
        self._symbol_slots = SymbolSlots()
        self._slots: NDArray[np.int64] = np.zeros((_CAPACITY, len(topics), COLUMNS), dtype=np.int64)
        self._days: NDArray[np.int64] = np.full((_CAPACITY, 2), _NO_DAY, dtype=np.int64)
        self._brought: dict[tuple[int, int], list[_Brought]] = {}
        self._copies = Copies(
            np.zeros(COPIES, dtype=np.int64),
            np.full(COPIES, -1, dtype=np.int64),
            np.full((COPIES, len(topics)), NULL_TIME, dtype=np.int64),
        )
        self._sum_of: dict[tuple[str, int], int] = {}
        self._sums = _no_sums(len(topics))
        self._events: list[SequenceEvent] = []
        self._restore(ranges, recent, recorded)

    def add(self, trade_slice: TradeSlice) -> list[SequenceEvent]:
        """Add the rows of a slice, which have verdicts and sessions; return the events that they cause.

        The first call also returns events that the ledger lacks. Ignored are rows of a topic that is no feed, and those
        of messages whose headers say that they are of no live feed, as a replay or a fill.
        """
        before = len(self._events) if self._is_open else 0
        self._is_open = True
        trade_slice = trade_slice.with_ids_of(self._symbols)
        topic_partition = trade_slice.batch.source.topic_partition
        feed = self._feed_of.get(topic_partition.topic)
        if feed is None or not len(trade_slice) or trade_slice.batch.source.marks:
            return self._events[before:]
        self._make_slots(trade_slice.batch.columns.symbols[trade_slice.rows])
        columns = feed_columns(trade_slice.batch)
        offsets = trade_slice.batch.offsets_of(trade_slice.rows)
        slice_idx = bisect_left(offsets, self._committed.get(topic_partition, 0))
        while True:
            slice_idx = follow_feed(
                slice_idx,
                feed,
                self._peers[feed],
                trade_slice.rows,
                trade_slice.verdicts,
                trade_slice.sessions,
                columns,
                self._symbol_slots.of,
                self._slots,
                self._days,
                self._copies,
                self._sums,
            )
            if slice_idx == len(trade_slice):
                return self._events[before:]
            self._place(trade_slice, columns, slice_idx, feed)
            slice_idx += 1

    def state(self) -> GroupFeeds:
        """Return what has been reached so far, and what has been added since the last call."""
        count = len(self._names)
        symbols = SymbolFeeds(self._topics, self._names, self._slots[:count].copy())
        older = tuple(
            self._range(slot, feed, one) for (slot, feed), found in self._brought.items() for one in found[:-1]
        )
        events, days = tuple(self._events), tuple(self._each_day())
        self._events = []
        self._clear_sums()
        return GroupFeeds(self._group, symbols, older, events, days)

    def _place(self, trade_slice: TradeSlice, columns: FeedColumns, slice_idx: int, feed: int) -> None:
        """Add one row by the ranges of its symbol and feed."""
        row = int(trade_slice.rows[slice_idx])
        slot = int(self._symbol_slots.of[columns.symbols[row]])
        verdict = int(trade_slice.verdicts[slice_idx])
        session = int(session_of(verdict, int(trade_slice.sessions[slice_idx]), self._slots[slot]))
        first, last = int(columns.first_sequences[row]), int(columns.sequences[row])
        self._select_day(slot, int(columns.timestamps[row]) // DAY_US)
        found = self._found(slot, feed)
        one = next((one for one in found if one.session == session), None)
        if one is not None:
            for kind, low, high in one.add(first, last):
                self._events.append(self._event(trade_slice, row, session, (kind, low, high)))
        elif not found or session > found[-1].session or len(found) < SESSIONS_KEPT:
            found.append(_Brought(session, IntervalSet([first], [last]), first))
            found.sort(key=_session)
            del found[:-SESSIONS_KEPT]
        self._update_slot(slot, feed, found)
        if verdict != SKIPPED:
            time, sum_idx = columns.kafka_timestamps[columns.messages[row]], self._days[slot, SUM]
            note_copy(feed, self._peers[feed], slot, session, last, time, sum_idx, self._copies, self._sums)

    def _found(self, slot: int, feed: int) -> list[_Brought]:
        """Return the sessions of a symbol and feed, brought up to date from the slot."""
        session, first, floor, top_start, highest, _ = self._slots[slot, feed].tolist()
        found = self._brought.get((slot, feed))
        if found is None:
            assert floor == first == top_start or not session, "a session with a hole is kept"
            return [_Brought(session, IntervalSet([top_start], [highest]), first)] if session else []
        found[-1].numbers.extend_top(highest)
        return found

    def _update_slot(self, slot: int, feed: int, found: list[_Brought]) -> None:
        newest = found[-1]
        numbers = newest.numbers
        # In the order of the kernel's columns.
        self._slots[slot, feed] = (
            newest.session,
            newest.first,
            numbers.lowest,
            numbers.top_start,
            numbers.highest,
            self._slots[slot, feed, SINCE] or found[0].session,
        )
        if len(found) > 1 or not newest.is_plain or newest.first != numbers.lowest:
            self._brought[slot, feed] = found
        else:
            self._brought.pop((slot, feed), None)

    def _event(
        self, trade_slice: TradeSlice, row: int, session: int, change: tuple[EventKind, int, int]
    ) -> SequenceEvent:
        columns, source = trade_slice.batch.columns, trade_slice.batch.source
        timestamp, offset = int(columns.timestamps[row]), trade_slice.batch.offset(row)
        (exchange, symbol), (kind, first, last) = columns.name(row), change
        return SequenceEvent(
            exchange, symbol, session, kind, first, last, timestamp, source.topic, source.partition, offset
        )

    def _make_slots(self, symbols: NDArray[np.int32]) -> None:
        """Assign a slot to each symbol that has none."""
        if not self._symbol_slots.add(symbols):
            return
        self._names += map(self._symbols.name, self._symbol_slots.symbol_ids[len(self._names) :])
        added = 2 * len(self._names) - len(self._slots)
        if len(self._names) > len(self._slots):
            self._slots = np.pad(self._slots, ((0, added), (0, 0), (0, 0)))
            self._days = np.pad(self._days, ((0, added), (0, 0)), constant_values=_NO_DAY)

    def _select_day(self, slot: int, day: int) -> None:
        """Let the trades of a symbol count in the sum of a day."""
        if self._days[slot, DAY] == day:
            return
        key = self._names[slot][0], day
        sum_idx = self._sum_of.setdefault(key, len(self._sum_of))
        if sum_idx == len(self._sums.firsts):
            firsts, lags = self._sums
            self._sums = Sums(np.pad(firsts, ((0, sum_idx), (0, 0))), np.pad(lags, ((0, sum_idx), (0, 0), (0, 0))))
        self._days[slot] = day, sum_idx

    def _clear_sums(self) -> None:
        if len(self._sum_of) <= SUMS_MAX:
            # The symbols go on with their days.
            self._sums.firsts[:], self._sums.lags[:] = 0, 0
            return
        self._sum_of, self._sums = {}, _no_sums(len(self._topics))
        self._days[:, DAY] = _NO_DAY

    def _each_day(self) -> Iterator[FeedDay]:
        for (exchange, day), sum_idx in self._sum_of.items():
            for feed, topic in enumerate(self._topics):
                lags = self._sums.lags[sum_idx, feed]
                if lags.any():
                    yield FeedDay(exchange, day, topic, int(self._sums.firsts[sum_idx, feed]), lags.copy())

    def _range(self, slot: int, feed: int, one: _Brought) -> FeedRange:
        key = FeedKey(*self._names[slot], one.session, self._topics[feed])
        since = int(self._slots[slot, feed, SINCE])
        return FeedRange(key, one.first, one.numbers.highest, one.numbers.lowest, since)

    def _restore(
        self, ranges: Iterable[FeedRange], recent: Iterable[SequenceEvent], recorded: Mapping[FeedKey, Ranges]
    ) -> None:
        """Rebuild the ranges from what the ledger has and owes; owed events come first."""
        by_key: dict[FeedKey, list[SequenceEvent]] = {}
        for event in recent:
            by_key.setdefault(_key(event), []).append(event)
        for one in sorted(ranges, key=lambda one: one.key):
            feed = self._feed_of.get(one.key.topic)
            if feed is None:
                continue
            ledger = recorded.get(one.key, ())
            events = by_key.get(one.key, ())
            missing = _missing_after(ledger, events)
            self._events += _owed(ledger, missing, events)
            symbol_id = self._symbols.intern(one.key.exchange, one.key.symbol)
            self._make_slots(np.array([symbol_id], dtype=np.int32))
            slot = int(self._symbol_slots.of[symbol_id])
            numbers = difference(((one.floor, one.last),), missing)
            brought = IntervalSet((first for first, _ in numbers), (last for _, last in numbers))
            found = self._found(slot, feed)
            found.append(_Brought(one.key.session, brought, one.first))
            self._slots[slot, feed, SINCE] = one.since
            self._update_slot(slot, feed, found)


def _no_sums(feeds: int) -> Sums:
    return Sums(np.zeros((1, feeds), dtype=np.int64), np.zeros((1, feeds, BUCKETS), dtype=np.int64))


def _missing_after(ledger: Ranges, events: Iterable[SequenceEvent]) -> Ranges:
    """Return the numbers that are missing by the ledger and by events, each of which it may have or lack."""
    opened, filled = IntervalSet(), IntervalSet()
    for first, last in ledger:
        opened.add_range(first, last)
    for event in events:
        kind = opened if event.event is EventKind.FEED_GAP else filled
        kind.add_range(event.first_sequence, event.last_sequence)
    return difference(tuple(opened.ranges()), tuple(filled.ranges()))


def _owed(ledger: Ranges, missing: Ranges, events: Sequence[SequenceEvent]) -> Iterator[SequenceEvent]:
    """Yield the parts of events that make the ledger's ranges those that are missing."""
    for kind, owed in (
        (EventKind.FEED_GAP, difference(missing, ledger)),
        (EventKind.FEED_GAP_FILLED, difference(ledger, missing)),
    ):
        for event in events:
            if event.event is kind:
                for first, last in intersection(((event.first_sequence, event.last_sequence),), owed):
                    yield event._replace(first_sequence=first, last_sequence=last, is_owed=True)


def _missing(numbers: IntervalSet, first: int, last: int) -> Ranges:
    """Return the missing numbers between two numbers."""
    return difference(((first, last),), tuple(numbers.overlap(first, last))) if first <= last else ()


def _is_near(numbers: IntervalSet, number: int) -> bool:
    """Return whether a number below all others may be one of the first, which come in any order."""
    return numbers.lowest - number <= YOUNG and numbers.has_fewer_than(YOUNG)


def _key(event: SequenceEvent) -> FeedKey:
    return FeedKey(event.exchange, event.symbol, event.session, event.topic)


def _session(one: _Brought) -> int:
    return one.session
