"""What the broker has beyond the committed offsets, found by reading from there without a consumer group."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import confluent_kafka
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException

from k2.kafka.config import bootstrap_servers, cluster_metadata, config_errors, consumer_config, partitions_of
from k2.kafka.first_answers import first_answers
from k2.model.errors import UnreachableError
from k2.model.progress import TopicPartition
from k2.model.times import MILLISECONDS_END, time_of
from k2.ops.settings import Settings

__all__ = ["PartitionEnd", "find_ends", "partitions_of_topics"]

ANSWER_SECONDS_MAX: Final = 5.0
FETCH_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """The end of a topic partition, as seen from an offset."""

    end_offset: int
    """High watermark of the fetch; the offset itself if nothing after it is to be read."""
    unread: int
    """Offsets from the given one to the end; 0 if only markers of transactions are left."""
    oldest_unread: datetime | None
    """Kafka timestamp of the next message; None if there is none, or it has no timestamp."""
    held_back: int = 0
    """Offsets after the end that an open transaction holds back; 0 if something before them is unread."""
    first_offset: int | None = None
    """Set only if the given offset does not exist at the broker: the first offset that does."""


def partitions_of_topics(settings: Settings, topics: Iterable[str]) -> dict[str, list[TopicPartition]]:
    """Ask the broker for the partitions of topics; a topic that does not exist has none.

    Raises:
        UnreachableError: no broker answers in time, or it rejects the login, or a topic cannot be read.
        SettingsError: librdkafka rejects the configuration.
    """
    cluster = cluster_metadata(settings, ANSWER_SECONDS_MAX)
    return {topic: partitions_of(cluster, topic) for topic in topics}


def find_ends(settings: Settings, offsets: Mapping[TopicPartition, int | None]) -> dict[TopicPartition, PartitionEnd]:
    """Find the end of each partition by reading from an offset to its first message or to the end-of-partition event.

    An offset of None is the first that the broker has. Transaction markers are passed over, so that a partition whose
    last offsets are markers has nothing unread.

    Raises:
        UnreachableError: no broker answers in time, or a partition cannot be read.
        SettingsError: librdkafka rejects the configuration.
    """
    if not offsets:
        return {}
    errors: list[KafkaError] = []
    with config_errors(settings):
        consumer = confluent_kafka.Consumer(
            consumer_config(
                settings,
                **{"fetch.wait.max.ms": 5, "fetch.message.max.bytes": FETCH_BYTES, "queued.min.messages": 1},
                log_level=2,
                error_cb=errors.append,
            )
        )
    try:
        consumer.assign(
            [
                confluent_kafka.TopicPartition(
                    one.topic, one.partition, confluent_kafka.OFFSET_BEGINNING if offset is None else offset
                )
                for one, offset in offsets.items()
            ]
        )
        return _read_ends(consumer, offsets, errors, bootstrap_servers(settings))
    except KafkaException as error:
        raise UnreachableError(f"the Kafka broker rejects a request: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _read_ends(
    consumer: confluent_kafka.Consumer,
    offsets: Mapping[TopicPartition, int | None],
    errors: list[KafkaError],
    servers: str,
) -> dict[TopicPartition, PartitionEnd]:
    found = {
        topic_partition: _end(consumer, message, topic_partition, offsets[topic_partition])
        for topic_partition, message in first_answers(consumer, offsets, ANSWER_SECONDS_MAX)
    }
    for waiting in sorted(offsets.keys() - found.keys()):
        below = None if errors else _end_below(consumer, waiting, offsets[waiting])
        if below is not None:
            found[waiting] = below
            continue
        cause = next((error.str() for error in reversed(errors)), f"no answer within {ANSWER_SECONDS_MAX:.0f} s")
        raise UnreachableError(f"no Kafka broker at {servers} returns the end of {waiting}: {cause}")
    return found


def _end_below(
    consumer: confluent_kafka.Consumer, topic_partition: TopicPartition, offset: int | None
) -> PartitionEnd | None:
    """Return the end of a partition that does not answer if it is below the offset, else None.

    Kafka rejects such an offset, but Tansu, the broker of the demo, holds the fetch.
    """
    part = confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition)
    with contextlib.suppress(KafkaException):
        low, high = consumer.get_watermark_offsets(part, timeout=ANSWER_SECONDS_MAX) or (0, 0)
        if offset is None or high >= offset:
            return None
        # Tansu's watermark is that of the last batch's first message; what is fetched has the true one.
        last = max(low, high - 1)
        consumer.assign([confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition, last)])
        answer = next(first_answers(consumer, [topic_partition], ANSWER_SECONDS_MAX), None)
        if answer is not None and (end := _end(consumer, answer[1], topic_partition, last).end_offset) < offset:
            return PartitionEnd(end, 0, None, first_offset=low)
    return None


def _end(
    consumer: confluent_kafka.Consumer,
    message: confluent_kafka.Message,
    topic_partition: TopicPartition,
    offset: int | None,
) -> PartitionEnd:
    error, at = message.error(), int(message.offset() or 0)
    part = confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition)
    if error is None:
        high = max(at + 1, consumer.get_watermark_offsets(part, cached=True)[1])
        return PartitionEnd(high, high - (at if offset is None else offset), _timestamp(message))
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent-kafka exports it under this name
        # The event comes at the last stable offset; the high watermark is beyond it while a transaction is open.
        end = max(at, offset or 0)
        high = consumer.get_watermark_offsets(part, cached=True)[1]
        return PartitionEnd(end, 0, None, held_back=max(0, high - end))
    if error.code() in _NO_OFFSET and offset is not None:
        low, high = consumer.get_watermark_offsets(part, timeout=ANSWER_SECONDS_MAX) or (0, 0)
        return PartitionEnd(high, max(0, high - offset), None, first_offset=low)
    raise UnreachableError(f"{topic_partition} cannot be read: {error.str()}")


_NO_OFFSET: Final = (
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001  confluent-kafka exports it under this name
)


def _timestamp(message: confluent_kafka.Message) -> datetime | None:
    kind, milliseconds = message.timestamp()
    is_time = kind != TIMESTAMP_NOT_AVAILABLE and 0 <= milliseconds < MILLISECONDS_END
    return time_of(milliseconds * 1_000) if is_time else None
