"""Append the trades of a topic to an Iceberg table: the program of the hand-written contender."""

import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

import msgspec
import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

POLL_MESSAGES: Final = 10_000
DECIMAL: Final = pa.decimal128(38, 18)
TIME: Final = pa.timestamp("us", "UTC")
_TYPES: Final[dict[str, pa.DataType]] = {
    "exchange": pa.string(),
    "symbol": pa.string(),
    "trade_id": pa.string(),
    "sequence": pa.int64(),
    "price": DECIMAL,
    "quantity": DECIMAL,
    "side": pa.string(),
    "timestamp": TIME,
    "received": TIME,
    "partition": pa.int32(),
    "offset": pa.int64(),
}
COLUMNS: Final = pa.schema(_TYPES)


class Trade(msgspec.Struct, gc=False):
    """A trade as its message has it."""

    exchange: str
    symbol: str
    trade_id: str
    sequence: int
    price: Decimal
    quantity: Decimal
    side: Literal["buy", "sell"]
    timestamp: int
    received: int


class Buffer:
    """Columns of the trades that are not committed yet."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(Trade)
        self._batches: list[pa.RecordBatch] = []
        self.malformed = 0

    def add(self, messages: list[Message]) -> None:
        """Decode messages; leave out what is malformed."""
        trades: list[Trade] = []
        places: list[tuple[int | None, int | None]] = []
        decode = self._decoder.decode
        for message in messages:
            try:
                trade = decode(message.value() or b"")
            except msgspec.DecodeError:
                self.malformed += 1
                continue
            if trade.quantity > 0:
                trades.append(trade)
                places.append((message.partition(), message.offset()))
            else:
                self.malformed += 1
        columns = [[getattr(trade, name) for trade in trades] for name in Trade.__struct_fields__]
        columns += [[partition for partition, _ in places], [offset for _, offset in places]]
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, COLUMNS, strict=True)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=COLUMNS))

    def take(self) -> pa.Table:
        """Return the trades, and begin again."""
        batches, self._batches = self._batches, []
        return pa.Table.from_batches(batches, COLUMNS)


def open_table(folder: Path) -> Table:
    """Create the table in a catalog of its own."""
    catalog = SqlCatalog("local", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("market_data")
    return catalog.create_table("market_data.trades", schema=COLUMNS)


def main(bootstrap_servers: str, topic: str, folder: str, commit_seconds: str) -> None:
    """Read each partition to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "hand-written",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    table, buffer = open_table(Path(folder)), Buffer()
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    next_commit = time.monotonic() + float(commit_seconds)
    ended: set[int | None] = set()
    while len(ended) < len(partitions):
        found = consumer.consume(POLL_MESSAGES, timeout=0.2)
        ended |= {message.partition() for message in found if message.error() is not None}
        if messages := [message for message in found if message.error() is None]:
            buffer.add(messages)
        if time.monotonic() >= next_commit or len(ended) == len(partitions):
            if rows := buffer.take():
                table.append(rows)
            consumer.commit(asynchronous=False, offsets=consumer.position(consumer.assignment()))
            next_commit = time.monotonic() + float(commit_seconds)
    consumer.close()
    print(f"{buffer.malformed} malformed messages left out")


if __name__ == "__main__":
    main(*sys.argv[1:])
