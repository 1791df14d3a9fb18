"""What a broker says of topics: their configuration, and the newest messages of each partition."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin._config import ConfigResource

from k2.kafka.config import admin_client, config_errors, consumer_config
from k2.model.errors import UnreachableError
from k2.model.origin import marks_of
from k2.model.progress import TopicPartition
from k2.model.times import MILLISECONDS_END
from k2.ops.settings import Settings

__all__ = ["NewestMessages", "broker_config", "read_newest", "topic_config"]

ANSWER_SECONDS_MAX: Final = 10.0
NEWEST_MAX: Final = 20
"""Messages of each partition that are read."""
FETCH_BYTES: Final = 65_536
POLL_SECONDS: Final = 0.1
MESSAGES_PER_POLL: Final = 1_000
_TAIL: Final = -2_000
"""librdkafka's offset of the n-th message from the end is this minus n (`RD_KAFKA_OFFSET_TAIL`)."""


@dataclass(slots=True)
class NewestMessages:
    """The newest messages of a topic partition, 20 at most."""

    count: int = 0
    without_key: int = 0
    without_leader_epoch: int = 0
    kafka_timestamp_ms: int | None = None
    """The newest Kafka timestamp; None if no message has one."""
    size_bytes: int = 0
    """Of keys and values together."""
    values: list[bytes] = field(default_factory=list)
    """Of the live feed alone: what a header marks may be in another form than the topic's venue reads."""

    def add(self, message: Message) -> None:
        """Count a message."""
        key, value = message.key(), message.value()
        self.count += 1
        self.without_key += key is None
        self.without_leader_epoch += message.leader_epoch() is None
        self.size_bytes += len(key or b"") + len(value or b"")
        if isinstance(value, bytes) and marks_of(dict(message.headers() or ()).items()) is None:
            self.values.append(value)
        kind, milliseconds = message.timestamp()
        if kind != confluent_kafka.TIMESTAMP_NOT_AVAILABLE and 0 <= milliseconds < MILLISECONDS_END:
            self.kafka_timestamp_ms = max(milliseconds, self.kafka_timestamp_ms or 0)


def topic_config(settings: Settings, topic: str) -> Mapping[str, str]:
    """Return the configuration of a topic, its defaults included, by property; without values that are secret.

    Raises:
        KafkaException, TimeoutError: the broker does not answer, or may not say.
    """
    return _config(settings, ConfigResource(ConfigResource.Type.TOPIC, topic))


def broker_config(settings: Settings, broker: int) -> Mapping[str, str]:
    """Return the configuration of a broker, as `topic_config`."""
    return _config(settings, ConfigResource(ConfigResource.Type.BROKER, str(broker)))


def _config(settings: Settings, resource: ConfigResource) -> Mapping[str, str]:
    # The client must live until it has answered.
    client = admin_client(settings)
    (answer,) = client.describe_configs([resource], request_timeout=ANSWER_SECONDS_MAX).values()
    found = answer.result(ANSWER_SECONDS_MAX)
    return {name: entry.value for name, entry in found.items() if entry.value is not None and not entry.is_sensitive}


def read_newest(settings: Settings, partitions: Collection[TopicPartition]) -> dict[TopicPartition, NewestMessages]:
    """Read the newest messages of each partition, without a consumer group; a partition without messages has none.

    Raises:
        UnreachableError: a partition does not answer in time, or cannot be read.
        SettingsError: librdkafka rejects the configuration.
    """
    with config_errors(settings):
        consumer = confluent_kafka.Consumer(
            consumer_config(
                settings,
                **{
                    # Of a log that is shorter, all messages are read.
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 5,
                    "fetch.message.max.bytes": FETCH_BYTES,
                },
                log_level=2,
            )
        )
    try:
        consumer.assign(
            [confluent_kafka.TopicPartition(one.topic, one.partition, _TAIL - NEWEST_MAX) for one in partitions]
        )
        return _read(consumer, partitions)
    except KafkaException as error:
        raise UnreachableError(f"the Kafka broker rejects a request: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _read(
    consumer: confluent_kafka.Consumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, NewestMessages]:
    found = {one: NewestMessages() for one in partitions}
    waiting, deadline = {*partitions}, time.monotonic() + ANSWER_SECONDS_MAX
    while waiting and time.monotonic() <= deadline:
        for message in consumer.consume(MESSAGES_PER_POLL, timeout=POLL_SECONDS):
            one = TopicPartition(str(message.topic()), int(message.partition() or 0))
            error = message.error()
            if error is None and found[one].count < NEWEST_MAX:
                found[one].add(message)
            elif error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent-kafka exports it under this name
                raise UnreachableError(f"{one} cannot be read: {error.str()}")
            if error is not None or found[one].count >= NEWEST_MAX:
                waiting.discard(one)
    if waiting:
        raise UnreachableError(f"{min(waiting)} does not return its newest messages within {ANSWER_SECONDS_MAX:.0f} s")
    return found
