"""Messages in the wire format of a schema registry: what they encode comes out exactly, or the message is refused."""

import io
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

import fastavro
import msgspec
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from k2.model.errors import UnreachableError
from k2.model.reasons import Reason, RejectedError
from k2.venues import VENUES
from k2.venues.avro import avro_reader
from k2.venues.decode import MESSAGE_BYTES_MAX, decode, decode_by_reference
from k2.venues.protobuf import protobuf_reader
from k2.venues.table import VenueTable
from k2.venues.table_decoder import venue_of
from k2.venues.wire_format import (
    SCHEMAS,
    SchemaKind,
    SchemaReader,
    UnreadableSchemaError,
    decimal_digits,
    read_framed,
    schema_id_of,
)
from tests.venues.messages import batch_of, outcome, value_of
from tests.venues.test_table_kernel import left_of

PRICE: Final = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 8}
SIZE: Final = {"type": "fixed", "name": "Size", "size": 9, "logicalType": "decimal", "precision": 20, "scale": 4}
SIDE: Final = {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}
TRADE: Final = {
    "type": "record",
    "name": "Trade",
    "namespace": "market",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "sequence", "type": ["null", "long"], "default": None},
        {"name": "price", "type": PRICE},
        {"name": "quantity", "type": SIZE},
        {"name": "side", "type": SIDE},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
TABLE: Final[dict[str, Any]] = {
    "name": "framed",
    "source": "made up",
    "exchange": "framed",
    "numbering": "contiguous",
    "symbol": {"path": "symbol"},
    "sequence": {"path": "sequence"},
    "price": {"path": "price"},
    "quantity": {"path": "quantity"},
    "side": {"path": "side", "buy": ["BUY"], "sell": ["SELL"]},
    "time": {"path": "time", "unit": "us"},
    "messages": [{}],
}
TIME: Final = 1_723_161_255_342_123


def written(schema: Any, value: Any) -> bytes:
    """Return a record as fastavro writes it, of a schema whose logical types it does not know."""
    plain = json.loads(json.dumps(schema).replace('"logicalType"', '"unknown"'))
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(plain), value)
    return stream.getvalue()


def trade(price: int = 6_183_763_000_000, quantity: int = 200, **changes: Any) -> bytes:
    """Return a trade of the schema above."""
    fields = {"symbol": "BTC", "sequence": 7, "side": "SELL", "time": TIME, **changes}
    numbers = {"price": price.to_bytes(9, signed=True), "quantity": quantity.to_bytes(9, signed=True)}
    return written(TRADE, {**fields, **numbers})


def framed(record: bytes, schema_id: int = 1) -> bytes:
    """Return a record in the wire format."""
    return b"\0" + schema_id.to_bytes(4) + record


def find(kind: SchemaKind, schema_id: int) -> SchemaReader:
    """Return the reader of schema 1, and of 2 as if the registry did not answer."""
    if schema_id == 2:
        raise UnreachableError("the registry does not answer")
    if (kind, schema_id) != ("avro", 1):
        raise RejectedError(Reason.UNSUPPORTED, f"value: the registry has no schema {schema_id}")
    return READER


READER: Final = avro_reader(json.dumps(TRADE))


@pytest.fixture(autouse=True)
def _venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VENUES, "framed", venue_of(msgspec.convert({**TABLE, "payload": "avro"}, VenueTable)))
    monkeypatch.setattr(SCHEMAS, "_find", find)


def test_an_avro_trade_is_read_exactly() -> None:
    """By the compiled loop: decimals of bytes and of fixed size, an enum, a union, and microseconds."""
    values = [framed(trade()), framed(trade(price=-1, sequence=8, symbol="É"))]
    decoded = decode(batch_of(values, "framed"))
    assert outcome(decoded) == outcome(decode_by_reference(batch_of(values, "framed")))
    columns = decoded.trades.columns
    assert [value_of(one) for one in columns.prices] == [61_837_630_000 * 10**12, -(10**10)]
    assert [value_of(one) for one in columns.quantities] == [2 * 10**16] * 2
    assert (columns.name(0), columns.trade_id(0), columns.sequences.tolist()) == (("framed", "BTC"), "7", [7, 8])
    assert (columns.sides.tolist(), columns.timestamps.tolist()) == ([2, 2], [TIME, TIME])
    assert VENUES["framed"].key(values[1]) == "framed|É"


@pytest.mark.parametrize(
    ("value", "reason", "error"),
    [
        (b"", Reason.MALFORMED, "value: not in the wire format of a schema registry: it is empty"),
        (b'{"symbol":1}', Reason.MALFORMED, "wire format of a schema registry: its first byte is 0x7b, not 0"),
        (b"\0\0\0\0", Reason.MALFORMED, "value: not in the wire format of a schema registry: it has no schema id"),
        (framed(b""), Reason.MALFORMED, "value: not a record of its Avro schema (EOFError"),
        (framed(trade()[:-1]), Reason.MALFORMED, "value: not a record of its Avro schema ("),
        (framed(trade() + b"\0"), Reason.MALFORMED, "value: bytes after the end of its Avro record"),
        (framed(trade(), 7), Reason.UNSUPPORTED, "value: the registry has no schema 7"),
        (framed(trade(sequence=None)), Reason.INVALID, "sequence: expected int, got null"),
        (framed(trade(quantity=0)), Reason.INVALID, "quantity: not above zero: '0.0000'"),
        (framed(trade(symbol="\n" * 600_000)), Reason.TOO_LARGE, "value: 1200109 bytes as JSON, more than 1048576"),
        (None, Reason.MALFORMED, "value: null (a tombstone)"),
    ],
)
def test_one_bad_message_is_one_dead_letter(value: bytes | None, reason: Reason, error: str) -> None:
    """With its bytes as they came; its neighbours are stored."""
    batch = batch_of([framed(trade()), value, framed(trade(sequence=8))], "framed")
    decoded = decode(batch)
    assert outcome(decoded) == outcome(decode_by_reference(batch))
    [(message_idx, rejection)] = decoded.rejected
    assert (message_idx, rejection.reason) == (1, reason)
    assert error in rejection.error
    assert decoded.trades.columns.messages.tolist() == [0, 2]
    assert decoded.trades.source.value(1) == value


@pytest.mark.parametrize("decoder", [decode, decode_by_reference])
def test_a_registry_that_does_not_answer_is_no_dead_letter(decoder: Any) -> None:
    """The fault leaves the decoder, so that nothing of the batch is committed."""
    with pytest.raises(UnreachableError):
        decoder(batch_of([framed(trade()), framed(trade(), 2)], "framed"))


@given(st.lists(st.binary(max_size=60).map(framed) | st.binary(max_size=60) | st.just(framed(trade()))))
def test_both_decoders_agree_on_any_bytes(values: list[bytes]) -> None:
    """No other error leaves a decoder."""
    batch = batch_of(values, "framed")
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))


@given(st.integers(-(2**71), 2**71 - 1), st.integers(0, 30))
def test_a_decimal_has_all_its_digits(number: int, scale: int) -> None:
    """Also more than its schema declares: they are never rounded."""
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 3 + scale, "scale": scale}
    found = avro_reader(json.dumps(schema)).to_json(written(schema, number.to_bytes(9, signed=True)))
    assert Decimal(json.loads(found)) == Decimal(number).scaleb(-scale)
    assert decimal_digits(number.to_bytes(9, signed=True), -2) == str(number * 100)


def test_a_decimal_of_many_bytes_is_no_number() -> None:
    """Such as is beyond Python's limit of digits."""
    assert decimal_digits(b"\x12" * 1_001, 3) == "12" * 1_001


@pytest.mark.parametrize("unit", ["timestamp-millis", "timestamp-micros", "timestamp-nanos", "local-timestamp-micros"])
def test_a_time_is_the_number_that_is_encoded(unit: str) -> None:
    """All of its digits, whatever a calendar has."""
    schema = {"type": "long", "logicalType": unit}
    for number in (1_723_161_255_342_123_457, -1, 2**63 - 1):
        assert json.loads(avro_reader(json.dumps(schema)).to_json(written(schema, number))) == number


@pytest.mark.parametrize("text", ["0.1", "61837.63", "1e-07", "16777216.0", "3.4e+38"])
def test_a_float_is_its_shortest_decimal(text: str) -> None:
    """Also one of 32 bits, of which the 64 bits between have other digits."""
    for kind in ("float", "double"):
        found = avro_reader(json.dumps({"type": kind})).to_json(written({"type": kind}, float(text)))
        assert Decimal(found.decode()) == Decimal(text)


def test_floats_are_named_by_their_paths() -> None:
    """Of nested records, lists, unions and types that are named again."""
    item = {"type": "record", "name": "Item", "fields": [{"name": "x", "type": ["null", "double"]}]}
    fields = [
        {"name": "px", "type": "double"},
        {"name": "list", "type": {"type": "array", "items": item}},
        {"name": "again", "type": "Item"},
        {"name": "exact", "type": PRICE},
        {"name": "other", "type": "a.Other"},
    ]
    other = {"type": "record", "name": "Other", "namespace": "a", "fields": [{"name": "v", "type": "float"}]}
    reader = avro_reader(json.dumps({"type": "record", "name": "R", "fields": fields}), [json.dumps(other)])
    assert reader.floats == ("px", "list[].x", "again.x", "other.v")


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]}, "L contains itself"),
        ({"type": "array", "items": "null"}, "elements that take no bytes"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, "elements that take no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "elements that take no bytes"),
        ({"type": "nothing"}, "not an Avro schema: UnknownType"),
        ("Missing", "not an Avro schema: UnknownType"),
    ],
)
def test_a_schema_that_a_short_message_could_abuse_is_not_read(schema: Any, why: str) -> None:
    """Nor one that is none."""
    with pytest.raises(UnreadableSchemaError, match=why):
        avro_reader(json.dumps(schema))
    with pytest.raises(UnreadableSchemaError, match="not an Avro schema"):
        avro_reader("{")


def test_the_id_of_a_schema_is_that_of_the_wire_format() -> None:
    """A message that is not in it has none."""
    assert [schema_id_of(one) for one in (framed(b"", 258), b"\0\0\0\0", b"{}", b"")] == [258, None, None, None]


def _proto() -> descriptor_pb2.FileDescriptorProto:
    """Return a file with a message of every kind of field."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="trade.proto",
        package="market",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"],
    )
    file.message_type.add(name="Other").field.add(name="x", number=1, type=kinds.TYPE_INT32, label=1)
    side = file.enum_type.add(name="Side")
    for number, name in enumerate(("NONE", "BUY", "SELL")):
        side.value.add(name=name, number=number)
    message = file.message_type.add(name="Trade")
    message.nested_type.add(name="Inner").field.add(name="y", number=1, type=kinds.TYPE_STRING, label=1)
    for number, (name, kind, label, type_name) in enumerate(
        [
            ("symbol", kinds.TYPE_STRING, 1, None),
            ("sequence", kinds.TYPE_INT64, 1, None),
            ("price", kinds.TYPE_DOUBLE, 1, None),
            ("quantity", kinds.TYPE_STRING, 1, None),
            ("side", kinds.TYPE_ENUM, 1, ".market.Side"),
            ("time", kinds.TYPE_MESSAGE, 1, ".google.protobuf.Timestamp"),
            ("note", kinds.TYPE_MESSAGE, 1, ".google.protobuf.StringValue"),
            ("parts", kinds.TYPE_MESSAGE, 3, ".market.Trade"),
            ("big", kinds.TYPE_UINT64, 1, None),
            ("weight", kinds.TYPE_FLOAT, 1, None),
        ],
        start=1,
    ):
        message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)
    return file


def _classes() -> dict[str, Any]:
    pool = DescriptorPool()
    for built_in in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(built_in.DESCRIPTOR.serialized_pb)
    pool.Add(_proto())
    names = ("market.Trade", "market.Trade.Inner", "market.Other")
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


CLASSES: Final = _classes()
PROTOBUF: Final = protobuf_reader(("k2-schema.proto", _proto().SerializeToString()))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1), st.integers(0, 999_999_999), st.text(max_size=9))
def test_a_protobuf_message_is_read_exactly(sequence: int, big: int, nanos: int, text: str) -> None:
    """Whole numbers of 64 bits, an enum by its name, a time in nanoseconds, and what is absent left out."""
    message = CLASSES["market.Trade"](symbol=text, sequence=sequence, price=0.1, side=2, big=big, weight=0.1)
    message.time.seconds, message.time.nanos = 1_723_161_255, nanos
    message.parts.add(symbol="part", side=9, quantity="1.50")
    found = json.loads(PROTOBUF.to_json(b"\x02\x02" + message.SerializeToString()))
    assert found == {
        "symbol": text,
        "sequence": sequence,
        "price": 0.1,
        "quantity": "",
        "side": "SELL",
        "time": 1_723_161_255_000_000_000 + nanos,
        "parts": [
            {
                "symbol": "part",
                "sequence": 0,
                "price": 0,
                "quantity": "1.50",
                "side": 9,
                "parts": [],
                "big": 0,
                "weight": 0,
            }
        ],
        "big": big,
        "weight": 0.1,
    }


def test_the_indexes_of_a_message_choose_its_type() -> None:
    """The first of the file in one byte, any other by a list, nested ones too."""
    other = CLASSES["market.Other"](x=5).SerializeToString()
    inner = CLASSES["market.Trade.Inner"](y="z").SerializeToString()
    assert PROTOBUF.to_json(b"\0" + other) == PROTOBUF.to_json(b"\x02\0" + other) == b'{"x":5}'
    assert PROTOBUF.to_json(b"\x04\x02\0" + inner) == b'{"y":"z"}'


def test_floats_of_protobuf_are_named() -> None:
    """Of the first message of the file, and those within it."""
    file = _proto()
    first, second = file.message_type[0], file.message_type[1]
    file.message_type[0].CopyFrom(descriptor_pb2.DescriptorProto.FromString(second.SerializeToString()))
    file.message_type[1].CopyFrom(descriptor_pb2.DescriptorProto(name="Other"))
    assert first.name == "Trade"
    assert protobuf_reader(("x.proto", file.SerializeToString())).floats == ("price", "weight")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\xff" * 12, Reason.MALFORMED),
        (b"\x01", Reason.MALFORMED),
        (b"\x02", Reason.MALFORMED),
        (b"\x02\x01x", Reason.UNSUPPORTED),
        (b"\x02\x08x", Reason.UNSUPPORTED),
        (b"\x04\0\0", Reason.UNSUPPORTED),
        (b"\x02\x02\xff", Reason.MALFORMED),
        (b"\x02\x02" + b"\x42\x7f", Reason.MALFORMED),
    ],
)
def test_what_is_no_protobuf_message_is_rejected(record: bytes, reason: Reason) -> None:
    """Indexes without an end or of no message, and bytes of no message."""
    with pytest.raises(RejectedError) as caught:
        PROTOBUF.to_json(record)
    assert caught.value.reason is reason


@given(st.binary(max_size=80))
def test_any_bytes_are_a_protobuf_message_or_rejected(record: bytes) -> None:
    """No other error leaves the reader, whatever message is chosen."""
    for prefix in (b"", b"\0", b"\x02\x02"):
        with suppress(RejectedError):
            json.loads(PROTOBUF.to_json(prefix + record))


def test_a_file_that_is_not_whole_is_not_read() -> None:
    """It is damaged, or imports what is not given."""
    file = _proto()
    file.dependency.append("missing.proto")
    for data in (b"\xff", file.SerializeToString()):
        with pytest.raises(UnreadableSchemaError, match="not a Protobuf schema"):
            protobuf_reader(("x.proto", data))


def test_schemas_of_no_registry_are_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that opened none."""
    SCHEMAS.use(None)
    with pytest.raises(RejectedError, match="avro schema 1 cannot be looked up; set K2_SCHEMA_REGISTRY_URL"):
        read_framed("avro", framed(trade()))
    SCHEMAS.use(find)
    assert len(read_framed("avro", framed(trade()))) < MESSAGE_BYTES_MAX


def test_plain_framed_trades_are_not_left() -> None:
    """The JSON of a record is what the compiled loop accepts."""
    payload = VENUES["framed"].payload
    assert payload is not None
    assert left_of("framed", [payload.unpack(framed(trade(sequence=number))) for number in range(9)]) == []
