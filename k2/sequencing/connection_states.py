"""The connections of one writer's key groups, persisted in a table property next to the progress.

The numbers of connections are in no row. Without them, a start would not know which messages of a connection came
before, and would take a gap at that place for its beginning.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from k2.model.connections import ConnectionKey, GroupConnections, Seen
from k2.model.documents import read_document
from k2.model.progress import TopicPartition
from k2.model.state_source import Positions
from k2.sequencing.intervals import bounds_of, edges_of

__all__ = ["RANGES_MAX", "ConnectionStates"]

RANGES_MAX: Final = 50_000
"""Maximum number of ranges per writer, about 5 bytes each. Beyond it, the lower half of the connection with the most is
left out, and a start no longer judges those numbers."""
FORMAT: Final = 1


class _Connection(msgspec.Struct, frozen=True):
    exchange: str
    topic: str
    name: str
    session: int
    partition: int
    offset: int
    timestamp: int
    edges: list[int]
    """The first number, then alternately the distance to the end of the range and to the start of the next one."""
    floor: int | None = None


class _Document(msgspec.Struct, frozen=True):
    format: int
    positions: dict[str, int]
    connections: list[_Connection]


class ConnectionStates:
    """The connections of one writer's key groups, as of its committed offsets."""

    def __init__(self, text: str | None = None, ranges_max: int = RANGES_MAX) -> None:
        """Start from the text of the property; None for a table without it.

        Raises:
            ValueError: the text does not have the shape written by `text`, or has another format version.
        """
        self._ranges_max = ranges_max
        document = _Document(FORMAT, {}, []) if text is None else read_document(text, _Document, FORMAT)
        self._positions = {TopicPartition.parse(one): offset for one, offset in document.positions.items()}
        self._groups: dict[int, tuple[Seen, ...]] = {}
        for one in map(_seen, document.connections):
            self._groups[one.key.group] = (*self._groups.get(one.key.group, ()), one)
        self._topics: frozenset[str] = frozenset()
        self._is_changed = False

    def update(self, connections: GroupConnections) -> None:
        """Replace the connections of a key group."""
        self._groups[connections.group] = connections.connections
        self._topics |= connections.topics
        self._is_changed = True

    def advance(self, positions: Positions) -> bool:
        """Note the offsets up to which a commit covers the topics that are read; return whether anything changed.

        They are compared at the next start, so that connections are not continued over messages that a job without
        their numbers has read.
        """
        read = {one: offset for one, offset in positions.items() if one.topic in self._topics}
        is_changed = self._is_changed or any(self._positions.get(one) != offset for one, offset in read.items())
        self._positions |= read
        self._is_changed = False
        return is_changed

    def seen(self, group: int, committed: Positions) -> list[Seen]:
        """Return the connections of a key group that are as of the offsets `committed`."""
        topics = {one.key.topic for one in self._groups.get(group, ())}
        current = {one for one in topics if _of_topic(one, committed) == _of_topic(one, self._positions)}
        return [one for one in self._groups.get(group, ()) if one.key.topic in current]

    def text(self) -> str:
        """Return the text of the property."""
        found = _shortened([one for group in self._groups.values() for one in group], self._ranges_max)
        connections = [
            _Connection(
                *one.key, one.partition, one.offset, one.timestamp, edges_of(one.ranges.reshape(-1).tolist()), one.floor
            )
            for one in sorted(found, key=lambda one: one.key)
        ]
        positions = {str(one): offset for one, offset in sorted(self._positions.items())}
        return msgspec.json.encode(_Document(FORMAT, positions, connections)).decode()


def _of_topic(topic: str, positions: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
    return {one: offset for one, offset in positions.items() if one.topic == topic}


def _shortened(connections: list[Seen], ranges_max: int) -> list[Seen]:
    """Return the connections with at most `ranges_max` ranges in all."""
    while sum(len(one.ranges) for one in connections) > ranges_max:
        idx = max(range(len(connections)), key=lambda idx: len(connections[idx].ranges))
        ranges = connections[idx].ranges[len(connections[idx].ranges) // 2 :]
        if len(ranges) == len(connections[idx].ranges):
            break
        connections[idx] = connections[idx]._replace(ranges=ranges, floor=int(ranges[0, 0]))
    return connections


def _edges(one: Seen) -> list[int]:
    return edges_of(one.ranges.reshape(-1).tolist())


def _seen(one: _Connection) -> Seen:
    ranges = np.array(bounds_of(one.edges), dtype=np.int64).reshape(-1, 2)
    if not len(ranges):
        raise ValueError(f"connection {one.name!r} has no numbers")
    key = ConnectionKey(one.exchange, one.topic, one.name, one.session)
    return Seen(key, ranges, one.partition, one.offset, one.timestamp, one.floor)
