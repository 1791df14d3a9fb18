"""Append the trades of a topic to an Iceberg table by Bytewax, message by message: the program of that contender."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import bytewax.operators as op
import pyarrow as pa
from bytewax.connectors.kafka import KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from typing_extensions import override

Trade = dict[str, Any]

POLL_MESSAGES: Final = 10_000
COLLECTED_MAX: Final = 100_000
COLLECT_TIME: Final = timedelta(seconds=5)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL: Final = pa.decimal128(38, 18)
_TIME: Final = pa.timestamp("us", "UTC")
_TYPES: Final[dict[str, pa.DataType]] = {
    "exchange": pa.string(),
    "symbol": pa.string(),
    "trade_id": pa.string(),
    "sequence": pa.int64(),
    "price": _DECIMAL,
    "quantity": _DECIMAL,
    "side": pa.string(),
    "timestamp": _TIME,
    "received": _TIME,
}
COLUMNS: Final = pa.schema(_TYPES)


class _TradesPartition(StatelessSinkPartition[list[Trade]]):
    def __init__(self, table: Table) -> None:
        self._table = table

    @override
    def write_batch(self, items: list[list[Trade]]) -> None:
        for trades in items:
            self._table.append(pa.Table.from_pylist(trades, schema=COLUMNS))


class TradesSink(DynamicSink[list[Trade]]):
    """Append each list of trades to a table in a catalog of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _TradesPartition:
        place = {"uri": f"sqlite:///{self._folder}/catalog.db", "warehouse": f"file://{self._folder}/warehouse"}
        catalog = SqlCatalog("local", **place)
        catalog.create_namespace("market_data")
        return _TradesPartition(catalog.create_table("market_data.trades", schema=COLUMNS))


def parse(message: KafkaSourceMessage[Any, Any]) -> Trade | None:
    """Return the trade of a message, or None if it is malformed."""
    try:
        trade: Trade = json.loads(message.value)
        return {
            **trade,
            "price": Decimal(trade["price"]),
            "quantity": Decimal(trade["quantity"]),
            "timestamp": EPOCH + timedelta(microseconds=trade["timestamp"]),
            "received": EPOCH + timedelta(microseconds=trade["received"]),
        }
    except (ValueError, KeyError, TypeError, InvalidOperation):
        return None


def mark(last: int | None, trade: Trade) -> tuple[int, tuple[bool, Trade]]:
    """Return whether a trade is later in the numbering of its symbol than all before it."""
    sequence = trade["sequence"]
    is_new = last is None or sequence > last
    return sequence if last is None else max(last, sequence), (is_new, trade)


def flow(bootstrap_servers: str, topic: str, folder: str) -> Dataflow:
    """Return the dataflow, from each partition's beginning to its end."""
    flow = Dataflow("trades")
    messages = kop.input(
        "kafka_in", flow, brokers=[bootstrap_servers], topics=[topic], tail=False, batch_size=POLL_MESSAGES
    )
    trades = op.filter_map("parse", messages.oks, parse)
    valid = op.filter("valid", trades, lambda trade: trade["quantity"] > 0)
    by_symbol = op.key_on("by_symbol", valid, lambda trade: trade["symbol"])
    marked = op.stateful_map("mark", by_symbol, mark)
    new = op.filter_map("new", marked, lambda item: item[1][1] if item[1][0] else None)
    together = op.key_on("together", new, lambda _trade: "all")
    collected = op.collect("collect", together, timeout=COLLECT_TIME, max_size=COLLECTED_MAX)
    lists = op.key_rm("lists", collected)
    op.output("iceberg_out", lists, TradesSink(Path(folder)))
    return flow
