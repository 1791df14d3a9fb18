"""Gaps in the numbers of connections: messages that were lost between the venue and Kafka.

The messages of a connection may lie in several partitions of a topic, which are read unevenly. A missing number is in
none of them only once all have been read beyond it: within a partition, the numbers of a connection ascend. So a gap is
reported some time after it was seen, and numbers that come even later are reported as filled. When a gap is reported
depends on the clock of the machine; which numbers are missing in the end does not.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.connections import ConnectionKey, ConnectionSlice, GroupConnections, Seen
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Positions, Ranges
from k2.sequencing.number_runs import (
    END,
    NO_RUNS,
    OFFSET,
    PARTITION,
    START,
    TIMESTAMP,
    merged,
    missing_between,
    runs_of,
)
from k2.sequencing.ranges import difference

__all__ = ["CONNECTIONS_MAX", "RESTART_MAX", "SETTLE_SECONDS", "ConnectionTracker"]

SETTLE_SECONDS: Final = 30.0
"""Time after which a partition without a message of a connection no longer delays the report of its gaps."""
RESTART_MAX: Final = 16
"""Without ids, a number up to this one that is lower than the one before begins a new connection."""
CONNECTIONS_MAX: Final = 64
"""Connections of a key group that are kept: beyond it, those that ended and then the oldest are forgotten."""
RUNS_MAX: Final = 1_000_000
"""Runs of one connection, 40 bytes each: beyond it, the lower half is no longer judged."""


class _Connection:
    """What has been seen of one connection."""

    __slots__ = ("floor", "last_read", "newest", "reported", "runs")

    def __init__(self, runs: NDArray[np.int64] = NO_RUNS, floor: int | None = None) -> None:
        self.runs = runs
        """int64[n, 5], the numbers seen (see `k2.sequencing.number_runs`)."""
        self.floor = floor
        """Numbers below it are not judged; None if all are."""
        self.newest = (0, 0, 0)
        """Partition, offset and Kafka timestamp of the message with the highest number."""
        self.reported: Ranges = ()
        """The missing numbers that the ledger has."""
        self.last_read: dict[int, tuple[int, float]] = {}
        """By partition, the highest number read from it, and when this process read its last message, in seconds."""

    @property
    def highest(self) -> int:
        return int(self.runs[-1, END])

    @property
    def has_unreported(self) -> bool:
        missing = missing_between(self.runs)
        count = int((missing[:, 1] - missing[:, 0] + 1).sum())
        return count != sum(last - first + 1 for first, last in self.reported)

    def read_up_to(self, now: float) -> int:
        """Return the number below which no partition that is being read can have another."""
        reading = [highest for highest, at in self.last_read.values() if now - at < SETTLE_SECONDS]
        return min(reading, default=self.highest)

    def add(self, runs: NDArray[np.int64], newest: tuple[int, int, int]) -> None:
        if not len(self.runs) or runs[-1, END] > self.highest:
            self.newest = newest
        self.runs = merged(self.runs, runs)
        if len(self.runs) > RUNS_MAX:
            self.runs = self.runs[len(self.runs) // 2 :]
            self.floor = int(self.runs[0, START])
            self.reported = _within(self.reported, self.floor, self.highest)


class ConnectionTracker:
    """The connections of one key group.

    Numbers are a set, so it does not matter in which order partitions are read. On replay, messages below the committed
    offsets are ignored: `seen` has their numbers.
    """

    def __init__(
        self,
        group: int,
        seen: Iterable[Seen] = (),
        reported: Mapping[ConnectionKey, Ranges] = MappingProxyType({}),
        committed: Positions = MappingProxyType({}),
    ) -> None:
        """Continue from the tables.

        Args:
            group: the key group.
            seen: its connections as of the offsets `committed`.
            reported: the missing numbers that the ledger has.
            committed: the first offset of each topic partition that `seen` does not know.
        """
        self._group = group
        self._committed = committed
        self._connections: dict[ConnectionKey, _Connection] = {}
        self._sessions: dict[tuple[str, str, str], int] = {}
        self._topics: set[str] = set()
        self._unreported: set[ConnectionKey] = set()
        self._owed: list[SequenceEvent] = []
        for one in sorted(seen, key=lambda seen: seen.key):
            self._restore(one, reported.get(one.key, ()))

    @property
    def has_unreported(self) -> bool:
        """Whether numbers are missing that no event has reported yet."""
        return bool(self._unreported)

    def add(self, connection_slice: ConnectionSlice, now: float) -> list[SequenceEvent]:
        """Add the numbers of some messages of one connection; return the events of numbers that came late.

        `now` is a time in seconds by a clock that only rises. The first call also returns events that the ledger lacks.
        """
        self._topics.add(connection_slice.topic_partition.topic)
        is_new = connection_slice.offsets >= self._committed.get(connection_slice.topic_partition, 0)
        events, self._owed = self._owed, []
        if is_new.any():
            for key, part in self._split(_selected(connection_slice, is_new)):
                events += self._add(key, part, now)
        if len(self._connections) > CONNECTIONS_MAX:
            events += self._forget_oldest()
        return events

    def report(self, now: float, *, is_end: bool = False) -> list[SequenceEvent]:
        """Return the events of missing numbers that are in no partition; all of them at the end of the input."""
        events, self._owed = self._owed, []
        for key in sorted(self._unreported):
            connection = self._connections[key]
            is_over = is_end or key.session < self._sessions[key[:3]]
            events += self._gaps(key, connection, connection.highest if is_over else connection.read_up_to(now))
            self._update_unreported(key, connection)
        return events

    def state(self) -> GroupConnections:
        """Return what has been seen so far."""
        connections = tuple(
            Seen(key, one.runs[:, : END + 1], *one.newest, one.floor) for key, one in self._connections.items()
        )
        return GroupConnections(self._group, frozenset(self._topics), connections)

    def _restore(self, seen: Seen, reported: Ranges) -> None:
        runs = np.empty((len(seen.ranges), 5), dtype=np.int64)
        runs[:, : END + 1] = seen.ranges
        # Which message followed a gap is not known any more.
        runs[:, PARTITION:] = seen.partition, seen.offset, seen.timestamp
        connection = self._connections[seen.key] = _Connection(runs, seen.floor)
        connection.newest = seen.partition, seen.offset, seen.timestamp
        self._sessions[seen.key[:3]] = seen.key.session
        reported = _within(reported, int(runs[0, START]), connection.highest)
        filled = difference(reported, _ranges(missing_between(runs)))
        self._owed += [self._event(seen.key, EventKind.CONNECTION_GAP_FILLED, one, connection.newest) for one in filled]
        connection.reported = difference(reported, filled)
        self._update_unreported(seen.key, connection)

    def _split(self, connection_slice: ConnectionSlice) -> Iterator[tuple[ConnectionKey, ConnectionSlice]]:
        """Yield the messages of each connection: those without an id begin again at low numbers."""
        topic, numbers = connection_slice.topic_partition.topic, connection_slice.numbers
        name = connection_slice.exchange, topic, connection_slice.connection_name
        session = self._sessions.setdefault(name, 1)
        if connection_slice.name is not None:
            yield ConnectionKey(*name, session), connection_slice
            return
        current = self._connections.get(ConnectionKey(*name, session))
        before = np.concatenate([numbers[:1] if current is None else [current.highest], numbers[:-1]])
        restarts = np.flatnonzero((numbers < before) & (numbers <= RESTART_MAX))
        for idx, part in enumerate(np.split(np.arange(len(numbers)), restarts)):
            self._sessions[name] = session + idx
            if len(part):
                yield ConnectionKey(*name, session + idx), _selected(connection_slice, part)

    def _add(self, key: ConnectionKey, part: ConnectionSlice, now: float) -> Iterator[SequenceEvent]:
        connection = self._connections.get(key, _Connection())
        if connection.floor is not None:
            part = _selected(part, part.numbers >= connection.floor)
        if not len(part.numbers):
            return
        self._connections[key] = connection
        partition, top = part.topic_partition.partition, int(part.numbers.argmax())
        highest, _ = connection.last_read.get(partition, (int(part.numbers[top]), now))
        connection.last_read[partition] = max(highest, int(part.numbers[top])), now
        runs = runs_of(part.numbers, partition, part.offsets, part.timestamps)
        if connection.reported:
            yield from self._fills(key, connection, part, _ranges(runs))
        connection.add(runs, (partition, int(part.offsets[top]), int(part.timestamps[top])))
        self._update_unreported(key, connection)

    def _fills(
        self, key: ConnectionKey, connection: _Connection, part: ConnectionSlice, numbers: Ranges
    ) -> Iterator[SequenceEvent]:
        left = difference(connection.reported, numbers)
        for first, last in difference(connection.reported, left):
            message = int(np.flatnonzero(part.numbers == last)[0])
            at = part.topic_partition.partition, int(part.offsets[message]), int(part.timestamps[message])
            yield self._event(key, EventKind.CONNECTION_GAP_FILLED, (first, last), at)
        connection.reported = left

    def _gaps(self, key: ConnectionKey, connection: _Connection, read_up_to: int) -> Iterator[SequenceEvent]:
        missing = missing_between(connection.runs)
        following = np.flatnonzero(missing[:, 1] < read_up_to) + 1
        due = _ranges(missing[following - 1])
        starts = connection.runs[following, START]
        unreported = difference(due, connection.reported)
        for first, last in unreported:
            run = connection.runs[following[np.searchsorted(starts, last)]]
            at = int(run[PARTITION]), int(run[OFFSET]), int(run[TIMESTAMP])
            yield self._event(key, EventKind.CONNECTION_GAP, (first, last), at)
        if unreported:
            connection.reported = _union(connection.reported, unreported)

    def _event(
        self, key: ConnectionKey, kind: EventKind, numbers: tuple[int, int], at: tuple[int, int, int]
    ) -> SequenceEvent:
        partition, offset, timestamp = at
        is_owed = offset < self._committed.get(TopicPartition(key.topic, partition), 0)
        return SequenceEvent(
            key.exchange,
            key.name,
            key.session,
            kind,
            *numbers,
            timestamp,
            key.topic,
            partition,
            offset,
            is_owed,
        )

    def _update_unreported(self, key: ConnectionKey, connection: _Connection) -> None:
        if connection.has_unreported:
            self._unreported.add(key)
        else:
            self._unreported.discard(key)

    def _forget_oldest(self) -> Iterator[SequenceEvent]:
        """Forget connections beyond the maximum, those that another has replaced first; yield what they lack."""

        def is_current_and_newest_at(key: ConnectionKey) -> tuple[bool, int]:
            return key.session == self._sessions[key[:3]], self._connections[key].newest[-1]

        order = sorted(self._connections, key=is_current_and_newest_at)
        for key in order[: len(order) - CONNECTIONS_MAX]:
            connection = self._connections.pop(key)
            yield from self._gaps(key, connection, connection.highest)
            self._unreported.discard(key)
            if self._sessions[key[:3]] == key.session:
                del self._sessions[key[:3]]


def _selected(connection_slice: ConnectionSlice, messages: NDArray[np.bool_] | NDArray[np.int64]) -> ConnectionSlice:
    return connection_slice._replace(
        numbers=connection_slice.numbers[messages],
        offsets=connection_slice.offsets[messages],
        timestamps=connection_slice.timestamps[messages],
    )


def _ranges(bounds: NDArray[np.int64]) -> Ranges:
    return tuple((first, last) for first, last in bounds[:, : END + 1].tolist())


def _within(ranges: Ranges, lowest: int, highest: int) -> Ranges:
    """Return the parts of ranges between two numbers, both inclusive."""
    cut = ((max(first, lowest), min(last, highest)) for first, last in ranges)
    return tuple((first, last) for first, last in cut if first <= last)


def _union(ranges: Ranges, others: Ranges) -> Ranges:
    """Return the union of ranges that do not overlap."""
    return tuple(sorted((*ranges, *others)))
