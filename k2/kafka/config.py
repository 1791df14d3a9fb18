"""librdkafka's configuration: from the settings, and from a file of properties for TLS, SASL and tuning."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2.model.errors import SettingsError, UnreachableError
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
    "producer_config",
    "read_kafka_config",
]

ANSWER_SECONDS_MAX: Final = 10.0
QUEUE_KILOBYTES: Final = 16_384
"""Read ahead of each partition: librdkafka's 64 MB counts once a partition where each has a queue of its own."""
QUEUE_BACKOFF_MS: Final = 20
"""librdkafka waits a whole second after its queue was full."""
RECONNECT_MS: Final = 1_000
"""librdkafka tells of each try in vain: while no broker is there, 20 lines a second by its default, which may fill a
pipe that nobody empties and then holds the job up."""

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
        "request.required.acks",
        "transactional.id",
    }
)
"""What the job's guarantees rest on."""

_SERVERS: Final = ("bootstrap.servers", "metadata.broker.list")


def read_kafka_config(settings: Settings) -> dict[str, str]:
    """Read the file that `K2_KAFKA_CONFIG` names: `property=value` a line, `#` begins a comment line.

    Values are taken as they stand, without quotes or escapes; of a property given twice the last counts.
    Without a file: nothing.

    Raises:
        SettingsError: the file cannot be read, a line is no property (named by its number: the text may hold
            a secret), or a property is the job's own to set.
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
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise SettingsError(f"K2_KAFKA_CONFIG: line {number} of {path} is not property=value")
        if name in OWNED:
            raise SettingsError(
                f"K2_KAFKA_CONFIG: line {number} of {path} sets {name}, which the job sets itself; remove it"
            )
        yield name, value


def bootstrap_servers(settings: Settings) -> str:
    """Return the brokers to ask first: `K2_BOOTSTRAP_SERVERS` if set, else the file's, else the default."""
    return _with_servers(settings, read_kafka_config(settings))["bootstrap.servers"]


def _with_servers(settings: Settings, file: dict[str, str]) -> dict[str, str]:
    given = next((file[name] for name in _SERVERS if file.get(name)), None)
    if given is None or "bootstrap_servers" in settings.model_fields_set:
        given = settings.bootstrap_servers
    rest = {name: value for name, value in file.items() if name not in _SERVERS}
    return {**rest, "bootstrap.servers": given}


def consumer_config(settings: Settings, **extra: Any) -> dict[str, Any]:
    """Return a consumer's configuration; `extra` (properties, or callbacks) wins over the file.

    It never starts by itself from anywhere: no group offset is stored, an offset that is gone is an error.
    """
    return {
        "group.id": f"k2-{settings.namespace}",
        "queued.max.messages.kbytes": QUEUE_KILOBYTES,
        "fetch.queue.backoff.ms": QUEUE_BACKOFF_MS,
        "reconnect.backoff.ms": RECONNECT_MS,
        **_with_servers(settings, read_kafka_config(settings)),
        "allow.auto.create.topics": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        **extra,
    }


def producer_config(settings: Settings, **extra: Any) -> dict[str, Any]:
    """Return an idempotent producer's configuration; `extra` wins over the file."""
    return {
        "compression.type": "lz4",
        "linger.ms": 20,
        "message.timeout.ms": 60_000,
        # Java's choice of partition by key: a symbol's messages from other producers lie next to ours.
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": 131_072,
        **_quiet(settings),
        **extra,
        "enable.idempotence": True,
        "acks": "all",
    }


def _quiet(settings: Settings) -> dict[str, Any]:
    """What clients that are no consumers take: errors come as errors, so librdkafka need not print them."""
    file = _with_servers(settings, read_kafka_config(settings))
    return {"log_level": 2, **{name: value for name, value in file.items() if name != "group.id"}}


@contextmanager
def config_errors(settings: Settings) -> Iterator[None]:
    """Turn librdkafka's refusal of a configuration, inside, into a `SettingsError` with its words."""
    try:
        yield
    except KafkaException as error:
        where = f" (with K2_KAFKA_CONFIG={settings.kafka_config})" if settings.kafka_config else ""
        raise SettingsError(f"Kafka's client refuses its configuration{where}: {_words(error)}") from None


def admin_client(settings: Settings, **extra: Any) -> AdminClient:
    """Return an admin client; nothing is asked of the broker yet.

    Raises:
        SettingsError: librdkafka does not know a property, or refuses its value.
    """
    with config_errors(settings):
        return AdminClient({**_quiet(settings), **extra})


def cluster_metadata(settings: Settings, seconds_max: float = ANSWER_SECONDS_MAX) -> "ClusterMetadata":
    """Ask the broker for its brokers and topics (all: asking for one by name may make it).

    Raises:
        SettingsError: as `admin_client`.
        UnreachableError: no broker answers in time, or it refuses the login.
    """
    heard: list[KafkaError] = []
    client = admin_client(settings, error_cb=heard.append)
    try:
        return client.list_topics(timeout=seconds_max)
    except KafkaException as error:
        client.poll(0)
        cause = next((one.str() for one in heard), _words(error))
        raise UnreachableError(f"no Kafka broker answers at {bootstrap_servers(settings)}: {cause}") from None


def _words(error: KafkaException) -> str:
    return str(error.args[0].str())
