"""Configuration of librdkafka: from the settings, and from a properties file for TLS, SASL and tuning."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from k2.kafka.connection_advice import connection_advice
from k2.kafka.token_providers import with_token_provider
from k2.model.errors import SettingsError, UnreachableError
from k2.model.progress import TopicPartition
from k2.model.wording import closest
from k2.ops.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin._metadata import ClusterMetadata

__all__ = [
    "admin_client",
    "bootstrap_servers",
    "cluster_metadata",
    "config_errors",
    "consumer_config",
    "existing_partitions",
    "find_topic_ids",
    "names_servers",
    "partitions_of",
    "producer_config",
    "read_kafka_config",
]

ANSWER_SECONDS_MAX: Final = 10.0
READ_AHEAD_KILOBYTES: Final = 8_192
"""Messages that all partitions together have in their queues: values and keys, which take 2.6 times as much in
librdkafka if a message has 200 bytes."""
QUEUE_KILOBYTES_MIN: Final = 512
QUEUE_KILOBYTES_MAX: Final = 4_096
"""A poll takes 20,000 messages, so more would only wait."""
READ_AHEAD_MESSAGES: Final = 50_000
"""Messages in all queues: librdkafka allocates 320 bytes for each, however short it is."""
QUEUE_MESSAGES_MIN: Final = 2_000
QUEUE_MESSAGES_MAX: Final = 25_000
FETCH_BYTES: Final = 256 * 1024
"""Of a partition in a fetch, as it is compressed: a fetch is decompressed as a whole. A fetch brings the batches of
several partitions only if they are smaller (KIP-74)."""
QUEUE_BACKOFF_MS: Final = 20
"""By default librdkafka waits one second after its queue was full."""
FETCH_WAIT_MS: Final = 50
"""How long a broker may hold a fetch that brings nothing, by default half a second. librdkafka has one fetch in flight
for each broker, and leaves out a partition whose queue is full: one that lags waits until that fetch returns."""
RECONNECT_MS: Final = 1_000
"""librdkafka logs each failed connection attempt. By default that is 20 lines per second while no broker is reachable,
which can fill a pipe that nobody reads and then block the job."""

OWNED: Final = frozenset(
    {
        "acks",
        "allow.auto.create.topics",
        "auto.commit.enable",
        "auto.offset.reset",
        "delivery.report.only.error",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "isolation.level",
        "request.required.acks",
        "transactional.id",
    }
)
"""Properties that the job sets itself, because its guarantees depend on them."""
CODE_ONLY: Final = frozenset(
    {
        "default.topic.config",
        "default_topic_conf",
        "logger",
        "msg_order_cmp",
        "on_commit",
        "on_delivery",
        "opaque",
        "ssl_engine_callback_data",
    }
)
"""Properties whose value is an object of a program, in addition to the callbacks, whose names end with `_cb`."""

_SERVERS: Final = ("bootstrap.servers", "metadata.broker.list")


def read_kafka_config(settings: Settings) -> dict[str, str]:
    """Read the file of `K2_KAFKA_CONFIG`: one `property=value` per line; a line that starts with `#` is a comment.

    Values are literal, without quotes or escapes. If a property occurs twice, the last value applies. Return no
    properties if no file is set.

    Raises:
        SettingsError: the file cannot be read, a line is not a property (the message has its number only: the text may
            contain a secret), or a property is one that the job sets itself, or that no file can set.
    """
    path = settings.kafka_config
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"K2_KAFKA_CONFIG: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"K2_KAFKA_CONFIG: {path} is not UTF-8 text") from None
    return dict(_properties(text, str(path)))


def _properties(text: str, path: str) -> Iterator[tuple[str, str]]:
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise SettingsError(f"K2_KAFKA_CONFIG: line {line_number} of {path} is not property=value")
        if name in OWNED:
            raise SettingsError(
                f"K2_KAFKA_CONFIG: line {line_number} of {path} sets {name}, which the job sets itself; remove it"
            )
        if name in CODE_ONLY or name.endswith("_cb"):
            raise SettingsError(
                f"K2_KAFKA_CONFIG: line {line_number} of {path} sets {name}, which only a program can set, not a file; "
                "remove it"
            )
        yield name, value


def bootstrap_servers(settings: Settings) -> str:
    """Return the bootstrap servers: of `K2_BOOTSTRAP_SERVERS`, else of the file, else the default."""
    return _with_servers(settings, read_kafka_config(settings))["bootstrap.servers"]


def names_servers(settings: Settings) -> bool:
    """Return whether bootstrap servers are configured, by `K2_BOOTSTRAP_SERVERS` or the file, not by default."""
    return "bootstrap_servers" in settings.model_fields_set or any(
        read_kafka_config(settings).get(name) for name in _SERVERS
    )


def _with_servers(settings: Settings, file: dict[str, str]) -> dict[str, str]:
    servers = next((file[name] for name in _SERVERS if file.get(name)), None)
    if servers is None or "bootstrap_servers" in settings.model_fields_set:
        servers = settings.bootstrap_servers
    rest = {name: value for name, value in file.items() if name not in _SERVERS}
    return {**rest, "bootstrap.servers": servers}


def consumer_config(settings: Settings, partition_count: int = 1, /, **extra: Any) -> dict[str, Any]:
    """Return the configuration of a consumer; `extra` (properties or callbacks) overrides the file.

    What is read ahead takes the same memory however many partitions all processes read, `partition_count`.
    The consumer never chooses an offset itself: no group offset is stored, and a missing offset is an error.
    """
    return {
        "group.id": f"k2-{settings.namespace}",
        **_read_ahead(partition_count),
        "fetch.queue.backoff.ms": QUEUE_BACKOFF_MS,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "reconnect.backoff.ms": RECONNECT_MS,
        # Brokers do not look at the checksums of what they send, and by default neither does librdkafka.
        "check.crcs": True,
        **with_token_provider(_with_servers(settings, read_kafka_config(settings))),
        "allow.auto.create.topics": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        # A message of a transaction that is aborted never was: neither the job nor a replay may take it for one.
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        **extra,
    }


def _read_ahead(partition_count: int) -> dict[str, int]:
    """Return the limits of the queue of one partition: by default each has 64 MB and 100,000 messages."""
    kilobytes = max(QUEUE_KILOBYTES_MIN, min(QUEUE_KILOBYTES_MAX, READ_AHEAD_KILOBYTES // partition_count))
    messages = max(QUEUE_MESSAGES_MIN, min(QUEUE_MESSAGES_MAX, READ_AHEAD_MESSAGES // partition_count))
    return {
        "queued.max.messages.kbytes": kilobytes,
        "queued.min.messages": messages,
        "fetch.message.max.bytes": FETCH_BYTES,
    }


def producer_config(settings: Settings, **extra: Any) -> dict[str, Any]:
    """Return the configuration of an idempotent producer; `extra` overrides the file."""
    return {
        "compression.type": "lz4",
        "linger.ms": 20,
        "message.timeout.ms": 60_000,
        # The partitioner of Java clients: messages of a symbol from other producers are in the same partition.
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": 131_072,
        **_quiet_config(settings),
        **extra,
        "enable.idempotence": True,
        "acks": "all",
    }


def _quiet_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of any other client; its errors are raised, so librdkafka need not log them."""
    file = with_token_provider(_with_servers(settings, read_kafka_config(settings)))
    return {"log_level": 2, **{name: value for name, value in file.items() if name != "group.id"}}


@contextmanager
def config_errors(settings: Settings) -> Iterator[None]:
    """Raise a `SettingsError` with the reason if librdkafka, or its Python client, rejects a configuration."""
    try:
        yield
    except SettingsError:
        raise
    except (KafkaException, TypeError, ValueError) as error:
        source = f" (with K2_KAFKA_CONFIG={settings.kafka_config})" if settings.kafka_config else ""
        reason = _reason(error) if isinstance(error, KafkaException) else str(error)
        raise SettingsError(f"librdkafka rejects the configuration{source}: {reason}") from None


def admin_client(settings: Settings, **extra: Any) -> AdminClient:
    """Return an admin client, without a request to the broker.

    Raises:
        SettingsError: librdkafka does not know a property, or rejects its value.
    """
    with config_errors(settings):
        return AdminClient({**_quiet_config(settings), **extra})


def cluster_metadata(settings: Settings, seconds_max: float = ANSWER_SECONDS_MAX) -> "ClusterMetadata":
    """Ask the broker for its brokers and all topics. A request for a topic by name could create it.

    Raises:
        SettingsError: as `admin_client`.
        UnreachableError: no broker answers in time, or it rejects the login.
    """
    errors: list[KafkaError] = []
    client = admin_client(settings, error_cb=errors.append)
    try:
        return client.list_topics(timeout=seconds_max)
    except KafkaException as error:
        client.poll(0)
        first, *_ = errors or [error.args[0]]
        raise UnreachableError(
            f"no Kafka broker answers at {bootstrap_servers(settings)}: {first.str()}; {connection_advice(first)}"
        ) from None


def existing_partitions(settings: Settings, cluster: "ClusterMetadata", topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic that must exist, as `partitions_of`.

    Raises:
        SettingsError: it does not exist; the message names a topic with a similar name.
        UnreachableError: the broker does not describe the topic, or may not.
    """
    if topic not in cluster.topics:
        close = closest(topic, cluster.topics)
        fix = f"did you mean {close!r}?" if close else "create it (`k2 produce` does, too), or fix K2_TOPICS"
        raise SettingsError(f"K2_TOPICS: topic {topic!r} does not exist at {bootstrap_servers(settings)}; {fix}")
    return partitions_of(cluster, topic)


def partitions_of(cluster: "ClusterMetadata", topic: str) -> list[TopicPartition]:
    """Return the partitions of a topic, sorted; none if it does not exist.

    Raises:
        UnreachableError: the broker does not describe the topic, or may not.
    """
    found = cluster.topics.get(topic)
    if found is None:
        return []
    if found.error is not None:
        raise UnreachableError(f"topic {topic!r} cannot be read: {found.error.str()}")
    return [TopicPartition(topic, partition) for partition in sorted(found.partitions)]


def find_topic_ids(settings: Settings, topics: Collection[str], client: AdminClient | None = None) -> dict[str, str]:
    """Ask the broker for topic ids (KIP-516), by name; a topic that is deleted and recreated has another id.

    `client` asks; without it, a new one.

    Raises:
        KafkaException, TimeoutError: the broker does not support them, or does not answer.
    """
    if not topics:
        return {}
    # The client must live until it has answered.
    client = admin_client(settings) if client is None else client
    futures = client.describe_topics(TopicCollection([*topics]), request_timeout=ANSWER_SECONDS_MAX)
    return {topic: str(future.result(ANSWER_SECONDS_MAX).topic_id) for topic, future in futures.items()}


def _reason(error: KafkaException) -> str:
    return str(error.args[0].str())
