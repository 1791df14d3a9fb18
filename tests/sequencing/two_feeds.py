"""Feeds for tests: topics with the trades of one market, read as the sequence and feeds steps read them."""

from collections.abc import Mapping, Sequence
from typing import Final

from k2.model.feeds import FeedKey, FeedTopic, GroupFeeds
from k2.model.key_groups import group_of
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Ranges
from k2.model.symbols import Symbols
from k2.model.verdicts import DUPLICATE, STORED
from k2.sequencing.feed_states import FeedStates
from k2.sequencing.feeds import FeedTracker
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.ranges import difference
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of

__all__ = ["SYMBOLS", "TOPICS", "Job", "missing_numbers", "missing_ranges"]

TOPICS: Final = (FeedTopic("ta", "A", 2), FeedTopic("tb", "B", 2))
SYMBOLS: Final = tuple(name for name in map("S{}".format, range(64)) if group_of("kraken", name) == 0)[:2]
"""Symbols of one key group."""


def missing_ranges(events: Sequence[SequenceEvent]) -> Mapping[FeedKey, Ranges]:
    """Return the numbers that events leave as missing, as `k2.query.feed_gaps` does."""
    sets: dict[FeedKey, tuple[IntervalSet, IntervalSet]] = {}
    for one in events:
        key = FeedKey(one.exchange, one.symbol, one.session, one.topic)
        opened, filled = sets.setdefault(key, (IntervalSet(), IntervalSet()))
        kind = opened if one.event is EventKind.FEED_GAP else filled
        kind.add_range(one.first_sequence, one.last_sequence)
    return {key: difference((*opened.ranges(),), (*filled.ranges(),)) for key, (opened, filled) in sets.items()}


def missing_numbers(events: Sequence[SequenceEvent]) -> dict[FeedKey, set[int]]:
    """Return the same as numbers, of feeds that miss any."""
    ranges = missing_ranges(events)
    found = {key: {n for first, last in one for n in range(first, last + 1)} for key, one in ranges.items()}
    return {key: numbers for key, numbers in found.items() if numbers}


class Job:
    """The trackers of sequences and of feeds over the logs of topics, with tables that survive crashes.

    The tables are the trades' progress with its feeds, the state of the sequences as of it, and the ledger.
    """

    def __init__(self, logs: Mapping[str, Sequence[Row]]) -> None:
        self.logs = logs
        self.committed: dict[TopicPartition, int] = {}
        self.table: tuple[str | None, object] = (None, None)
        self.ledger: list[SequenceEvent] = []
        self.unwritten: list[SequenceEvent] = []
        self.batches: list[GroupFeeds] = []
        self.judged: dict[tuple[str, int], tuple[str, int, int]] = {}
        """Symbol, session and number of each message that is stored or a copy, by topic and offset."""
        self.start()

    def start(self) -> None:
        """Start from the table; the ledger is rolled back to it, and loses what was not written."""
        text, sequences = self.table
        self.ledger = [one for one in self.ledger if one.offset < self.committed.get(TopicPartition(one.topic, 0), 0)]
        self.unwritten, self.batches = [], []
        self.judged = {
            (topic, offset): one
            for (topic, offset), one in self.judged.items()
            if offset < self.committed.get(TopicPartition(topic, 0), 0)
        }
        self.states = FeedStates(text)
        known = FeedStates(text)
        self.states.begin(TOPICS)
        symbols = Symbols()
        self.tracker = GroupTracker(sequences, symbols=symbols)  # type: ignore[arg-type]
        ranges, events = known.ranges(0, self.committed), known.events(0)
        self.feeds = FeedTracker(0, TOPICS, symbols, ranges, events, missing_ranges(self.ledger), self.committed)
        self.places = {topic: self.committed.get(TopicPartition(topic, 0), 0) for topic in self.logs}

    def read(self, topic: str, count: int) -> None:
        """Read some messages of a topic as one batch."""
        first = self.places[topic]
        rows = self.logs[topic][first : first + count]
        self.places[topic] += len(rows)
        tracked = self.tracker.track(slice_of(rows, topic=topic, first_offset=first))
        found = zip(rows, tracked.trade_slice.verdicts, tracked.trade_slice.sessions, strict=True)
        for idx, (row, verdict, session) in enumerate(found):
            if verdict in {STORED, DUPLICATE}:
                assert row.sequence is not None
                self.judged[topic, first + idx] = row.symbol, int(session), row.sequence
        self.unwritten += self.feeds.add(tracked.trade_slice)
        self.batches.append(self.feeds.state())

    def write_events(self) -> None:
        """Commit the events of the epoch; the commit of the trades may follow, or not."""
        self.ledger += self.unwritten
        self.unwritten = []

    def commit(self) -> None:
        """Commit the trades; the commit of the events may follow, or not."""
        self.committed = {TopicPartition(topic, 0): place for topic, place in self.places.items()}
        for one in self.batches:
            self.states.update(one)
        self.batches = []
        self.states.advance(self.committed)
        self.table = self.states.text(), self.tracker.snapshot()

    def close(self) -> None:
        """Close an epoch: commit both."""
        self.write_events()
        self.commit()
