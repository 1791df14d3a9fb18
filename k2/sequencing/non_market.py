"""Sequence numbers of non-market trades, which are neither missing nor in the table.

A tracker whose state is lost or older than the table is rebuilt from the rows of the table. These numbers are in no
row, so they are persisted next to the progress in the same commit. Otherwise each of them would become a gap that is
never filled.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from k2.model.batch import TradeSlice
from k2.model.documents import read_document
from k2.model.progress import PartitionProgress, TopicPartition
from k2.model.state_source import SessionKey, StoredSession
from k2.model.verdicts import SKIPPED
from k2.sequencing.effective_time import effective_time
from k2.sequencing.intervals import IntervalSet, bounds_of, edges_of

__all__ = ["RANGES_MAX", "NonMarketNumbers", "joined"]

RANGES_MAX: Final = 50_000
"""Maximum number of ranges per writer, about 5 bytes each. Beyond it, the lowest ranges of the session with the most
ranges are dropped first."""
FORMAT: Final = 1


@dataclass(slots=True)
class _Numbers:
    """Numbers of one session that came from one topic partition; times are effective times in microseconds."""

    ranges: IntervalSet = field(default_factory=IntervalSet)
    latest: int = np.iinfo(np.int64).min
    """Latest effective time."""
    earliest: int = np.iinfo(np.int64).max
    """Earliest effective time."""
    offset: int = 0
    """Offset of the newest of them."""


class _Session(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    session: int
    topic: str
    partition: int
    offset: int
    latest: int
    edges: list[int]
    """The first number, then alternately the distance to the end of the range and to the start of the next one."""
    earliest: int | None = None
    """None if written by an earlier version."""


class _Document(msgspec.Struct, frozen=True):
    format: int
    sessions: list[_Session]


class NonMarketNumbers:
    """The numbers of non-market trades that one writer has skipped."""

    def __init__(self, text: str | None = None, ranges_max: int = RANGES_MAX) -> None:
        """Start from the text of the property; None for a table without it.

        Raises:
            ValueError: the text does not have the shape written by `text`, or has another format version.
        """
        self._ranges_max = ranges_max
        self._sessions: defaultdict[tuple[SessionKey, TopicPartition], _Numbers] = defaultdict(_Numbers)
        self._is_changed = False
        for one in () if text is None else read_document(text, _Document, FORMAT).sessions:
            bounds = bounds_of(one.edges)
            key = SessionKey(one.exchange, one.symbol, one.session), TopicPartition(one.topic, one.partition)
            earliest = one.latest if one.earliest is None else one.earliest
            self._sessions[key] = _Numbers(IntervalSet(bounds[::2], bounds[1::2]), one.latest, earliest, one.offset)

    def add(self, trade_slice: TradeSlice, committed: Mapping[TopicPartition, PartitionProgress]) -> None:
        """Add the numbers of a tracked slice's skipped rows, except replayed rows below the committed offset."""
        indices = np.flatnonzero(trade_slice.verdicts == SKIPPED)
        if not len(indices):
            return
        source, columns = trade_slice.batch.source, trade_slice.batch.columns
        topic_partition = source.topic_partition
        floor = committed[topic_partition].offset if topic_partition in committed else 0
        rows = trade_slice.rows[indices]
        kafka_timestamps = trade_slice.batch.kafka_timestamps_of(rows).tolist()
        sessions = trade_slice.sessions[indices].tolist()
        for row, session, kafka_timestamp in zip(rows.tolist(), sessions, kafka_timestamps, strict=True):
            offset = trade_slice.batch.offset(row)
            if session and offset >= floor:
                key = SessionKey(*columns.name(row), session), topic_partition
                at = effective_time(int(columns.timestamps[row]), kafka_timestamp)
                self._add_numbers(key, int(columns.first_sequences[row]), int(columns.sequences[row]), at, offset)

    def _add_numbers(self, key: tuple[SessionKey, TopicPartition], first: int, last: int, at: int, offset: int) -> None:
        numbers = self._sessions[key]
        numbers.ranges.add_range(first, last)
        numbers.latest = max(numbers.latest, at)
        numbers.earliest = min(numbers.earliest, at)
        numbers.offset = max(numbers.offset, offset)
        self._is_changed = True

    def take_change(self) -> bool:
        """Return whether numbers were added since the last call, after dropping what exceeds the maximum."""
        is_changed, self._is_changed = self._is_changed, False
        if is_changed:
            self._shrink()
        return is_changed

    def text(self) -> str:
        """Return the text of the property."""
        sessions = [
            _Session(
                *key,
                topic_partition.topic,
                topic_partition.partition,
                numbers.offset,
                numbers.latest,
                edges_of([bound for bounds in numbers.ranges.ranges() for bound in bounds]),
                numbers.earliest,
            )
            for (key, topic_partition), numbers in sorted(self._sessions.items())
        ]
        return msgspec.json.encode(_Document(FORMAT, sessions)).decode()

    def sessions(self) -> Iterator[StoredSession]:
        """Yield the numbers in the form that a tracker absorbs."""
        for (key, topic_partition), numbers in self._sessions.items():
            ranges = tuple(numbers.ranges.ranges())
            if ranges:
                yield StoredSession(key, ranges, numbers.latest, numbers.earliest, topic_partition, numbers.offset)

    def _shrink(self) -> None:
        while sum(len(numbers.ranges) for numbers in self._sessions.values()) > self._ranges_max:
            longest = max((numbers.ranges for numbers in self._sessions.values()), key=len)
            longest.drop_lowest((len(longest) + 1) // 2)


def joined(stored: Iterable[StoredSession]) -> list[StoredSession]:
    """Merge the entries of each session into one; the sessions of a symbol are ascending."""
    sessions: dict[SessionKey, StoredSession] = {}
    for one in stored:
        other = sessions.get(one.key)
        sessions[one.key] = one if other is None else _merged(one, other)
    return [sessions[key] for key in sorted(sessions)]


def _merged(one: StoredSession, other: StoredSession) -> StoredSession:
    ranges = IntervalSet()
    for first, last in (*one.ranges, *other.ranges):
        ranges.add_range(first, last)
    newest = max(one, other, key=lambda session: session.latest)
    return newest._replace(ranges=tuple(ranges.ranges()), earliest=min(one.earliest, other.earliest))
