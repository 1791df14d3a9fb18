"""One consumer a process: what it reads from, what the broker holds, and what it tells the broker of progress."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from k2.kafka.config import admin_client, bootstrap_servers, cluster_metadata, config_errors, consumer_config
from k2.kafka.librdkafka import Library, PartitionQueue, load_library
from k2.kafka.reader import ColumnReader, MessageReader, Reader
from k2.model.errors import SettingsError, UnreachableError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin._metadata import ClusterMetadata

__all__ = ["KafkaClient", "topic_ids", "topic_partitions"]

ANSWER_SECONDS_MAX: Final = 10.0
COMMIT_SECONDS_MAX: Final = 5.0
SERVE_SECONDS: Final = 0.1
MARKS_AT_ONCE: Final = 1_000

_LOG = structlog.get_logger()


def topic_partitions(settings: Settings) -> list[TopicPartition]:
    """Ask the broker for the partitions of every topic in `K2_TOPICS`.

    Raises:
        UnreachableError: the broker does not answer, or refuses the login.
        SettingsError: a topic does not exist.
    """
    cluster = cluster_metadata(settings, ANSWER_SECONDS_MAX)
    return [part for topic, _ in settings.topics for part in _partitions(cluster, topic, settings)]


def topic_ids(settings: Settings) -> dict[str, str]:
    """Ask the broker for Kafka's own id of each topic (KIP-516): another after a topic was deleted and made again.

    A broker that gives none is taken at its word.
    """
    names = TopicCollection([topic for topic, _ in settings.topics])
    client = admin_client(settings)
    try:
        asked = client.describe_topics(names, request_timeout=ANSWER_SECONDS_MAX)
        return {topic: str(answer.result(ANSWER_SECONDS_MAX).topic_id) for topic, answer in asked.items()}
    except (KafkaException, TimeoutError) as error:
        _LOG.warning("the broker tells no topic ids: a topic made again is known by its end alone", error=str(error))
        return {}


def _partitions(cluster: "ClusterMetadata", topic: str, settings: Settings) -> list[TopicPartition]:
    found = cluster.topics.get(topic)
    if found is None:
        raise SettingsError(f"K2_TOPICS: topic {topic!r} does not exist at {bootstrap_servers(settings)}")
    if found.error is not None:
        raise UnreachableError(f"topic {topic!r} cannot be read: {found.error.str()}")
    return [TopicPartition(topic, partition) for partition in sorted(found.partitions)]


class KafkaClient:
    """This process's consumer, shared by its source partitions; safe to use from several worker threads.

    Nothing of its group is used to begin from: offsets are committed to it for lag tools alone.
    """

    def __init__(self, settings: Settings, callbacks: Mapping[str, Any] | None = None) -> None:
        self._config = consumer_config(settings, **(callbacks or {}))
        self._lock = threading.Lock()
        self._served = 0.0
        with config_errors(settings):
            self._consumer = confluent_kafka.Consumer(self._config)
        self._library: Library | None = None if callbacks else load_library()
        self._handle = self._library.handle(self._consumer) if self._library else None

    def lows(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask the broker for the first offset that it holds of each partition.

        Raises:
            UnreachableError: it does not answer in time.
        """
        return {where: self._low(where) for where in partitions}

    def _low(self, where: TopicPartition) -> int:
        part = confluent_kafka.TopicPartition(where.topic, where.partition)
        try:
            found = self._consumer.get_watermark_offsets(part, timeout=ANSWER_SECONDS_MAX)
        except KafkaException as error:
            raise UnreachableError(f"the broker does not tell the offsets of {where}: {error.args[0].str()}") from None
        if found is None:
            raise UnreachableError(f"the broker does not tell the offsets of {where} in {ANSWER_SECONDS_MAX:.0f} s")
        return int(found[0])

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Find where each partition ends now, as a reader does: by reading from its last offset to the end mark.

        What a broker answers when asked for its latest offset is not always that (Tansu's answer is too low).

        Raises:
            UnreachableError: the marks do not come in time.
        """
        consumer = confluent_kafka.Consumer({**self._config, "fetch.wait.max.ms": 5, "auto.offset.reset": "latest"})
        try:
            consumer.assign([_with_offset(where, confluent_kafka.OFFSET_END) for where in partitions])
            return _end_marks(consumer, partitions)
        finally:
            consumer.close()

    def partition_count(self, topic: str) -> int:
        """Ask the broker how many partitions a topic has now; 0 where there is no such topic. It makes none.

        Raises:
            UnreachableError: it does not answer in time.
        """
        try:
            found = self._consumer.list_topics(topic, timeout=ANSWER_SECONDS_MAX).topics.get(topic)
        except KafkaException as error:
            raise UnreachableError(f"the broker does not tell of {topic}: {error.args[0].str()}") from None
        return len(found.partitions) if found else 0

    def lag(self, where: TopicPartition, position: int) -> int:
        """Return how many offsets lie ahead of `position`, by what the broker last said; asks nobody."""
        part = confluent_kafka.TopicPartition(where.topic, where.partition)
        found = self._consumer.get_watermark_offsets(part, cached=True)
        return max(0, found[1] - position)

    def open(self, where: TopicPartition, offset: int) -> Reader:
        """Begin to read a partition at an offset."""
        part = confluent_kafka.TopicPartition(where.topic, where.partition, offset)
        if self._library is not None and self._handle is not None:
            queue = PartitionQueue(self._library, self._handle, where.topic, where.partition)
            with self._lock:
                self._consumer.incremental_assign([part])
            return ColumnReader(queue)
        consumer = confluent_kafka.Consumer(self._config)
        consumer.assign([part])
        return MessageReader(consumer)

    def serve(self) -> None:
        """Let librdkafka do its own work now and then, and hear what it says next to messages."""
        now = time.monotonic()
        if now - self._served < SERVE_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            self._served = now
            message = self._consumer.poll(0)
        finally:
            self._lock.release()
        error = None if message is None else message.error()
        if error is not None:
            _heed(error)

    def commit(self, offsets: Mapping[TopicPartition, int], *, wait: bool) -> None:
        """Tell the group how far the table is, for lag tools; a failure is no fault of the job."""
        parts = [_with_offset(where, offset) for where, offset in offsets.items()]
        if not parts:
            return
        if not wait:
            self._commit(parts, asynchronous=True)
            return
        # A broker that is gone is waited for by librdkafka for longer than this is worth.
        sent = threading.Thread(target=self._commit, args=(parts,), daemon=True)
        sent.start()
        sent.join(COMMIT_SECONDS_MAX)

    def _commit(self, parts: list[confluent_kafka.TopicPartition], *, asynchronous: bool = False) -> None:
        try:
            if asynchronous:
                self._consumer.commit(offsets=parts, asynchronous=True)
            else:
                self._consumer.commit(offsets=parts, asynchronous=False)
        except KafkaException as error:
            _LOG.warning("group offsets not committed", error=error.args[0].str())


def _end_marks(consumer: confluent_kafka.Consumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = {}
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while len(ends) < len(partitions):
        if time.monotonic() > deadline:
            waiting = min(where for where in partitions if where not in ends)
            raise UnreachableError(f"the end of {waiting} is not heard of in {ANSWER_SECONDS_MAX:.0f} s")
        for message in consumer.consume(MARKS_AT_ONCE, timeout=SERVE_SECONDS):
            where = TopicPartition(str(message.topic()), int(message.partition() or 0))
            if where not in ends:
                ends[where] = _end_heard(consumer, message)
    return ends


def _end_heard(consumer: confluent_kafka.Consumer, message: confluent_kafka.Message) -> int:
    """Return a partition's end by the first that is heard of it.

    That is the end mark; or, while others publish, a message that came since, whose fetch bore the end of then.
    """
    error, offset = message.error(), int(message.offset() or 0)
    if error is None:
        part = confluent_kafka.TopicPartition(str(message.topic()), int(message.partition() or 0))
        return max(offset + 1, consumer.get_watermark_offsets(part, cached=True)[1])
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  its public spelling
        return offset
    raise UnreachableError(f"{message.topic()}:{message.partition()} cannot be read: {error.str()}")


def _with_offset(where: TopicPartition, offset: int) -> confluent_kafka.TopicPartition:
    return confluent_kafka.TopicPartition(where.topic, where.partition, offset)


def _heed(error: KafkaError) -> None:
    """Stop for what waiting does not mend; log the rest, which librdkafka goes on trying."""
    if error.fatal() or error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001  its public spelling
        raise UnreachableError(f"the Kafka broker refuses: {error.str()}")
    _LOG.warning("kafka", error=error.str())
