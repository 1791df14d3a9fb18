"""A real schema registry, Apicurio with Confluent's interface: what its clients register is read exactly."""

import json
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NoReturn

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient

from k2.kafka.schema_registry import SchemaRegistry
from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError
from k2.ops.child_process import ChildProcess, free_port
from k2.venues.wire_format import SchemaKind, schema_id_of
from tests.flows.test_schema_registry import serializers, trades
from tests.maven import NotToBeHadError, jars_of
from tests.schema_registry import StubRegistry

POM: Final = Path(__file__).parent / "apicurio" / "pom.xml"
START_SECONDS_MAX: Final = 120.0

pytestmark = pytest.mark.slow


def answers(url: str) -> bool:
    """Return whether the registry answers."""
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:  # noqa: S310  a loopback address
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]) -> Iterator[str]:
    """The address of a registry that was started here."""
    folder, port = tmp_path_factory.mktemp("apicurio"), free_port()
    try:
        [archive] = jars_of(POM, "apicurio").glob("*.tar.gz")
    except NotToBeHadError as error:
        missing(f"Apicurio Registry: {error}")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    [jar] = folder.glob("*runner.jar")
    options = [f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1"]
    child = ChildProcess(["java", "-Xmx512m", *options, "-jar", str(jar)], folder / "log")
    child.start()
    address = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        assert child.wait_until(lambda: answers(address), START_SECONDS_MAX), child.log_end()
        yield address
    finally:
        child.stop()


@pytest.fixture
def client(url: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's client of the registry."""
    with closing(SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 0})) as one:
        yield one


@pytest.fixture
def registry(client: SchemaRegistryClient) -> SchemaRegistry:
    """The job's client of the registry."""
    found = SchemaRegistry(client)
    found.check()
    return found


@pytest.mark.parametrize("kind", ["avro", "protobuf"])
def test_what_serializers_write_is_read(url: str, registry: SchemaRegistry, kind: SchemaKind) -> None:
    """They register the schema, and the job finds it by the number in the message."""
    with serializers(StubRegistry(url), f"topic-{kind}") as write:
        messages = [(one, write[kind](one)) for one in trades()[:3]]
    for one, message in messages:
        schema_id = schema_id_of(message)
        assert schema_id is not None
        found = json.loads(registry.reader(kind, schema_id).to_json(message[5:]))
        assert {name: found[name] for name in ("symbol", "sequence", "quantity", "side")} == {
            name: one[name] for name in ("symbol", "sequence", "quantity", "side")
        }


def test_references_are_found(client: SchemaRegistryClient, registry: SchemaRegistry) -> None:
    """Of one Avro schema to another."""
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "v", "type": "double"}]}
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "i", "type": "Inner"}]}
    client.register_schema("inner", Schema(json.dumps(inner), "AVRO"))
    references = [SchemaReference("Inner", "inner", 1)]
    number = client.register_schema("outer", Schema(json.dumps(outer), "AVRO", references))
    assert registry.reader("avro", number).floats == ("i.v",)


def test_an_unknown_schema_is_unsupported(registry: SchemaRegistry) -> None:
    """The registry's error code says so."""
    with pytest.raises(RejectedError, match="the registry has no schema 999"):
        registry.reader("avro", 999)


def test_protobuf_as_text_is_refused(client: SchemaRegistryClient, registry: SchemaRegistry) -> None:
    """This registry returns what was registered, which clients in Java do as text."""
    text = 'syntax = "proto3"; message Text { string v = 1; }'
    number = client.register_schema("text", Schema(text, "PROTOBUF"))
    with pytest.raises(SettingsError, match="returns Protobuf schemas as text"):
        registry.reader("protobuf", number)
