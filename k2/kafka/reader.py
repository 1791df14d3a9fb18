"""Readers of one topic partition: poll messages as columns, natively or through confluent-kafka, with equal results."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError
from numpy.typing import NDArray

from k2.kafka.librdkafka import POLL_MESSAGES_MAX, Fetched, PartitionQueue
from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.errors import OffsetError, UnreachableError
from k2.model.origin import marks_of
from k2.model.progress import TopicPartition
from k2.model.times import MILLISECONDS_END

__all__ = [
    "ColumnReader",
    "MessageReader",
    "Reader",
    "corrupt_batch",
    "is_truncation",
    "to_batch",
    "to_columns",
]

MICROSECONDS_PER_MILLISECOND: Final = 1000

_OFFSET_LOST: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001  confluent-kafka exports them under these names
_TRUNCATION: Final = "log truncation detected"
"""In the text of librdkafka's error, whose code is that of any offset that does not exist."""
_NO_EPOCH: Final = "No epoch found"
"""As above, if the broker has no messages of the leader epoch or an earlier one."""
_CORRUPT: Final = (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION)  # noqa: SLF001  as above
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

    def high_watermark(self) -> int | None:
        """Return the high watermark of the last fetch; None if nothing was fetched. Sends no request; thread-safe."""

    def wake(self, descriptor: int) -> bool:
        """Write a byte to `descriptor` when messages arrive after a poll without any; False if that cannot be done."""

    def close(self) -> None:
        """Stop reading."""


class ColumnReader:
    """Reads from the queue of the partition, without a Python object per message."""

    def __init__(
        self, queue: PartitionQueue, consumer: confluent_kafka.Consumer, topic_partition: TopicPartition
    ) -> None:
        """Read a queue of a consumer that is shared with other readers, and stays open."""
        self._queue, self._consumer, self._topic_partition = queue, consumer, topic_partition

    def poll(self) -> Fetched | None:
        """Return the messages that have arrived, without waiting; None if there are none."""
        return self._queue.poll()

    def high_watermark(self) -> int | None:
        """Return the high watermark of the last fetch; None if nothing was fetched. Sends no request; thread-safe."""
        return _cached_high_watermark(self._consumer, self._topic_partition)

    def wake(self, descriptor: int) -> bool:
        """Write a byte to `descriptor` when messages arrive after a poll without any; return True."""
        self._queue.wake(descriptor)
        return True

    def close(self) -> None:
        """Release the queue."""
        self._queue.close()


class MessageReader:
    """Reads with `Consumer.consume()`, for consumers with Python callbacks or platforms without the bundled library."""

    def __init__(self, consumer: confluent_kafka.Consumer, topic_partition: TopicPartition) -> None:
        """Read with a consumer that fetches this partition alone, and is closed with the reader."""
        self._consumer, self._topic_partition = consumer, topic_partition
        self._lock = threading.Lock()
        self._is_closed = False
        self._last_high_watermark: int | None = None

    def poll(self) -> Fetched | None:
        """Return the messages that have arrived, without waiting; None if there are none."""
        messages = self._consumer.consume(POLL_MESSAGES_MAX, timeout=0)
        return to_columns(messages) if messages else None

    def high_watermark(self) -> int | None:
        """Return the high watermark of the last fetch; None if nothing was fetched. Sends no request; thread-safe."""
        with self._lock:
            if not self._is_closed:
                self._last_high_watermark = _cached_high_watermark(self._consumer, self._topic_partition)
            return self._last_high_watermark

    def wake(self, descriptor: int) -> bool:  # noqa: ARG002  as the protocol has it
        """Return False: confluent-kafka has no such call."""
        return False

    def close(self) -> None:
        """Close the consumer of the partition; its last high watermark stays known."""
        self.high_watermark()
        # A scrape of the metrics must not ask a consumer that is being closed, nor wait until it is.
        with self._lock:
            self._is_closed = True
        self._consumer.close()


def _cached_high_watermark(consumer: confluent_kafka.Consumer, topic_partition: TopicPartition) -> int | None:
    part = confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition)
    _, high = consumer.get_watermark_offsets(part, cached=True)
    return None if high < 0 else int(high)


def to_batch(topic_partition: TopicPartition, venue: str, first_offset: int, fetched: Fetched) -> MessageBatch:
    """Convert the columns of a poll to a batch, and handle the errors and end-of-partition events among the messages.

    The batch ends before a corrupt batch of Kafka, which `corrupt_batch` returns.

    Raises:
        OffsetError: the offset to read from does not exist.
        UnreachableError: the partition cannot be read, and librdkafka does not retry.
    """
    next_offset = first_offset
    for message_idx in np.flatnonzero(fetched.errors).tolist():
        code, offset = int(fetched.errors[message_idx]), int(fetched.offsets[message_idx])
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001
            next_offset = max(next_offset, offset)
        elif code in _CORRUPT:
            fetched = _before(fetched, message_idx)
            break
        elif code not in _RETRIED_BY_LIBRDKAFKA:
            raise _error(topic_partition, first_offset, code, _text(fetched, message_idx))
    batch = _messages(topic_partition, venue, first_offset, fetched)
    return _extended(batch, next_offset)


def corrupt_batch(topic_partition: TopicPartition, first_offset: int, fetched: Fetched) -> OffsetError | None:
    """Return the error for a batch of Kafka in a poll that cannot be decoded or fails its checksum; None for none."""
    for message_idx in np.flatnonzero(fetched.errors).tolist():
        if int(fetched.errors[message_idx]) in _CORRUPT:
            offset = max(first_offset, int(fetched.offsets[message_idx]))
            return OffsetError(
                f"{topic_partition}: the batch at offset {offset} is corrupt ({_text(fetched, message_idx)}); restore "
                f"it from another replica, or give it up with `k2 recovery skip {topic_partition} --to OFFSET --yes`, "
                "where OFFSET is that of the first message after it"
            )
    return None


def _before(fetched: Fetched, message_idx: int) -> Fetched:
    """Return the first messages and events of a poll; their leader epoch is known only if no messages are left out."""
    count = len(fetched.offsets)
    rows = np.r_[:message_idx, count : count + message_idx]
    return fetched._replace(
        offsets=fetched.offsets[:message_idx],
        timestamps_ms=fetched.timestamps_ms[:message_idx],
        errors=fetched.errors[:message_idx],
        sizes=fetched.sizes[rows],
        starts=fetched.starts[rows],
        leader_epoch=fetched.leader_epoch if fetched.errors[message_idx:].all() else -1,
        marks={idx: marks for idx, marks in fetched.marks.items() if idx < message_idx},
    )


def _text(fetched: Fetched, message_idx: int) -> str:
    start, size = fetched.starts[message_idx], max(0, fetched.sizes[message_idx])
    text = fetched.data[start : start + size].tobytes().decode(errors="replace")
    return text or KafkaError(int(fetched.errors[message_idx])).str()


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
        leader_epoch=fetched.leader_epoch if fetched.leader_epoch >= 0 else None,
        # Events among the messages are left out, so that indices are lower.
        marks={
            idx - int(np.count_nonzero(fetched.errors[:idx])): marks for idx, marks in sorted(fetched.marks.items())
        },
    )


def _microseconds(timestamps_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert to microseconds; `NULL_TIME` if the broker has no timestamp, or one that `datetime` does not support."""
    is_time = (timestamps_ms >= 0) & (timestamps_ms < MILLISECONDS_END)
    return np.where(is_time, timestamps_ms * MICROSECONDS_PER_MILLISECOND, NULL_TIME)


def _extended(batch: MessageBatch, next_offset: int) -> MessageBatch:
    """Extend the offset range to the end of the partition: the last offsets may be markers without a message."""
    return batch if next_offset <= batch.next_offset else replace(batch, next_offset=next_offset)


def is_truncation(code: int, text: str) -> bool:
    """Return whether an error of librdkafka says that the log ends below the position in its leader epoch."""
    return code == KafkaError._LOG_TRUNCATION or (  # noqa: SLF001  as above
        code in _OFFSET_LOST and (_TRUNCATION in text or _NO_EPOCH in text)
    )


def _error(topic_partition: TopicPartition, offset: int, code: int, text: str) -> OffsetError | UnreachableError:
    if is_truncation(code, text):
        return OffsetError(
            f"{topic_partition}: the log was cut below offset {offset} while the job read it ({text}); start the job "
            "again: it compares the log with what the table has, and goes on if none of that was cut"
        )
    if code in _OFFSET_LOST:
        return OffsetError(
            f"{topic_partition}: offset {offset} does not exist on the broker (expired, or the topic was recreated); "
            "nothing was skipped: see docs/operations.md, 'An offset that no longer exists'"
        )
    return UnreachableError(f"{topic_partition} cannot be read: {text}")


def to_columns(messages: Sequence[confluent_kafka.Message]) -> Fetched:
    """Return messages of confluent-kafka as the columns that `PartitionQueue.poll` returns."""
    errors = [message.error() for message in messages]
    values = [
        error.str().encode() if error else message.value() for message, error in zip(messages, errors, strict=True)
    ]
    keys = [None if error else message.key() for message, error in zip(messages, errors, strict=True)]
    parts = [part for pair in zip(values, keys, strict=True) for part in pair]
    sizes = np.array([-1 if part is None else len(part) for part in parts], dtype=np.int32)
    lengths = np.maximum(sizes, 0).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return Fetched(
        offsets=np.array([_offset(message) for message in messages], dtype=np.int64),
        timestamps_ms=np.array([_timestamp_ms(message) for message in messages], dtype=np.int64),
        errors=np.array([error.code() if error else 0 for error in errors], dtype=np.int32),
        # Writable, as the arrays of librdkafka: a rule is compiled for each type of its arguments.
        data=np.frombuffer(bytearray().join(part for part in parts if part), dtype=np.uint8),
        sizes=np.concatenate([sizes[::2], sizes[1::2]]),
        starts=np.concatenate([starts[::2], starts[1::2]]),
        marks={
            idx: marks
            for idx, message in enumerate(messages)
            if not message.error() and (marks := marks_of(_headers(message))) is not None
        },
        leader_epoch=next((_leader_epoch(message) for message in reversed(messages) if not message.error()), -1),
    )


def _headers(message: confluent_kafka.Message) -> Iterable[tuple[str, bytes | str | None]]:
    headers = message.headers() or ()
    return headers.items() if isinstance(headers, dict) else headers


def _offset(message: confluent_kafka.Message) -> int:
    offset = message.offset()
    return confluent_kafka.OFFSET_INVALID if offset is None else int(offset)


def _timestamp_ms(message: confluent_kafka.Message) -> int:
    kind, milliseconds = message.timestamp()
    return -1 if kind == confluent_kafka.TIMESTAMP_NOT_AVAILABLE else int(milliseconds)


def _leader_epoch(message: confluent_kafka.Message) -> int:
    epoch = message.leader_epoch()
    return -1 if epoch is None else int(epoch)
