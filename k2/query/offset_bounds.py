"""Offset bounds: restrict rows to messages below the committed offsets of a progress."""

from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.key_groups import group_of
from k2.model.progress import Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.storage.table_properties import PROGRESS, WRITERS

__all__ = ["BELOW_OFFSET_BOUNDS", "next_offsets", "register_offset_bounds", "table_of"]

BELOW_OFFSET_BOUNDS: Final = """
    JOIN symbols USING (exchange, symbol) JOIN offset_bounds USING (writer, topic, partition) WHERE "offset" < bound
"""
"""SQL for rows with `topic`, `partition` and `"offset"`; requires `register_offset_bounds`."""


def register_offset_bounds(engine: Engine, trades: Table, progress: Progress, name: str = "trades") -> None:
    """Register the committed offsets of each symbol's writer by partition; the symbols are those of table `name`."""
    writers = WRITERS.read(trades.metadata.properties) or 1
    names = [(row["exchange"], row["symbol"]) for row in engine.query(f"SELECT DISTINCT exchange, symbol FROM {name}")]
    symbols = [(*name, str(group_of(*name) % writers)) for name in names]
    offset_bounds = [
        (writer, partition.topic, partition.partition, entry.offset)
        for writer, entries in progress.writers.items()
        for partition, entry in entries.items()
    ]
    engine.register_arrow("symbols", table_of(_SYMBOLS, symbols))
    engine.register_arrow("offset_bounds", table_of(_BOUNDS, offset_bounds))


def next_offsets(trades: Table, settings: Settings) -> dict[TopicPartition, int]:
    """Return for each topic partition the first offset that some writer of `trades` has not committed."""
    properties = trades.metadata.properties
    progress = PROGRESS.read(properties)
    writers = [str(writer) for writer in range(WRITERS.read(properties) or settings.writers)]
    return {one: progress.next_offset(one, writers) or 0 for one in progress.partitions()}


def table_of(schema: pa.Schema, rows: list[Any]) -> pa.Table:
    """Return an Arrow table of rows whose values are in the schema's order."""
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


_SYMBOL_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field(name, pa.string()) for name in ("exchange", "symbol", "writer")
]
_BOUND_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("writer", pa.string()),
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("bound", pa.int64()),
]
_SYMBOLS: Final = pa.schema(_SYMBOL_FIELDS)
_BOUNDS: Final = pa.schema(_BOUND_FIELDS)
