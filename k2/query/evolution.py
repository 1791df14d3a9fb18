"""Read files of a table whose columns have changed: by field id, not by name (Iceberg spec, column projection)."""

from collections.abc import Iterable
from typing import Final

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from k2.model.columns import COMMITS, SEQUENCE_EVENTS, TRADES, Column, ColumnType

__all__ = ["has_evolved", "lacking_columns", "names_are_ids", "select_by_id"]

_TYPES: Final[dict[type[IcebergType], str]] = {
    BinaryType: "BLOB",
    BooleanType: "BOOLEAN",
    DateType: "DATE",
    DoubleType: "DOUBLE",
    FloatType: "FLOAT",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    StringType: "VARCHAR",
    TimestampType: "TIMESTAMP",
    TimestamptzType: "TIMESTAMP WITH TIME ZONE",
}


_LATER: Final[dict[str, tuple[Column, ...]]] = {
    name: tuple(column for column in columns if column.is_later)
    for name, columns in (("trades", TRADES), ("sequence_events", SEQUENCE_EVENTS), ("commits", COMMITS))
}
_LATER_TYPES: Final = {
    ColumnType.STRING: "VARCHAR",
    ColumnType.INT: "INTEGER",
    ColumnType.LONG: "BIGINT",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}


def lacking_columns(table: Table) -> str:
    """Return a select list of nulls for the columns that one of the job's tables lacks until the job adds them."""
    names = {*table.schema().column_names}
    columns = [one for one in _LATER.get(table.name()[-1], ()) if one.name not in names]
    return "".join(f', NULL::{_LATER_TYPES[one.type]} AS "{one.name}"' for one in columns)


def has_evolved(table: Table) -> bool:
    """Return whether older files of a table may have other columns than it has now."""
    return len(table.metadata.schemas) > 1


def names_are_ids(table: Table) -> bool:
    """Return whether each column name has had one field id and type in all schemas, so that names identify columns."""
    fields = [field for schema in table.metadata.schemas for field in schema.fields]
    by_name = {(field.name, field.field_id, str(field.field_type)) for field in fields}
    return len(by_name) == len({field.name for field in fields}) == len({field.field_id for field in fields})


def select_by_id(schema: Schema, paths: Iterable[str]) -> str | None:
    """Return a statement that reads Parquet files by field id; None if DuckDB cannot map one of the column types."""
    columns = []
    for field in schema.fields:
        name = _duckdb_type(field.field_type)
        if name is None:
            return None
        columns.append(f"{field.field_id}: {{name: {_quoted(field.name)}, type: '{name}', default_value: NULL}}")
    files = ", ".join(map(_quoted, paths))
    return f"FROM read_parquet([{files}], hive_partitioning = false, schema = MAP {{{', '.join(columns)}}})"


def _duckdb_type(field_type: IcebergType) -> str | None:
    if isinstance(field_type, DecimalType):
        return f"DECIMAL({field_type.precision}, {field_type.scale})"
    return _TYPES.get(type(field_type))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
