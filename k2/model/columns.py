"""The one declaration of the tables' columns: Iceberg, Arrow and OpenAPI shapes derive from it.

A column's place is its Iceberg field id, from 1 on, so a new one goes to the end, with `is_later`. The job adds it to
an older table by itself, where it gets the next free id.
"""

from enum import Enum
from typing import Final, NamedTuple

__all__ = ["COMMITS", "CORRECTIONS", "SEQUENCE_EVENTS", "TRADES", "Column", "ColumnType"]


class ColumnType(Enum):
    """What a column holds, by the name of the type in the Iceberg spec."""

    STRING = "string"
    INT = "int"
    LONG = "long"
    DECIMAL = "decimal(38, 18)"
    TIMESTAMP = "timestamptz"
    """Microseconds, UTC."""
    PARTITION_COUNTS = "list<struct>"
    """One entry per topic partition: `topic`, `partition`, `offset` and the counts."""


class Column(NamedTuple):
    """One column of a table."""

    name: str
    type: ColumnType
    is_required: bool = False
    is_dictionary: bool = False
    """Whether its values repeat, so that Parquet keeps them in a dictionary."""
    is_delta: bool = False
    """Whether its values grow or share prefixes, so that Parquet keeps differences."""
    is_later: bool = False
    """Whether an older table may lack it. It is optional then."""


TRADES: Final = (
    Column("exchange", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("symbol", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("trade_id", ColumnType.STRING, is_delta=True),
    Column("sequence", ColumnType.LONG, is_delta=True),
    Column("session", ColumnType.INT, is_delta=True),
    Column("price", ColumnType.DECIMAL, is_required=True),
    Column("quantity", ColumnType.DECIMAL, is_required=True),
    Column("side", ColumnType.STRING, is_dictionary=True),
    Column("timestamp", ColumnType.TIMESTAMP, is_required=True, is_delta=True),
    Column("received", ColumnType.TIMESTAMP, is_delta=True),
    Column("topic", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("partition", ColumnType.INT, is_required=True, is_dictionary=True),
    Column("offset", ColumnType.LONG, is_required=True, is_delta=True),
    Column("index", ColumnType.INT, is_required=True, is_delta=True),
    Column("kafka_timestamp", ColumnType.TIMESTAMP, is_delta=True),
    Column("origin", ColumnType.STRING, is_dictionary=True, is_later=True),
    Column("first_sequence", ColumnType.LONG, is_delta=True, is_later=True),
)
"""Null `origin`: a trade of the live feed. Null `first_sequence`: the trade stands for the number `sequence` alone."""

SEQUENCE_EVENTS: Final = (
    Column("exchange", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("symbol", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("session", ColumnType.INT, is_required=True, is_delta=True),
    Column("event", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("first_sequence", ColumnType.LONG, is_required=True, is_delta=True),
    Column("last_sequence", ColumnType.LONG, is_required=True, is_delta=True),
    Column("missing", ColumnType.LONG, is_required=True, is_delta=True),
    Column("timestamp", ColumnType.TIMESTAMP, is_required=True, is_delta=True),
    Column("topic", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("partition", ColumnType.INT, is_required=True, is_dictionary=True),
    Column("offset", ColumnType.LONG, is_required=True, is_delta=True),
    Column("detected_at", ColumnType.TIMESTAMP, is_required=True, is_delta=True),
    Column("reason", ColumnType.STRING, is_dictionary=True, is_later=True),
    Column("decided_by", ColumnType.STRING, is_dictionary=True, is_later=True),
)
"""Null `reason` and `decided_by`: the event of a message, not of a decision."""

CORRECTIONS: Final = (
    Column("exchange", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("symbol", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("what", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("trade_id", ColumnType.STRING, is_required=True, is_delta=True),
    Column("new_trade_id", ColumnType.STRING, is_delta=True),
    Column("old_price", ColumnType.DECIMAL),
    Column("old_quantity", ColumnType.DECIMAL),
    Column("new_price", ColumnType.DECIMAL),
    Column("new_quantity", ColumnType.DECIMAL),
    Column("old_conditions", ColumnType.STRING, is_dictionary=True),
    Column("new_conditions", ColumnType.STRING, is_dictionary=True),
    Column("timestamp", ColumnType.TIMESTAMP, is_required=True, is_delta=True),
    Column("received", ColumnType.TIMESTAMP, is_delta=True),
    Column("topic", ColumnType.STRING, is_required=True, is_dictionary=True),
    Column("partition", ColumnType.INT, is_required=True, is_dictionary=True),
    Column("offset", ColumnType.LONG, is_required=True, is_delta=True),
    Column("index", ColumnType.INT, is_required=True, is_delta=True),
    Column("kafka_timestamp", ColumnType.TIMESTAMP, is_delta=True),
)

COMMITS: Final = (
    Column("table_uuid", ColumnType.STRING, is_required=True),
    Column("snapshot_id", ColumnType.LONG, is_required=True),
    Column("parent_id", ColumnType.LONG),
    Column("sequence_number", ColumnType.LONG, is_required=True),
    Column("committed_at", ColumnType.TIMESTAMP, is_required=True),
    Column("writer", ColumnType.STRING),
    Column("rows", ColumnType.LONG, is_required=True),
    Column("files", ColumnType.LONG, is_required=True),
    Column("bytes", ColumnType.LONG, is_required=True),
    Column("partitions", ColumnType.PARTITION_COUNTS, is_required=True),
    Column("remark", ColumnType.STRING),
    Column("previous_id", ColumnType.LONG),
    Column("lag", ColumnType.LONG, is_later=True),
)
