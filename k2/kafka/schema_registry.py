"""Schemas of Avro and Protobuf messages, from a schema registry with Confluent's interface."""

import base64
import binascii
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeVar

from cachetools import TTLCache

from k2.model.errors import SettingsError
from k2.model.reasons import Reason, RejectedError
from k2.ops.retry import retried
from k2.ops.settings import Settings
from k2.venues import VENUES
from k2.venues.wire_format import SCHEMAS, SchemaKind, SchemaReader, UnreadableSchemaError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

__all__ = ["SchemaRegistry", "open_schema_registry", "read_registry_config", "schema_topics"]

ANSWER_SECONDS_MAX: Final = 10.0
UNKNOWN_SECONDS: Final = 60.0
"""Time for which a schema that the registry does not have is not asked for again."""
UNKNOWN_MAX: Final = 10_000
OPERATION: Final = "schema_registry"
"""Label of the retries."""

_OWNED: Final = frozenset({"url", "timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms"})
"""Properties that a setting or the job's own retries replace."""
_NOT_FOUND: Final = frozenset({40401, 40402, 40403})
"""Error codes of a subject, a version and a schema that the registry does not have."""
_REFUSED: Final = (401, 403)
_BUSY: Final = (408, 429)
_OWN_NAME: Final = "k2-schema.proto"
"""Name of the file of a schema, for which a registry has none."""
_KINDS: Final[dict[SchemaKind, str]] = {"avro": "AVRO", "protobuf": "PROTOBUF"}

T = TypeVar("T")


def schema_topics(settings: Settings) -> dict[str, SchemaKind]:
    """Return the topics of `K2_TOPICS` whose venue needs schemas, each with their kind."""
    payloads = {topic.topic: VENUES[topic.venue].payload for topic in settings.topics}
    return {topic: one.schema_kind for topic, one in payloads.items() if one is not None and one.schema_kind}


def open_schema_registry(settings: Settings, on_retry: Callable[[str], None] | None = None) -> "SchemaRegistry | None":
    """Let the venues of this process find schemas in the registry, which is not asked yet.

    Return None if no topic needs it.

    Raises:
        SettingsError: a topic needs the registry, and its address is not set, its properties are not valid, or the
            extra is not installed.
    """
    topics = schema_topics(settings)
    SCHEMAS.use(None)
    if not topics:
        return None
    topic, kind = next(iter(topics.items()))
    if settings.schema_registry_url is None:
        raise SettingsError(
            f"topic {topic} has {kind} messages, whose schemas are in a registry; set K2_SCHEMA_REGISTRY_URL"
        )
    registry = SchemaRegistry(_client(settings, f"topic {topic} has {kind} messages"), on_retry)
    SCHEMAS.use(registry.reader)
    return registry


def _client(settings: Settings, needed_by: str) -> "SchemaRegistryClient":
    properties = {**read_registry_config(settings), "url": settings.schema_registry_url, "timeout": ANSWER_SECONDS_MAX}
    try:
        for package in ("fastavro", "google.protobuf"):
            import_module(package)
        client = import_module("confluent_kafka.schema_registry").SchemaRegistryClient
    except ImportError:
        raise SettingsError(
            f"{needed_by}, which need the extra 'schema-registry'; run `pip install 'k2-trades[schema-registry]'`"
        ) from None
    try:
        # Law 7 says how often a call is made; the client would multiply that by its own retries.
        found: SchemaRegistryClient = client({**properties, "max.retries": 0})
    except (ValueError, TypeError, OSError) as error:
        raise SettingsError(f"K2_SCHEMA_REGISTRY_CONFIG: {error}") from None
    return found


def read_registry_config(settings: Settings) -> dict[str, str]:
    """Read the file of `K2_SCHEMA_REGISTRY_CONFIG`, one `property=value` per line, as that of `K2_KAFKA_CONFIG`.

    Raises:
        SettingsError: the file cannot be read, or a line is not a property, or one that the job sets itself.
    """
    path = settings.schema_registry_config
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"K2_SCHEMA_REGISTRY_CONFIG: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"K2_SCHEMA_REGISTRY_CONFIG: {path} is not UTF-8 text") from None
    properties = {}
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise SettingsError(f"K2_SCHEMA_REGISTRY_CONFIG: line {line_number} of {path} is not property=value")
        if name in _OWNED:
            raise SettingsError(
                f"K2_SCHEMA_REGISTRY_CONFIG: line {line_number} of {path} sets {name}, which the job sets itself; "
                "remove it"
            )
        properties[name] = value
    return properties


class SchemaRegistry:
    """The schemas of a registry, each asked for once."""

    def __init__(
        self,
        client: "SchemaRegistryClient",
        on_retry: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._retried = partial(retried, OPERATION, on_retry=on_retry, sleep=sleep)
        self._readers: dict[tuple[SchemaKind, int], SchemaReader] = {}
        self._lock = threading.Lock()
        self._unknown: TTLCache[tuple[SchemaKind, int], str] = TTLCache(UNKNOWN_MAX, UNKNOWN_SECONDS)

    def check(self) -> None:
        """Ask the registry for the kinds of schemas that it has.

        Raises:
            UnreachableError: it does not answer.
            SettingsError: it refuses the credentials, or is not a schema registry.
        """
        self._call(self._client.get_schema_types)

    def close(self) -> None:
        """Close the connections to the registry."""
        self._client.close()

    def reader(self, kind: SchemaKind, schema_id: int) -> SchemaReader:
        """Return the reader of a schema.

        A schema never changes, so it is kept for the life of the process. One that the registry does not have is asked
        for again after a minute: it may be registered later.

        Raises:
            RejectedError: `unsupported`, the registry has no such schema of this kind, or one that is not read.
            UnreachableError: the registry does not answer, in spite of retries.
            SettingsError: it refuses the credentials, or is not a schema registry.
        """
        key = (kind, schema_id)
        if (known := self._readers.get(key)) is not None:
            return known
        # One worker asks at a time, and the others wait for the same answer.
        with self._lock:
            found = self._readers.get(key) or self._unknown.get(key) or self._find(kind, schema_id)
            if isinstance(found, SchemaReader):
                self._readers[key] = found
                return found
            self._unknown.setdefault(key, found)
        raise RejectedError(Reason.UNSUPPORTED, f"value: {found}")

    def _find(self, kind: SchemaKind, schema_id: int) -> SchemaReader | str:
        """Return the reader of a schema, or why there is none."""
        serialized = "serialized" if kind == "protobuf" else None
        try:
            schema = self._call(lambda: self._client.get_schema(schema_id, fmt=serialized))
            if not _is_of(schema, kind):
                return f"schema {schema_id} is {str(schema.schema_type).lower()}, not {kind}"
            return self._avro(schema) if kind == "avro" else self._protobuf(schema)
        except _NotFoundError:
            return f"the registry has no schema {schema_id}"
        except UnreadableSchemaError as error:
            return f"schema {schema_id} is not read: {error}"

    def _avro(self, schema: "Schema") -> SchemaReader:
        from k2.venues.avro import avro_reader  # noqa: PLC0415  an extra

        references = [text for _, text in self._references(schema, None, set())]
        return avro_reader(schema.schema_str or "", references)

    def _protobuf(self, schema: "Schema") -> SchemaReader:
        from k2.venues.protobuf import protobuf_reader  # noqa: PLC0415  an extra

        imports = [(name, _file(text)) for name, text in self._references(schema, "serialized", set())]
        return protobuf_reader((_OWN_NAME, _file(schema.schema_str or "")), [*_confluent_files(), *imports])

    def _references(self, schema: "Schema", fmt: str | None, seen: set[str]) -> Iterator[tuple[str, str]]:
        """Yield name and text of each schema that a schema uses, after those that it uses itself."""
        for one in schema.references or ():
            if one.name is None or one.subject is None or one.version is None or one.name in seen:
                continue
            seen.add(one.name)
            used = self._call(partial(self._client.get_version, one.subject, one.version, deleted=True, fmt=fmt))
            yield from self._references(used.schema, fmt, seen)
            yield one.name, used.schema.schema_str or ""

    def _call(self, call: Callable[[], T]) -> T:
        found: T = self._retried(lambda: _translated(call))
        return found


def _is_of(schema: "Schema", kind: SchemaKind) -> bool:
    """Return whether a schema is of a kind.

    A registry names no kind for Avro, and Apicurio 2 none for Protobuf either: then the text decides, of which that of
    Avro is JSON.
    """
    is_json = (schema.schema_str or "").lstrip()[:1] in {"{", "[", '"'}
    return schema.schema_type == _KINDS[kind] or (kind == "protobuf" and schema.schema_type == "AVRO" and not is_json)


class _NotFoundError(Exception):
    """The registry has no such schema, subject or version."""


def _translated(call: Callable[[], T]) -> T:
    """Return what a call returns; raise `ConnectionError` for a fault that may pass."""
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError  # noqa: PLC0415  an extra
    from httpx2 import TransportError  # noqa: PLC0415  as above

    try:
        return call()
    except TransportError as error:
        raise ConnectionError(
            f"the schema registry does not answer ({type(error).__name__}: {error}); start it, or correct "
            "K2_SCHEMA_REGISTRY_URL"
        ) from error
    except OAuthTokenError as error:
        raise ConnectionError(f"no token for the schema registry: {error}") from error
    except SchemaRegistryError as error:
        status = error.http_status_code
        if status >= 500 or status in _BUSY:
            raise ConnectionError(f"the schema registry answers HTTP {status}: {error.error_message}") from error
        if error.error_code in _NOT_FOUND:
            raise _NotFoundError from error
        if status in _REFUSED:
            raise SettingsError(
                f"the schema registry refuses the credentials (HTTP {status}); correct basic.auth.user.info in the "
                "file of K2_SCHEMA_REGISTRY_CONFIG"
            ) from error
        raise SettingsError(
            f"K2_SCHEMA_REGISTRY_URL: the answer is not that of a schema registry (HTTP {status}); correct the address"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"K2_SCHEMA_REGISTRY_URL: the answer is not that of a schema registry ({type(error).__name__}: {error}); "
            "correct the address"
        ) from error


def _confluent_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of Confluent that schemas import without a reference, each after those that it imports."""
    for module in ("meta_pb2", "type.decimal_pb2", "types.decimal_pb2"):
        file = import_module(f"confluent_kafka.schema_registry.confluent.{module}").DESCRIPTOR
        yield file.name, file.serialized_pb


def _file(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SettingsError(
            "K2_SCHEMA_REGISTRY_URL: the registry returns Protobuf schemas as text; use one that has "
            "format=serialized, such as Confluent's"
        ) from error
