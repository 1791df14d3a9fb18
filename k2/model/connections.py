"""Numbers of connections: what a venue counts up with each message of a connection, whatever the message is about."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from k2.model.key_groups import group_of
from k2.model.progress import TopicPartition
from k2.model.state_source import Positions, Ranges

__all__ = ["ConnectionKey", "ConnectionSlice", "ConnectionSource", "GroupConnections", "Seen"]


class ConnectionKey(NamedTuple):
    """Identifies one connection of a collector to a venue.

    Its events have `name` as their symbol, so that they belong to the key group, and with it to the writer, of that
    name.
    """

    exchange: str
    topic: str
    name: str
    """The id that its messages have; without one `topic:partition`."""
    session: int
    """1; without an id the ordinal of the connection in its topic partition."""

    @property
    def group(self) -> int:
        """The key group."""
        return group_of(self.exchange, self.name)


class ConnectionSlice(NamedTuple):
    """The n numbered messages of one batch that belong to one connection, in offset order; n may be 0."""

    exchange: str
    topic_partition: TopicPartition
    name: str | None
    """The id of the connection; None if the venue gives none, so that each partition has one connection at a time."""
    numbers: NDArray[np.int64]
    """int64[n]"""
    offsets: NDArray[np.int64]
    """int64[n], Kafka offsets."""
    timestamps: NDArray[np.int64]
    """int64[n], Kafka timestamps, microseconds since the epoch, UTC; 0 where there is none."""

    @property
    def connection_name(self) -> str:
        """The name of the connection, as of `ConnectionKey`."""
        return str(self.topic_partition) if self.name is None else self.name

    @property
    def group(self) -> int:
        """The key group of the connection."""
        return group_of(self.exchange, self.connection_name)


class Seen(NamedTuple):
    """The numbers seen of one connection, and the coordinates of the message with the highest."""

    key: ConnectionKey
    ranges: NDArray[np.int64]
    """int64[n, 2], n > 0: ascending ranges that neither overlap nor touch, first and last number of each."""
    partition: int
    offset: int
    timestamp: int
    """Kafka timestamp, microseconds since the epoch; 0 if there is none."""
    floor: int | None = None
    """Numbers below it are not judged any more, because too many ranges were missing; None if all are."""


class GroupConnections(NamedTuple):
    """The connections of one key group, as of all messages that it was given."""

    group: int
    topics: frozenset[str]
    """The topics that are read for numbers of connections."""
    connections: tuple[Seen, ...]


class ConnectionSource(Protocol):
    """Reads what the tables have of the connections, as they were when the process started."""

    def seen(self, group: int) -> Iterable[Seen]:
        """Return the connections of a group as of its committed offsets."""

    def committed(self, group: int) -> Positions:
        """Return the committed offset of each topic partition for a group: `seen` knows the messages below it."""

    def missing(self) -> Mapping[ConnectionKey, Ranges]:
        """Return the numbers that the ledger has as missing; call this after the ledger is rolled back."""
