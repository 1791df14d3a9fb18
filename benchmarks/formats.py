"""CPU microseconds per message of each payload format, in both decoders: `python -m benchmarks.formats`."""

import gzip
import io
import json
from collections.abc import Sequence
from typing import Any, Final

import fastavro
import msgspec
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from benchmarks.decode import MESSAGES, batch_of, costs
from k2.venues import VENUES
from k2.venues.avro import avro_reader
from k2.venues.decode import decode, decode_by_reference
from k2.venues.protobuf import protobuf_reader
from k2.venues.table import VenueTable
from k2.venues.table_decoder import venue_of
from k2.venues.wire_format import SCHEMAS

SYMBOLS: Final = 200
ROUNDS: Final = 5
TABLE: Final[dict[str, Any]] = {
    "source": "made up",
    "exchange": "market",
    "numbering": "contiguous",
    "symbol": {"path": "symbol"},
    "sequence": {"path": "sequence"},
    "price": {"path": "price"},
    "quantity": {"path": "quantity"},
    "side": {"path": "side", "buy": ["BUY"], "sell": ["SELL"]},
    "time": {"path": "time", "unit": "us"},
    "messages": [{}],
}
FIELDS: Final = ("symbol", "sequence", "price", "quantity", "side", "time")
HEADER: Final = b"\0\0\0\0\1"


def trade(number: int) -> dict[str, Any]:
    """Return one trade."""
    return {
        "symbol": f"SYM{number % SYMBOLS}USDT",
        "sequence": number // SYMBOLS,
        "price": f"{60_000 + number % 999}.83000000",
        "quantity": f"0.02{number % 1000:03}",
        "side": "BUY",
        "time": 1_723_161_255_342_000 + number,
    }


def avro_messages(*, has_decimals: bool) -> list[bytes]:
    """Return the trades as Avro, with price and quantity as decimals or as text, and let their schema be found."""
    amount: Any = {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 8} if has_decimals else "string"
    types = ("string", "long", amount, amount, "string", "long")
    fields = [{"name": name, "type": kind} for name, kind in zip(FIELDS, types, strict=True)]
    text = json.dumps({"type": "record", "name": "Trade", "fields": fields})
    reader = avro_reader(text)
    SCHEMAS.use(lambda _kind, _id: reader)
    schema, messages = fastavro.parse_schema(json.loads(text.replace("logicalType", "unknown"))), []
    for number in range(MESSAGES):
        stream, value = io.BytesIO(HEADER), trade(number)
        stream.seek(0, io.SEEK_END)
        if has_decimals:
            digits = {name: f"{float(value[name]):.8f}".replace(".", "") for name in ("price", "quantity")}
            value |= {name: int(one).to_bytes(8, signed=True) for name, one in digits.items()}
        fastavro.schemaless_writer(stream, schema, value)
        messages.append(stream.getvalue())
    return messages


def protobuf_messages() -> list[bytes]:
    """Return the trades as Protobuf, and let their schema be found."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="trade.proto", syntax="proto3")
    message = file.message_type.add(name="Trade")
    for number, name in enumerate(FIELDS, start=1):
        kind = kinds.TYPE_INT64 if name in {"sequence", "time"} else kinds.TYPE_STRING
        message.field.add(name=name, number=number, type=kind, label=1)
    reader = protobuf_reader((file.name, file.SerializeToString()))
    SCHEMAS.use(lambda _kind, _id: reader)
    pool = DescriptorPool()
    pool.Add(file)
    message_class = GetMessageClass(pool.FindMessageTypeByName("Trade"))
    return [b"".join((HEADER, b"\0", message_class(**trade(number)).SerializeToString())) for number in range(MESSAGES)]


def measure(name: str, payload: str, values: Sequence[bytes]) -> None:
    """Print the cost of a format in both decoders, the best of some rounds."""
    VENUES["measured"] = venue_of(msgspec.convert({**TABLE, "name": "measured", "payload": payload}, VenueTable))
    batch = batch_of(values, "measured")
    assert len(decode(batch).trades.columns) == MESSAGES
    compiled, plain = costs(lambda: decode(batch), lambda: decode_by_reference(batch), rounds=ROUNDS)
    print(f"{name:28} {compiled:6.2f} compiled  {plain:6.2f} plain Python")


def main() -> None:
    """Measure every format."""
    lines = [msgspec.json.encode(trade(number)) for number in range(MESSAGES)]
    measure("json", "json", lines)
    measure("gzip, not compressed", "gzip", lines)
    measure("gzip", "gzip", [gzip.compress(line) for line in lines])
    measure("avro, decimals", "avro", avro_messages(has_decimals=True))
    measure("avro, text", "avro", avro_messages(has_decimals=False))
    measure("protobuf", "protobuf", protobuf_messages())


if __name__ == "__main__":
    main()
