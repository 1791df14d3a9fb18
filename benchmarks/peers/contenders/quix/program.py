"""Append the trades of a topic to an Iceberg table by Quix Streams; runs in an environment of its own."""

import logging
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from quixstreams import Application
from quixstreams.models import JSONDeserializer
from quixstreams.sinks import BatchingSink, SinkBatch

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DECIMAL = pa.decimal128(38, 18)
TIME = pa.timestamp("us", "UTC")
COLUMNS = pa.schema(
    {
        "exchange": pa.string(),
        "symbol": pa.string(),
        "trade_id": pa.string(),
        "sequence": pa.int64(),
        "price": DECIMAL,
        "quantity": DECIMAL,
        "side": pa.string(),
        "timestamp": TIME,
        "received": TIME,
    }
)


class TradesSink(BatchingSink):
    """Append each batch, which is what came of one partition since the last checkpoint, to a table."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def setup(self) -> None:
        """Create the table in a catalog of its own."""
        place = {"uri": f"sqlite:///{self._folder}/catalog.db", "warehouse": f"file://{self._folder}/warehouse"}
        catalog = SqlCatalog("local", **place)
        catalog.create_namespace("market_data")
        self._table = catalog.create_table("market_data.trades", schema=COLUMNS)

    def write(self, batch: SinkBatch) -> None:
        """Append a batch."""
        values = [item.value for item in batch]
        columns = {name: [value[name] for value in values] for name in COLUMNS.names}
        self._table.append(pa.Table.from_pydict(columns, schema=COLUMNS))


def is_valid(trade: dict[str, Any]) -> bool:
    """Return whether a message is a trade."""
    try:
        return Decimal(trade["quantity"]) > 0 and isinstance(trade["timestamp"], int)
    except (KeyError, InvalidOperation):
        return False


def to_row(trade: dict[str, Any]) -> dict[str, Any]:
    """Return the values as the table has them."""
    return {
        **trade,
        "price": Decimal(trade["price"]),
        "quantity": Decimal(trade["quantity"]),
        "timestamp": EPOCH + trade["timestamp"] * MICROSECOND,
        "received": EPOCH + trade["received"] * MICROSECOND,
    }


def skip(error: Exception, _message: object, logger: logging.Logger) -> bool:
    """Go on after a message that is no JSON."""
    logger.warning("a message is skipped: %s", error)
    return True


def main(bootstrap_servers: str, topic: str, folder: str, commit_seconds: str) -> None:
    """Run until stopped."""
    application = Application(
        broker_address=bootstrap_servers,
        consumer_group=f"quix-{Path(folder).name}",  # of this run alone: another begins at the first message too
        auto_offset_reset="earliest",
        commit_interval=float(commit_seconds),
        state_dir=f"{folder}/state",
        on_consumer_error=skip,
        loglevel="WARNING",
    )
    messages = application.topic(topic, value_deserializer=JSONDeserializer(loads=orjson.loads))
    rows = application.dataframe(messages).filter(is_valid).apply(to_row)
    rows.sink(TradesSink(folder))
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
