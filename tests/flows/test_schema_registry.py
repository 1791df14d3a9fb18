"""Avro and Protobuf on a real broker: the rows of JSON, whatever the registry does. The registry is a stub."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import FIRST_TIME, assert_reconciled, publish
from tests.schema_registry import StubRegistry, stub_registry

TRADES: Final = 300
FIELDS: Final = """
source = "made up"
exchange = "market"
numbering = "contiguous"
symbol = { path = "symbol" }
sequence = { path = "sequence" }
price = { path = "price" }
quantity = { path = "quantity" }
side = { path = "side", buy = ["BUY"], sell = ["SELL"] }
[[messages]]
"""
AVRO: Final = {
    "type": "record",
    "name": "Trade",
    "namespace": "market",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "sequence", "type": "long"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 9}},
        {"name": "quantity", "type": ["null", "string"]},
        {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
VALUES: Final = ["symbol", "trade_id", "sequence", "session", "price", "quantity", "side", "timestamp"]


@pytest.fixture
def stub() -> Iterator[StubRegistry]:
    """A registry that is a stub."""
    with stub_registry() as one:
        yield one


def price_of(number: int) -> int:
    """Return a price in units of 1e-9, with more digits than a float has."""
    return 61_837_630_000_001_234_567 + number * 1_000_003


def trades() -> list[dict[str, Any]]:
    """Return trades of three symbols, without one that is missing."""
    numbers = [number for number in range(TRADES) if number != 100]
    return [
        {
            "symbol": f"S{number % 3}",
            "sequence": number // 3 + 2**60,
            "price": f"{price_of(number) // 10**9}.{price_of(number) % 10**9:09}",
            "quantity": f"0.{number + 1:04}",
            "side": "BUY" if number % 2 else "SELL",
            "time": FIRST_TIME + number,
        }
        for number in numbers
    ]


def protobuf_class() -> Any:
    """Return the class of a Protobuf message with these fields, in the pool of a file of its own."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="market.proto", package="market", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    side = file.enum_type.add(name="Side")
    for number, name in enumerate(("NONE", "BUY", "SELL")):
        side.value.add(name=name, number=number)
    file.message_type.add(name="First")
    message = file.message_type.add(name="Trade")
    fields = [
        ("symbol", kinds.TYPE_STRING, None),
        ("sequence", kinds.TYPE_INT64, None),
        ("price", kinds.TYPE_STRING, None),
        ("quantity", kinds.TYPE_STRING, None),
        ("side", kinds.TYPE_ENUM, ".market.Side"),
        ("time", kinds.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
    ]
    for number, (name, kind, type_name) in enumerate(fields, start=1):
        message.field.add(name=name, number=number, type=kind, label=1, type_name=type_name)
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("market.Trade"))


@contextmanager
def serializers(stub: StubRegistry, topic: str) -> Iterator[dict[str, Callable[[dict[str, Any]], bytes]]]:
    """Yield functions that write a trade in each format, Avro and Protobuf by Confluent's own serializers."""
    client = SchemaRegistryClient({"url": stub.url})
    context = SerializationContext(topic, MessageField.VALUE)
    plain = json.dumps(AVRO).replace("logicalType", "unknown")
    avro = AvroSerializer(client, plain)
    message_class = protobuf_class()
    protobuf = ProtobufSerializer(message_class, client, {"use.deprecated.format": False})

    def to_avro(trade: dict[str, Any]) -> bytes:
        price = int(trade["price"].replace(".", "")).to_bytes(12, signed=True)
        return bytes(avro({**trade, "price": price}, context))

    def to_protobuf(trade: dict[str, Any]) -> bytes:
        side = {"BUY": 1, "SELL": 2}[trade["side"]]
        message = message_class(**{**trade, "side": side, "time": None})
        message.time.seconds, micros = divmod(trade["time"], 1_000_000)
        message.time.nanos = micros * 1_000
        return bytes(protobuf(message, context))

    with closing(client):
        yield {"json": lambda trade: json.dumps(trade).encode(), "avro": to_avro, "protobuf": to_protobuf}


def job_of(broker: Broker, folder: Path, stub: StubRegistry, kind: str, topic: str) -> Job:
    """Return a job of a topic whose messages are of a kind."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    unit = "ns" if kind == "protobuf" else "us"
    (tables / "t.toml").write_text(
        f'name = "t"\npayload = "{kind}"\ntime = {{ path = "time", unit = "{unit}" }}\n{FIELDS}'
    )
    environment = {"K2_VENUES": str(tables), "K2_SCHEMA_REGISTRY_URL": stub.url}
    return Job(broker.bootstrap_servers, folder, f"{topic}=t", environment)


def test_all_formats_land_the_same_rows(broker: Broker, stub: StubRegistry, tmp_path: Path) -> None:
    """With dead letters that have the bytes as they came: torn records, another format, an unknown schema."""
    rows, kinds = {}, ("json", "avro", "protobuf")
    for kind in kinds:
        topic = broker.topic()
        with serializers(stub, topic) as write:
            messages = [(f"market|{one['symbol']}".encode(), write[kind](one)) for one in trades()]
        if kind == "avro":
            # The job's schema has the logical type, which the serializer must not apply to bytes.
            stub.schemas[len(stub.schemas)]["schema"] = json.dumps(AVRO)
        bad = [] if kind == "json" else [messages[0][1][:-1], b"{}", b"\0\0\0\0\x63x"]
        publish(broker.bootstrap_servers, topic, [*messages[:50], *((b"k", one) for one in bad), *messages[50:]])
        job = job_of(broker, tmp_path / kind, stub, kind, topic)
        job.run()
        assert_reconciled(job)
        assert [one.value_bytes() for one in job.letters()] == bad
        assert [one.reason for one in job.letters()] == ["malformed", "malformed", "unsupported"][: len(bad)]
        rows[kind] = (
            job.table().select(VALUES).sort_by([("symbol", "ascending"), ("sequence", "ascending")]).to_pylist()
        )
        events = job.table("sequence_events").to_pylist()
        assert [one["missing"] for one in events if one["event"] == "gap_opened"] == [1]
    assert len(rows["json"]) == TRADES - 1
    assert rows["json"] == rows["avro"] == rows["protobuf"]
    assert str(rows["json"][0]["price"]) == "61837630000.001234567000000000"


def test_a_registry_that_is_away_commits_nothing(broker: Broker, tmp_path: Path) -> None:
    """The job ends with exit code 3 after its retries; the next start, with the registry, stores each trade once."""
    topic = broker.topic()
    with stub_registry() as stub:
        with serializers(stub, topic) as write:
            publish(broker.bootstrap_servers, topic, [(b"k", write["protobuf"](one)) for one in trades()])
        job = job_of(broker, tmp_path, stub, "protobuf", topic)
        stub.faults = [503] * 100
        code, said = job.outcome()
        assert code == 3, said
        assert "schema_registry failed 4 times, the last with: the schema registry answers HTTP 503" in said
        assert "Traceback" not in said
        assert (job.committed(), job.snapshots(), job.letters()) == (0, 0, [])
        stub.faults = []
        job.run()
        assert (job.table().num_rows, job.letters()) == (TRADES - 1, [])
    # What the registry said is kept by the process alone, and a start without messages needs none.
    job.run()
    assert_reconciled(job)


def test_a_job_without_its_registry_does_not_start(broker: Broker, stub: StubRegistry, tmp_path: Path) -> None:
    """One sentence, with exit code 2."""
    job = job_of(broker, tmp_path, stub, "avro", broker.topic())
    without = replace(job, environment={**job.environment, "K2_SCHEMA_REGISTRY_URL": ""})
    code, said = without.outcome()
    assert code == 2, said
    assert "set K2_SCHEMA_REGISTRY_URL" in said
    assert "Traceback" not in said
