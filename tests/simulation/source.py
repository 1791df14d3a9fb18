"""The real Kafka source over partitions in memory: the same start, batches and snapshots, another broker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Final

import numpy as np
from confluent_kafka import KafkaError

from k2.kafka import source
from k2.kafka.broker_connection import BrokerConnection
from k2.kafka.last_messages import Reread
from k2.kafka.librdkafka import Fetched
from k2.kafka.reader import to_batch
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.health import Health
from tests.simulation.market import Log, PartitionKey, Published

__all__ = ["Window", "fetched", "read_from_memory", "row"]

POLLS_MAX: Final = 8
"""About this many polls empty a partition, whatever its size: each can cost a commit."""
Row = tuple[int, int, int, bytes | None, bytes | None]
"""Offset, timestamp, error, value and key of one row of a poll."""


@dataclass(frozen=True)
class Window:
    """The offsets of each partition that the broker has: from `low` to `end` (exclusive)."""

    ends: Mapping[PartitionKey, int]
    lows: Mapping[PartitionKey, int]
    """0 for partitions that are not named."""


def read_from_memory(logs: Mapping[PartitionKey, Log], window: Window, rng: Random, pause: timedelta) -> None:
    """Make this process's Kafka sources read logs, in an order given by `rng`, with a pause between polls."""
    client = _Client(logs, window, rng.random())
    source.KafkaClient = lambda _settings, **_: client  # type: ignore[misc,assignment]
    source.topic_ids = lambda _settings: {}
    source.topic_partitions = lambda _settings: sorted(TopicPartition(*partition) for partition in window.ends)
    source.PAUSE = pause  # type: ignore[misc]


class _Client:
    """The part of a Kafka client that the source uses."""

    def __init__(self, logs: Mapping[PartitionKey, Log], window: Window, salt: float) -> None:
        self.connection = BrokerConnection(Health())
        self._logs, self._salt = logs, salt
        self._ends = {TopicPartition(*partition): end for partition, end in window.ends.items()}
        self._lows = {TopicPartition(*partition): low for partition, low in window.lows.items()}

    def low_watermarks(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self._lows.get(partition, 0) for partition in partitions}

    def high_watermarks(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self._ends[partition] for partition in partitions}

    def offsets_at(self, partitions: Iterable[TopicPartition], time_ms: int) -> dict[TopicPartition, int | None]:
        raise AssertionError("the simulation begins each topic at its first message")

    def read_again(
        self, entries: Mapping[TopicPartition, PartitionProgress], lows: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, Reread]:
        return {partition: self._reread(partition, entry, lows[partition]) for partition, entry in entries.items()}

    def _reread(self, partition: TopicPartition, entry: PartitionProgress, low: int) -> Reread:
        assert entry.last_message is not None
        offset, end = entry.last_message.offset, self._ends[partition]
        messages = self._logs[partition.topic, partition.partition].messages
        there = [message for message in messages if max(low, offset) <= message.offset < end]
        last = next((one for one in there if one.offset == offset), None)
        return Reread(
            None if last is None else to_batch(partition, "", offset, fetched([row(last)])).last_message(),
            next((one.offset for one in there if one.offset > offset), None),
        )

    def open(self, partition: TopicPartition, offset: int) -> "_Reader":
        log = self._logs[partition.topic, partition.partition]
        return _Reader(log, self._ends[partition], offset, Random(f"{partition} {self._salt}"))

    def serve(self) -> None:
        pass

    def lag(self, reader: "_Reader", position: int) -> int:
        return reader.high_watermark() - position

    def partition_count(self, topic: str) -> int:
        return sum(partition.topic == topic for partition in self._ends)

    def commit(self, offsets: Mapping[TopicPartition, int], *, wait: bool) -> None:
        pass


class _Reader:
    """Polls of random size; sometimes a partition has nothing for a while."""

    def __init__(self, log: Log, end: int, offset: int, rng: Random) -> None:
        self._left = [message for message in log.messages if offset <= message.offset < end]
        self._end, self._rng = end, rng
        self._size_max = max(rng.choice([3, 12, 40, 1000]), 2 * len(self._left) // POLLS_MAX)
        self._pause = rng.choice([0.0, 0.3, 0.6])
        self._silent = rng.choice([0, 0, 3, 12])

    def poll(self) -> Fetched | None:
        """Take what has arrived; the end of the partition is reported in the last poll, or in a later one."""
        if self._silent:
            self._silent -= 1
            return None
        if self._rng.random() < self._pause:
            self._silent = self._rng.choice([0, 1, 4])
            return None
        count = self._rng.randint(1, self._size_max)
        taken, self._left = self._left[:count], self._left[count:]
        rows = [row(message) for message in taken]
        if not self._left and (not taken or self._rng.random() < 0.5):
            rows.append((self._end, -1, int(KafkaError._PARTITION_EOF), b"end of partition", None))
        return fetched(rows)

    def high_watermark(self) -> int:
        return self._end

    def wake(self, descriptor: int) -> bool:
        return False

    def close(self) -> None:
        """Stop reading."""


def row(message: Published) -> Row:
    """Return a message as a row of a poll."""
    return message.offset, message.timestamp_ms, 0, message.value, message.key


def fetched(rows: list[Row]) -> Fetched:
    """Return rows in the form of librdkafka's poll."""
    parts = [value for _, _, _, value, _ in rows] + [key for _, _, _, _, key in rows]
    sizes = np.array([-1 if part is None else len(part) for part in parts], dtype=np.int32)
    lengths = np.maximum(sizes, 0).astype(np.int64)
    return Fetched(
        offsets=np.array([row[0] for row in rows], dtype=np.int64),
        timestamps_ms=np.array([row[1] for row in rows], dtype=np.int64),
        errors=np.array([row[2] for row in rows], dtype=np.int32),
        data=np.frombuffer(b"".join(part for part in parts if part), dtype=np.uint8),
        sizes=sizes,
        starts=np.cumsum(lengths) - lengths,
    )
