"""Iceberg schemas of the job's tables, derived from `k2.model.columns`."""

from collections.abc import Sequence
from typing import Final

from pyiceberg.schema import Schema
from pyiceberg.types import (
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

from k2.model.columns import Column, ColumnType
from k2.storage.commit_log import MOVE_COUNTS

__all__ = ["iceberg_type", "schema_of"]

_PRIMITIVES: Final[dict[ColumnType, IcebergType]] = {
    ColumnType.STRING: StringType(),
    ColumnType.INT: IntegerType(),
    ColumnType.LONG: LongType(),
    ColumnType.DECIMAL: DecimalType(38, 18),
    ColumnType.TIMESTAMP: TimestamptzType(),
}


def schema_of(columns: Sequence[Column]) -> Schema:
    """Return the Iceberg schema of a table as the job creates it.

    Field ids are the columns' positions, from 1, as catalogs assign them; ids of nested fields follow.
    """
    fields = [
        NestedField(
            field_id, column.name, iceberg_type(column.type, first_id=len(columns) + 1), required=column.is_required
        )
        for field_id, column in enumerate(columns, start=1)
    ]
    return Schema(*fields)


def iceberg_type(column_type: ColumnType, *, first_id: int = 1) -> IcebergType:
    """Return the Iceberg type of a column; nested fields get ids from `first_id` on."""
    if column_type is not ColumnType.PARTITION_COUNTS:
        return _PRIMITIVES[column_type]
    names: tuple[tuple[str, IcebergType], ...] = (
        ("topic", StringType()),
        ("partition", IntegerType()),
        ("offset", LongType()),
        *((name, LongType()) for name in MOVE_COUNTS),
    )
    fields = (
        NestedField(field_id, name, field_type, required=True)
        for field_id, (name, field_type) in enumerate(names, start=first_id + 1)
    )
    return ListType(first_id, StructType(*fields), element_required=True)
