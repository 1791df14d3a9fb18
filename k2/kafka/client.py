"""Kafka client: one consumer per process, with partition metadata, watermarks, lag and group offsets."""

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException

from k2.kafka.broker_connection import BrokerConnection
from k2.kafka.config import (
    admin_client,
    cluster_metadata,
    config_errors,
    consumer_config,
    existing_partitions,
    find_topic_ids,
)
from k2.kafka.first_answers import first_answers
from k2.kafka.last_messages import Reread, read_again
from k2.kafka.librdkafka import Library, PartitionQueue, load_library
from k2.kafka.reader import ColumnReader, MessageReader, Reader
from k2.model.errors import UnreachableError
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.health import Health
from k2.ops.logs import LIBRDKAFKA
from k2.ops.retry import ELECTION
from k2.ops.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

__all__ = ["KafkaClient", "TopicIds", "topic_ids", "topic_partitions"]

ANSWER_SECONDS_MAX: Final = 10.0
COMMIT_SECONDS_MAX: Final = 5.0
SERVE_SECONDS: Final = 0.1

_ELECTING: Final = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)

_LOG = structlog.get_logger()
_LIBRDKAFKA_LOG: Final = logging.getLogger(LIBRDKAFKA)


def topic_partitions(settings: Settings) -> list[TopicPartition]:
    """Ask the broker for the partitions of every topic in `K2_TOPICS`.

    Raises:
        UnreachableError: the broker does not answer, or rejects the login.
        SettingsError: a topic does not exist.
    """
    cluster = cluster_metadata(settings, ANSWER_SECONDS_MAX)
    return [
        topic_partition
        for topic, _ in settings.topics
        for topic_partition in existing_partitions(settings, cluster, topic)
    ]


def topic_ids(settings: Settings) -> dict[str, str]:
    """Return the ids of the configured topics, as `find_topic_ids`; no ids if the broker does not support them."""
    try:
        return find_topic_ids(settings, [topic for topic, _ in settings.topics])
    except (KafkaException, TimeoutError) as error:
        _LOG.warning(
            "topic_ids_unavailable",
            error=str(error),
            effect="a recreated topic is detected only if it is shorter than before",
        )
        return {}


class TopicIds:
    """Asks for topic ids, one after the other, by a client of its own that is made for the first of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AdminClient | None = None

    def find(self, topic: str) -> str:
        """Ask the broker for the id of a topic.

        Raises:
            KafkaException, TimeoutError: it does not exist, or no broker answers.
            SettingsError, UnreachableError: no client can be made now, as `admin_client`; the next call tries again.
        """
        if self._client is None:
            self._client = admin_client(self._settings)
        return find_topic_ids(self._settings, [topic], self._client)[topic]


class KafkaClient:
    """The consumer of this process, shared by its source partitions; thread-safe.

    Group offsets are committed for lag monitoring only; reading never starts from them.
    """

    def __init__(
        self,
        settings: Settings,
        callbacks: Mapping[str, Any] | None = None,
        health: Health | None = None,
        partition_count: int = 1,
    ) -> None:
        """Make the consumer, for as many partitions as all processes read."""
        self.connection = BrokerConnection(Health() if health is None else health)
        self._config = consumer_config(settings, partition_count, **(callbacks or {}))
        self._lock = threading.Lock()
        self._served_at = 0.0
        with config_errors(settings):
            self._consumer = confluent_kafka.Consumer(self._config, logger=_LIBRDKAFKA_LOG)
        # A client with callbacks into Python cannot be read from by librdkafka's C interface.
        has_callbacks = bool(callbacks) or "oauth_cb" in self._config
        self._library: Library | None = None if has_callbacks else load_library()
        self._handle = self._library.handle(self._consumer) if self._library else None

    def low_watermarks(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask the broker for the first offset that it has of each partition; wait while it elects a leader.

        Raises:
            UnreachableError: the broker does not answer in time, or a partition has no leader by then.
        """
        return {topic_partition: self._low_watermark(topic_partition) for topic_partition in partitions}

    def _low_watermark(self, topic_partition: TopicPartition) -> int:
        part = confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition)
        try:
            found = _once_elected(self._consumer.get_watermark_offsets, part, timeout=ANSWER_SECONDS_MAX)
        except KafkaException as error:
            raise UnreachableError(
                f"the broker does not return the offsets of {topic_partition}: {error.args[0].str()}"
            ) from None
        if found is None:
            raise UnreachableError(
                f"the broker does not return the offsets of {topic_partition} within {ANSWER_SECONDS_MAX:.0f} s"
            )
        return int(found[0])

    def high_watermarks(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Find the current end offset of each partition by reading from its last offset to the end-of-partition event.

        A ListOffsets request for the latest offset is not reliable: the answer of Tansu is too low.

        Raises:
            UnreachableError: the events do not arrive in time.
        """
        consumer = confluent_kafka.Consumer({**self._config, "fetch.wait.max.ms": 5, "auto.offset.reset": "latest"})
        try:
            consumer.assign(
                [_with_offset(topic_partition, confluent_kafka.OFFSET_END) for topic_partition in partitions]
            )
            return _read_end_offsets(consumer, partitions)
        finally:
            consumer.close()

    def offsets_at(self, partitions: Sequence[TopicPartition], time_ms: int) -> dict[TopicPartition, int | None]:
        """Ask the broker for the first offset of each partition whose Kafka timestamp is not before a time.

        `time_ms` is in milliseconds since the epoch. None if the partition has no such message.

        Raises:
            UnreachableError: the broker does not answer in time, or a partition has no leader by then.
        """
        parts = [_with_offset(topic_partition, time_ms) for topic_partition in partitions]
        try:
            found = _once_elected(self._consumer.offsets_for_times, parts, timeout=ANSWER_SECONDS_MAX)
        except KafkaException as error:
            raise UnreachableError(f"the broker does not return the offsets of a time: {error.args[0].str()}") from None
        for part in found:
            if part.error is not None:
                raise UnreachableError(
                    f"the broker does not return the offset of a time in {part.topic}:{part.partition}: "
                    f"{part.error.str()}"
                )
        return {TopicPartition(part.topic, part.partition): part.offset if part.offset >= 0 else None for part in found}

    def read_again(
        self, entries: Mapping[TopicPartition, PartitionProgress], lows: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, Reread]:
        """Read the last messages of the progress once more, as `k2.kafka.last_messages.read_again`."""
        return read_again(self._config, entries, lows)

    def partition_count(self, topic: str) -> int:
        """Ask the broker how many partitions a topic has now; 0 if it does not exist. The request does not create it.

        Whether it answers is recorded in `connection`.

        Raises:
            UnreachableError: the broker does not answer in time.
        """
        try:
            found = self._consumer.list_topics(topic, timeout=ANSWER_SECONDS_MAX).topics.get(topic)
        except KafkaException as error:
            self.connection.lost(error.args[0].str())
            raise UnreachableError(
                f"the broker does not return the partitions of {topic}: {error.args[0].str()}"
            ) from None
        self.connection.answered()
        return len(found.partitions) if found else 0

    def lag(self, reader: Reader, position: int) -> float:
        """Return the number of offsets from `position` to the high watermark of the reader; sends no request.

        NaN if it is not known: nothing was fetched yet, or no broker is connected.
        """
        high = reader.high_watermark()
        return math.nan if high is None or self.connection.is_lost else max(0, high - position)

    def open(self, topic_partition: TopicPartition, offset: int) -> Reader:
        """Open a reader of a partition at an offset."""
        part = confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition, offset)
        if self._library is not None and self._handle is not None:
            queue = PartitionQueue(self._library, self._handle, topic_partition.topic, topic_partition.partition)
            with self._lock:
                self._consumer.incremental_assign([part])
            return ColumnReader(queue, self._consumer, topic_partition)
        consumer = confluent_kafka.Consumer(self._config)
        consumer.assign([part])
        return MessageReader(consumer, topic_partition)

    def serve(self) -> None:
        """Let librdkafka process its events, at most every `SERVE_SECONDS`, and handle an error that it reports.

        Raises:
            UnreachableError: the error is fatal, or the login was rejected.
        """
        now = time.monotonic()
        if now - self._served_at < SERVE_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            self._served_at = now
            message = self._consumer.poll(0)
        finally:
            self._lock.release()
        error = None if message is None else message.error()
        if error is not None:
            self._handle_error(error)

    def _handle_error(self, error: KafkaError) -> None:
        """Raise if waiting cannot fix the error; log any other error, which librdkafka retries."""
        if error.fatal() or error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001  confluent-kafka exports it under this name
            raise UnreachableError(f"the Kafka broker rejects the client: {error.str()}")
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  as above
            self.connection.lost(error.str())
        else:
            _LOG.debug("kafka_error", error=error.str())

    def commit(self, offsets: Mapping[TopicPartition, int], *, wait: bool) -> None:
        """Commit group offsets for lag monitoring; a failure is logged and does not stop the job."""
        parts = [_with_offset(topic_partition, offset) for topic_partition, offset in offsets.items()]
        if not parts:
            return
        if not wait:
            self._commit(parts, asynchronous=True)
            return
        # librdkafka waits too long for a broker that is gone, so bound the wait here.
        commit = threading.Thread(target=self._commit, args=(parts,), daemon=True)
        commit.start()
        commit.join(COMMIT_SECONDS_MAX)

    def _commit(self, parts: list[confluent_kafka.TopicPartition], *, asynchronous: bool = False) -> None:
        try:
            if asynchronous:
                self._consumer.commit(offsets=parts, asynchronous=True)
            else:
                self._consumer.commit(offsets=parts, asynchronous=False)
        except KafkaException as error:
            _LOG.warning("group_offsets_not_committed", error=error.args[0].str())


def _is_electing(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _ELECTING


# The first answer after a topic is created or a broker restarts can come from a broker that does not lead yet.
_once_elected: Final = ELECTION.retrying(_is_electing)


def _read_end_offsets(
    consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    ends = {
        topic_partition: _end_offset(consumer, message)
        for topic_partition, message in first_answers(consumer, partitions, ANSWER_SECONDS_MAX)
    }
    waiting = min((one for one in partitions if one not in ends), default=None)
    if waiting is not None:
        raise UnreachableError(f"the end offset of {waiting} does not arrive within {ANSWER_SECONDS_MAX:.0f} s")
    return ends


def _end_offset(consumer: confluent_kafka.Consumer, message: confluent_kafka.Message) -> int:
    """Return the end offset of a partition from the first message or event that it delivers.

    That is the end-of-partition event or, while others publish, a new message, whose fetch carried the high watermark.
    """
    error, offset = message.error(), int(message.offset() or 0)
    if error is None:
        part = confluent_kafka.TopicPartition(str(message.topic()), int(message.partition() or 0))
        return max(offset + 1, consumer.get_watermark_offsets(part, cached=True)[1])
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent-kafka exports it under this name
        return offset
    raise UnreachableError(f"{message.topic()}:{message.partition()} cannot be read: {error.str()}")


def _with_offset(topic_partition: TopicPartition, offset: int) -> confluent_kafka.TopicPartition:
    return confluent_kafka.TopicPartition(topic_partition.topic, topic_partition.partition, offset)
