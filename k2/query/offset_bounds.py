"""How far the job had read at a commit, as a condition on rows: those of messages below the next one to read."""

from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.key_groups import group_of
from k2.model.progress import Progress
from k2.query.engine import Engine

__all__ = ["BELOW_OFFSET_BOUNDS", "register_offset_bounds", "table_of"]

_WRITERS: Final = "k2.writers"
BELOW_OFFSET_BOUNDS: Final = """
    JOIN symbols USING (exchange, symbol) JOIN floors USING (writer, topic, partition) WHERE "offset" < floor
"""
"""Of rows that tell their message; `register_offset_bounds` makes what is joined."""


def register_offset_bounds(engine: Engine, trades: Table, progress: Progress, name: str = "trades") -> None:
    """Show how far the writer of each symbol was, partition by partition; the symbols are those of a table shown."""
    writers = int(trades.metadata.properties.get(_WRITERS, "1"))
    names = [(row["exchange"], row["symbol"]) for row in engine.query(f"SELECT DISTINCT exchange, symbol FROM {name}")]
    symbols = [(*name, str(group_of(*name) % writers)) for name in names]
    floors = [
        (writer, where.topic, where.partition, entry.offset)
        for writer, entries in progress.writers.items()
        for where, entry in entries.items()
    ]
    engine.register_arrow("symbols", table_of(_SYMBOLS, symbols))
    engine.register_arrow("floors", table_of(_FLOORS, floors))


def table_of(schema: pa.Schema, rows: list[Any]) -> pa.Table:
    """Return rows as Arrow, their values in the schema's order."""
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


_SYMBOL_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field(name, pa.string()) for name in ("exchange", "symbol", "writer")
]
_FLOOR_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("writer", pa.string()),
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("floor", pa.int64()),
]
_SYMBOLS: Final = pa.schema(_SYMBOL_FIELDS)
_FLOORS: Final = pa.schema(_FLOOR_FIELDS)
