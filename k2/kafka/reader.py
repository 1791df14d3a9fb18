"""One poll of one topic partition as a batch of columns, by either of two ways that give the same batches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError
from numpy.typing import NDArray

from k2.kafka.librdkafka import POLL_MESSAGES_MAX, Fetched, PartitionQueue
from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.errors import OffsetError, UnreachableError
from k2.model.progress import TopicPartition

__all__ = ["ColumnReader", "MessageReader", "Polled", "Reader", "as_batch", "fetched_of"]

MICROSECONDS_PER_MILLISECOND: Final = 1000
MILLISECONDS_END: Final = 253_402_300_800_000
"""The end of the year 9999, where calendars end."""

_OFFSET_LOST: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001  their public spelling
_RIDDEN_OUT: Final = (
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
)
"""What librdkafka goes on trying to mend by itself."""


class Reader(Protocol):
    """Messages of one topic partition, in the order of their offsets."""

    def poll(self) -> Fetched | None:
        """Take what has arrived, without waiting; None for nothing."""

    def close(self) -> None:
        """Stop reading."""


class ColumnReader:
    """Reads from the partition's own queue, without a Python object a message."""

    def __init__(self, queue: PartitionQueue) -> None:
        self._queue = queue

    def poll(self) -> Fetched | None:
        """Take what has arrived, without waiting; None for nothing."""
        return self._queue.poll()

    def close(self) -> None:
        """Give the queue back to librdkafka."""
        self._queue.close()


class MessageReader:
    """Reads by `Consumer.consume()`: for consumers with Python callbacks, and platforms without the bundled library."""

    def __init__(self, consumer: confluent_kafka.Consumer) -> None:
        self._consumer = consumer

    def poll(self) -> Fetched | None:
        """Take what has arrived, without waiting; None for nothing."""
        messages = self._consumer.consume(POLL_MESSAGES_MAX, timeout=0)
        return fetched_of(messages) if messages else None

    def close(self) -> None:
        """Close the partition's consumer."""
        self._consumer.close()


class Polled(NamedTuple):
    """One poll, understood: the messages, where to go on, and whether the partition's end was reached."""

    batch: MessageBatch
    at_end: bool


def as_batch(where: TopicPartition, venue: str, first_offset: int, fetched: Fetched) -> Polled:
    """Turn what a poll gave into the batch that travels; what librdkafka says next to messages is heeded.

    Raises:
        OffsetError: the offset to read from does not exist.
        UnreachableError: the partition can't be read, for a reason that waiting does not mend.
    """
    next_offset, at_end = first_offset, False
    for place in np.flatnonzero(fetched.errors):
        code, offset = int(fetched.errors[place]), int(fetched.offsets[place])
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001
            next_offset, at_end = max(next_offset, offset), True
        elif code not in _RIDDEN_OUT:
            raise _error(where, first_offset, code)
    batch = _messages(where, venue, first_offset, fetched)
    return Polled(_extended(batch, next_offset), at_end)


def _messages(where: TopicPartition, venue: str, first_offset: int, fetched: Fetched) -> MessageBatch:
    count = len(fetched.offsets)
    good: slice | NDArray[np.bool_] = fetched.errors == 0 if fetched.errors.any() else slice(None)
    offsets, timestamps_ms = fetched.offsets[good], fetched.timestamps_ms[good]
    return MessageBatch(
        topic=where.topic,
        partition=where.partition,
        venue=venue,
        first_offset=first_offset,
        next_offset=int(offsets[-1]) + 1 if len(offsets) else first_offset,
        offsets=offsets,
        kafka_timestamps=_microseconds(timestamps_ms),
        data=fetched.data,
        value_starts=fetched.starts[:count][good],
        value_sizes=fetched.sizes[:count][good],
        key_starts=fetched.starts[count:][good],
        key_sizes=fetched.sizes[count:][good],
    )


def _microseconds(timestamps_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return microseconds; none where the broker gave none, or one that no calendar holds."""
    is_time = (timestamps_ms >= 0) & (timestamps_ms < MILLISECONDS_END)
    return np.where(is_time, timestamps_ms * MICROSECONDS_PER_MILLISECOND, NULL_TIME)


def _extended(batch: MessageBatch, next_offset: int) -> MessageBatch:
    """Widen the covered range to the partition's end: offsets without a message (markers) may stand before it."""
    return batch if next_offset <= batch.next_offset else replace(batch, next_offset=next_offset)


def _error(where: TopicPartition, offset: int, code: int) -> OffsetError | UnreachableError:
    if code in _OFFSET_LOST:
        return OffsetError(
            f"{where}: offset {offset} does not exist on the broker (expired, or the topic was made again); nothing "
            "was skipped: see docs/operations.md, 'An offset that no longer exists'"
        )
    return UnreachableError(f"{where} cannot be read: {KafkaError(code).str()}")


def fetched_of(messages: Sequence[confluent_kafka.Message]) -> Fetched:
    """Return confluent-kafka's messages in the columns that the compiled way gives."""
    errors = [message.error() for message in messages]
    values = [None if error else message.value() for message, error in zip(messages, errors, strict=True)]
    keys = [None if error else message.key() for message, error in zip(messages, errors, strict=True)]
    parts = [part for pair in zip(values, keys, strict=True) for part in pair]
    sizes = np.array([-1 if part is None else len(part) for part in parts], dtype=np.int32)
    lengths = np.maximum(sizes, 0).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return Fetched(
        offsets=np.array([message.offset() for message in messages], dtype=np.int64),
        timestamps_ms=np.array([_timestamp_ms(message) for message in messages], dtype=np.int64),
        errors=np.array([error.code() if error else 0 for error in errors], dtype=np.int32),
        data=np.frombuffer(b"".join(part for part in parts if part), dtype=np.uint8),
        sizes=np.concatenate([sizes[::2], sizes[1::2]]),
        starts=np.concatenate([starts[::2], starts[1::2]]),
    )


def _timestamp_ms(message: confluent_kafka.Message) -> int:
    kind, milliseconds = message.timestamp()
    return -1 if kind == confluent_kafka.TIMESTAMP_NOT_AVAILABLE else int(milliseconds)
