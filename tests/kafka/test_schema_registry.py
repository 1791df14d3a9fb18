"""The registry: a schema is asked for once, a passing fault is retried, and a missing schema is the message's."""

import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from google.protobuf import descriptor_pb2

from k2.kafka import schema_registry
from k2.kafka.schema_registry import SchemaRegistry, open_schema_registry, read_registry_config, schema_topics
from k2.model.errors import SettingsError, UnreachableError
from k2.model.reasons import Reason, RejectedError
from k2.ops.settings import read_settings
from k2.venues import VENUES
from k2.venues.wire_format import SCHEMAS
from tests.schema_registry import StubRegistry, stub_registry

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = """
name = "{name}"
source = "made up"
exchange = "framed"
numbering = "none"
payload = "{name}"
symbol = {{ path = "symbol" }}
price = {{ path = "price" }}
quantity = {{ path = "quantity" }}
time = {{ path = "time", unit = "us" }}
[[messages]]
"""
OTHER: Final = {"type": "record", "name": "Other", "fields": [{"name": "v", "type": "double"}]}
OUTER: Final = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": "Other"}]}


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    """A registry that is a stub."""
    with stub_registry() as one:
        yield one
    SCHEMAS.use(None)
    VENUES.use_tables("")


@pytest.fixture
def environment(stub: StubRegistry, tmp_path: Path) -> dict[str, str]:
    """Settings with a topic of each kind."""
    for name in ("avro", "protobuf"):
        (tmp_path / f"{name}.toml").write_text(TABLE.format(name=name))
    return {"K2_VENUES": str(tmp_path), "K2_TOPICS": "a=avro,p=protobuf,t", "K2_SCHEMA_REGISTRY_URL": stub.url}


@pytest.fixture
def registry(environment: dict[str, str]) -> Iterator[SchemaRegistry]:
    """The stub's client, which does not wait between attempts."""
    settings = read_settings(environment)
    with closing(SchemaRegistry(schema_registry._client(settings, "a test"), sleep=lambda _: None)) as one:
        yield one


def proto(name: str, imports: list[str], field_type: str | None = None) -> str:
    """Return a file as a registry returns it with format=serialized."""
    file = descriptor_pb2.FileDescriptorProto(name="default", package="p", syntax="proto3", dependency=imports)
    field = file.message_type.add(name=name).field.add(name="v", number=1, label=1)
    field.type = field.TYPE_STRING if field_type is None else field.TYPE_MESSAGE
    if field_type is not None:
        field.type_name = field_type
    return base64.b64encode(file.SerializeToString()).decode()


def test_a_schema_is_asked_for_once(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """However many messages have it, and with the login of the properties."""
    number = stub.register("a-value", {"schema": '"string"'})
    for _ in range(3):
        assert registry.reader("avro", number).to_json(b"\x02x") == b'"x"'
    assert stub.requests == ["/schemas/ids/1"]


def test_workers_ask_once_together(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """Those that meet a schema at one time wait for one answer, also if there is no such schema."""
    stub.register("a-value", {"schema": '"string"'})
    stub.delay_seconds = 0.05
    with ThreadPoolExecutor(8) as workers:
        assert len({*workers.map(lambda _: registry.reader("avro", 1), range(8))}) == 1
        errors = [*workers.map(lambda _: workers_error(registry), range(8))]
    assert errors == ["value: the registry has no schema 2"] * 8
    assert stub.requests == ["/schemas/ids/1", "/schemas/ids/2"]


def workers_error(registry: SchemaRegistry) -> str:
    """Return why there is no reader of schema 2."""
    with pytest.raises(RejectedError) as caught:
        registry.reader("avro", 2)
    return caught.value.error


def test_a_missing_schema_is_that_of_the_message(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """It is asked for again after a minute, because it may be registered later."""
    for _ in range(3):
        with pytest.raises(RejectedError) as caught:
            registry.reader("avro", 1)
        assert caught.value.reason is Reason.UNSUPPORTED
        assert caught.value.error == "value: the registry has no schema 1"
    assert len(stub.requests) == 1
    stub.register("a-value", {"schema": '"string"'})
    registry._unknown.expire(time.monotonic() + schema_registry.UNKNOWN_SECONDS)
    assert registry.reader("avro", 1).floats == ()


@pytest.mark.parametrize("faults", [[500], [503, 429], [0], [0, 504]])
def test_a_passing_fault_is_retried(stub: StubRegistry, registry: SchemaRegistry, faults: list[int]) -> None:
    """A closed connection, and the statuses that say so."""
    stub.register("a-value", {"schema": '"string"'})
    stub.faults = [*faults]
    assert registry.reader("avro", 1).floats == ()
    assert len(stub.requests) == len(faults) + 1


@pytest.mark.parametrize("faults", [[500] * 4, [0] * 4])
def test_a_registry_that_does_not_answer_ends_the_attempt(
    stub: StubRegistry, registry: SchemaRegistry, faults: list[int]
) -> None:
    """After four attempts, of which each is one request; the next message asks again."""
    stub.register("a-value", {"schema": '"string"'})
    stub.faults = [*faults]
    with pytest.raises(UnreachableError, match="schema_registry failed 4 times, the last with: the schema registry"):
        registry.reader("avro", 1)
    assert len(stub.requests) == 4
    assert registry.reader("avro", 1).floats == ()


def test_a_slow_or_absent_registry_is_unreachable(
    stub: StubRegistry, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that does not come in time, and a port at which nothing listens."""
    monkeypatch.setattr(schema_registry, "ANSWER_SECONDS_MAX", 0.1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    stub.delay_seconds = 1.0
    for address in (stub.url, url):
        settings = read_settings({**environment, "K2_SCHEMA_REGISTRY_URL": address})
        client = SchemaRegistry(schema_registry._client(settings, "a test"), sleep=lambda _: None)
        words = r"the schema registry does not answer \(.*\); start it, or correct K2_SCHEMA_REGISTRY_URL$"
        with closing(client), pytest.raises(UnreachableError, match=words):
            client.check()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"refuses the credentials \(HTTP 401\); correct basic.auth.user.info"),
        (403, r"refuses the credentials \(HTTP 403\)"),
        (404, r"K2_SCHEMA_REGISTRY_URL: the answer is not that of a schema registry \(HTTP 404\)"),
        (301, r"not that of a schema registry \(HTTP 301\)"),
    ],
)
def test_a_wrong_address_or_login_is_no_dead_letter(
    stub: StubRegistry, registry: SchemaRegistry, status: int, words: str
) -> None:
    """It ends the process with one sentence, without a retry."""
    stub.faults = [status]
    with pytest.raises(SettingsError, match=words):
        registry.reader("avro", 1)
    assert len(stub.requests) == 1


def test_a_page_of_another_server_is_no_schema(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """Such as that of a login."""
    stub.page = b"<html>"
    with pytest.raises(SettingsError, match="the answer is not that of a schema registry"):
        registry.reader("avro", 1)


def test_schemas_of_other_kinds_are_unsupported(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """JSON, Protobuf on an Avro topic and the reverse, and a schema that is not read."""
    numbers = [
        stub.register("x", {"schema": "{}", "schemaType": "JSON"}),
        stub.register("x", {"schema": proto("Trade", []), "schemaType": "PROTOBUF"}),
        stub.register("x", {"schema": '{"type":"array","items":"null"}'}),
    ]
    wanted = [
        "value: schema 1 is json, not avro",
        "value: schema 2 is protobuf, not avro",
        "value: schema 3 is not read: a list has elements that take no bytes, which is not read",
    ]
    for number, error in zip(numbers, wanted, strict=True):
        with pytest.raises(RejectedError) as caught:
            registry.reader("avro", number)
        assert (caught.value.reason, caught.value.error) == (Reason.UNSUPPORTED, error)
    with pytest.raises(RejectedError, match="schema 3 is avro, not protobuf"):
        registry.reader("protobuf", 3)


def test_a_protobuf_schema_without_its_kind_is_read(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """Apicurio 2 does not name it where a schema is asked for by its id."""
    number = stub.register("x", {"schema": proto("Trade", [])})
    assert registry.reader("protobuf", number).to_json(b"\0\x0a\x01x") == b'{"v":"x"}'
    with pytest.raises(RejectedError, match="schema 1 is not read: not an Avro schema"):
        registry.reader("avro", number)


def test_referenced_schemas_are_read(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """Those that a schema uses, and those that these use; Confluent's own files need no reference."""
    other = {"name": "Other", "subject": "other", "version": 1}
    stub.register("other", {"schema": json.dumps(OTHER)})
    stub.register("outer", {"schema": json.dumps(OUTER), "references": [other]})
    top = {"type": "record", "name": "Top", "fields": [{"name": "o", "type": "Outer"}]}
    references = [{"name": "Outer", "subject": "outer", "version": 1}]
    number = stub.register("top", {"schema": json.dumps(top), "references": references})
    assert registry.reader("avro", number).floats == ("o.inner.v",)

    stub.register("leaf.proto", {"schema": proto("Leaf", []), "schemaType": "PROTOBUF"})
    leaf = [{"name": "leaf.proto", "subject": "leaf.proto", "version": 1}]
    imports = ["leaf.proto", "confluent/type/decimal.proto", "google/protobuf/timestamp.proto"]
    number = stub.register(
        "p", {"schema": proto("Tree", imports, ".p.Leaf"), "schemaType": "PROTOBUF", "references": leaf}
    )
    assert registry.reader("protobuf", number).to_json(b"\0\x0a\x03\x0a\x01x") == b'{"v":{"v":"x"}}'
    assert "/schemas/ids/5?format=serialized" in stub.requests


def test_a_decimal_of_confluent_is_its_digits(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """`confluent.type.Decimal`: bytes and a scale."""
    text = proto("Trade", ["confluent/type/decimal.proto"], ".confluent.type.Decimal")
    number = stub.register("p", {"schema": text, "schemaType": "PROTOBUF"})
    reader = registry.reader("protobuf", number)
    decimal = b"\x0a\x02" + (-12_345).to_bytes(2, signed=True) + b"\x10\x05\x18\x02"
    assert reader.to_json(b"\0\x0a" + bytes([len(decimal)]) + decimal) == b'{"v":"-123.45"}'
    decimal = b"\x0a\x01\x01\x18\xff\xff\x7f"
    with pytest.raises(RejectedError, match="a decimal has the scale 2097151"):
        reader.to_json(b"\0\x0a" + bytes([len(decimal)]) + decimal)


def test_a_registry_that_has_no_serialized_form_is_refused(stub: StubRegistry, registry: SchemaRegistry) -> None:
    """A whole topic of dead letters would be the wrong answer."""
    stub.register("p", {"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"})
    with pytest.raises(SettingsError, match="returns Protobuf schemas as text; use one that has format=serialized"):
        registry.reader("protobuf", 1)


def test_properties_of_a_file_are_used(stub: StubRegistry, environment: dict[str, str], tmp_path: Path) -> None:
    """A login, for example; with the same form as that of Kafka's properties."""
    file = tmp_path / "registry.properties"
    file.write_text("# login\n\nbasic.auth.user.info = k2:s3cret=\n")
    settings = read_settings({**environment, "K2_SCHEMA_REGISTRY_CONFIG": str(file)})
    opened = open_schema_registry(settings)
    assert opened is not None
    with closing(opened):
        opened.check()
    assert stub.logins == ["k2:s3cret="]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "line 1 of .*r.properties is not property=value"),
        ("\nurl=http://x", "line 2 of .* sets url, which the job sets itself; remove it"),
        ("nonsense=1", "K2_SCHEMA_REGISTRY_CONFIG: Unrecognized properties: nonsense"),
        ("ssl.ca.location=/nowhere/ca.pem", "K2_SCHEMA_REGISTRY_CONFIG: .*No such file"),
    ],
)
def test_a_wrong_property_is_refused(environment: dict[str, str], tmp_path: Path, text: str, words: str) -> None:
    """In one sentence that names the line, not its value."""
    file = tmp_path / "r.properties"
    file.write_text(text)
    settings = read_settings({**environment, "K2_SCHEMA_REGISTRY_CONFIG": str(file)})
    with pytest.raises(SettingsError, match=words):
        open_schema_registry(settings)


def test_a_file_that_cannot_be_read_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    """It is absent, or not text."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    for path, words in ((tmp_path / "none", "No such file"), (binary, "is not UTF-8 text")):
        with pytest.raises(SettingsError, match=words):
            read_registry_config(read_settings({**environment, "K2_SCHEMA_REGISTRY_CONFIG": str(path)}))
    assert read_registry_config(read_settings(environment)) == {}


def test_the_registry_is_needed_only_by_topics_with_schemas(environment: dict[str, str]) -> None:
    """A venue that no topic has needs nothing."""
    settings = read_settings({**environment, "K2_TOPICS": "t"})
    assert (schema_topics(settings), open_schema_registry(settings)) == ({}, None)
    settings = read_settings(environment)
    assert schema_topics(settings) == {"a": "avro", "p": "protobuf"}


def test_a_topic_with_schemas_needs_an_address(environment: dict[str, str]) -> None:
    """Of the registry, in the settings."""
    del environment["K2_SCHEMA_REGISTRY_URL"]
    with pytest.raises(SettingsError, match=r"topic a has avro messages, whose schemas .* set K2_SCHEMA_REGISTRY_URL"):
        open_schema_registry(read_settings(environment))


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "ftp://x", "http://", "http://user:hunter2@ x"])
def test_an_address_without_a_scheme_is_refused(url: str) -> None:
    """Without the address, which may have a password."""
    with pytest.raises(SettingsError, match=r"K2_SCHEMA_REGISTRY_URL=\.\.\.: not the address") as caught:
        read_settings({"K2_SCHEMA_REGISTRY_URL": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("package", ["httpx2", "fastavro", "google.protobuf"])
def test_a_missing_extra_is_one_sentence(environment: dict[str, str], package: str) -> None:
    """At the start of the job, with exit code 2."""
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from k2.kafka.schema_registry import open_schema_registry\n"
        "from k2.model.errors import K2Error\n"
        "from k2.ops.settings import read_settings\n"
        "try:\n    open_schema_registry(read_settings())\n"
        "except K2Error as error:\n    print(error); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == (
        "topic a has avro messages, which need the extra 'schema-registry'; run "
        "`pip install 'k2-trades[schema-registry]'`\n"
    )


def test_the_job_imports_the_extra_only_for_such_topics() -> None:
    """Venues, settings and the source know nothing of it."""
    program = (
        "import sys\nimport flows.bootstrap, k2.cli.main, k2.venues.decode\n"
        "print([name for name in ('fastavro', 'google.protobuf', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
