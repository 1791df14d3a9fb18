"""Readers of one topic partition: poll messages as columns, natively or through confluent-kafka, with equal results."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError
from numpy.typing import NDArray

from k2.kafka.librdkafka import POLL_MESSAGES_MAX, Fetched, PartitionQueue
from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.errors import OffsetError, UnreachableError
from k2.model.progress import TopicPartition
from k2.model.times import MILLISECONDS_END

__all__ = ["ColumnReader", "MessageReader", "Reader", "to_batch", "to_columns"]

MICROSECONDS_PER_MILLISECOND: Final = 1000

_OFFSET_LOST: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001  confluent-kafka exports them under these names
_RETRIED_BY_LIBRDKAFKA: Final = (
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
)
"""Errors after which librdkafka itself retries."""


class Reader(Protocol):
    """Messages of one topic partition, in the order of their offsets."""

    def poll(self) -> Fetched | None:
        """Return the messages that have arrived, without waiting; None if there are none."""

    def close(self) -> None:
        """Stop reading."""


class ColumnReader:
    """Reads from the queue of the partition, without a Python object per message."""

    def __init__(self, queue: PartitionQueue) -> None:
        self._queue = queue

    def poll(self) -> Fetched | None:
        """Return the messages that have arrived, without waiting; None if there are none."""
        return self._queue.poll()

    def close(self) -> None:
        """Release the queue."""
        self._queue.close()


class MessageReader:
    """Reads with `Consumer.consume()`, for consumers with Python callbacks or platforms without the bundled library."""

    def __init__(self, consumer: confluent_kafka.Consumer) -> None:
        self._consumer = consumer

    def poll(self) -> Fetched | None:
        """Return the messages that have arrived, without waiting; None if there are none."""
        messages = self._consumer.consume(POLL_MESSAGES_MAX, timeout=0)
        return to_columns(messages) if messages else None

    def close(self) -> None:
        """Close the consumer of the partition."""
        self._consumer.close()


def to_batch(topic_partition: TopicPartition, venue: str, first_offset: int, fetched: Fetched) -> MessageBatch:
    """Convert the columns of a poll to a batch, and handle the errors and end-of-partition events among the messages.

    Raises:
        OffsetError: the offset to read from does not exist.
        UnreachableError: the partition cannot be read, and librdkafka does not retry.
    """
    next_offset = first_offset
    for message_idx in np.flatnonzero(fetched.errors):
        code, offset = int(fetched.errors[message_idx]), int(fetched.offsets[message_idx])
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001
            next_offset = max(next_offset, offset)
        elif code not in _RETRIED_BY_LIBRDKAFKA:
            raise _error(topic_partition, first_offset, code)
    batch = _messages(topic_partition, venue, first_offset, fetched)
    return _extended(batch, next_offset)


def _messages(topic_partition: TopicPartition, venue: str, first_offset: int, fetched: Fetched) -> MessageBatch:
    count = len(fetched.offsets)
    valid: slice | NDArray[np.bool_] = fetched.errors == 0 if fetched.errors.any() else slice(None)
    offsets, timestamps_ms = fetched.offsets[valid], fetched.timestamps_ms[valid]
    return MessageBatch(
        topic=topic_partition.topic,
        partition=topic_partition.partition,
        venue=venue,
        first_offset=first_offset,
        next_offset=int(offsets[-1]) + 1 if len(offsets) else first_offset,
        offsets=offsets,
        kafka_timestamps=_microseconds(timestamps_ms),
        data=fetched.data,
        value_starts=fetched.starts[:count][valid],
        value_sizes=fetched.sizes[:count][valid],
        key_starts=fetched.starts[count:][valid],
        key_sizes=fetched.sizes[count:][valid],
    )


def _microseconds(timestamps_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert to microseconds; `NULL_TIME` if the broker has no timestamp, or one that `datetime` does not support."""
    is_time = (timestamps_ms >= 0) & (timestamps_ms < MILLISECONDS_END)
    return np.where(is_time, timestamps_ms * MICROSECONDS_PER_MILLISECOND, NULL_TIME)


def _extended(batch: MessageBatch, next_offset: int) -> MessageBatch:
    """Extend the offset range to the end of the partition: the last offsets may be markers without a message."""
    return batch if next_offset <= batch.next_offset else replace(batch, next_offset=next_offset)


def _error(topic_partition: TopicPartition, offset: int, code: int) -> OffsetError | UnreachableError:
    if code in _OFFSET_LOST:
        return OffsetError(
            f"{topic_partition}: offset {offset} does not exist on the broker (expired, or the topic was recreated); "
            "nothing was skipped: see docs/operations.md, 'An offset that no longer exists'"
        )
    return UnreachableError(f"{topic_partition} cannot be read: {KafkaError(code).str()}")


def to_columns(messages: Sequence[confluent_kafka.Message]) -> Fetched:
    """Return messages of confluent-kafka as the columns that `PartitionQueue.poll` returns."""
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
