"""Output formats: JSON, CSV, Parquet and Arrow, each encoded as a stream."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, BinaryIO, Final, Protocol, get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from k2.query.engine import QueryError, RecordBatchStream

__all__ = [
    "Format",
    "check_names",
    "json_lines",
    "objects",
    "records_table",
    "to_json",
    "write",
    "write_records",
]

_TYPES: Final[dict[type, pa.DataType]] = {
    bool: pa.bool_(),
    date: pa.date32(),
    datetime: pa.timestamp("us", tz="UTC"),
    float: pa.float64(),
    int: pa.int64(),
    str: pa.string(),
    Decimal | None: pa.decimal128(38, 18),  # type: ignore[dict-item]
    datetime | None: pa.timestamp("us", tz="UTC"),  # type: ignore[dict-item]
    float | None: pa.float64(),  # type: ignore[dict-item]
    int | None: pa.int64(),  # type: ignore[dict-item]
    str | None: pa.string(),  # type: ignore[dict-item]
}


class Format(StrEnum):
    """The format of an output."""

    JSON = "json"
    """One array of objects; decimals as strings with all their digits, times as RFC 3339."""
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    """The IPC stream format."""


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


def write(rows: RecordBatchStream, form: Format, stream: BinaryIO) -> int:
    """Write rows to a stream, and return their number.

    Raises:
        QueryError: two columns have the same name, or a column or value cannot be encoded in the format.
    """
    if form is Format.JSON:
        return _write_json(rows, stream)
    check_names(rows.schema)
    try:
        with _OPEN[form](stream, rows.schema) as writer:
            return sum(_written(writer, batch) for batch in rows.batches)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise QueryError(f"cannot encode a column as {form.value}: {error}; cast it, or request JSON") from error


def to_json(value: object) -> bytes:
    """Return a value as JSON: decimals as strings with all their digits, times as RFC 3339, bytes in base64."""
    return msgspec.json.encode(value, enc_hook=str)


def write_records(kind: type[Any], found: Sequence[Any], form: Format, stream: BinaryIO) -> int:
    """Write a report's rows, each an instance of the data class `kind`, and return their number.

    Raises:
        QueryError: a number exceeds 64 bits, which only JSON can represent.
    """
    if form is not Format.JSON:
        table = records_table(kind, found)
        return write(RecordBatchStream(table.schema, iter(table.to_batches())), form, stream)
    stream.write(to_json(found))
    return len(found)


def records_table(kind: type[Any], found: Sequence[Any]) -> pa.Table:
    """Return a report's rows, each an instance of the data class `kind`, as an Arrow table.

    Raises:
        QueryError: a number exceeds 64 bits.
    """
    schema = pa.schema({name: _TYPES[hint] for name, hint in get_type_hints(kind).items()})
    try:
        return pa.Table.from_pylist([asdict(one) for one in found], schema)
    except (OverflowError, pa.ArrowInvalid) as error:
        raise QueryError("a number of the report exceeds 64 bits; request JSON") from error


def json_lines(rows: RecordBatchStream) -> Iterator[bytes]:
    """Yield each row as a JSON object, without separators.

    Raises:
        QueryError: two columns have the same name, or a value cannot be represented in JSON.
    """
    check_names(rows.schema)
    decimals = [field.name for field in rows.schema if pa.types.is_decimal(field.type)]
    for batch in rows.batches:
        for row in objects(batch):
            # str() writes small decimals, and zero, with an exponent.
            row |= {name: f"{row[name]:f}" for name in decimals if row[name] is not None}
            yield to_json(row)


def check_names(schema: pa.Schema) -> None:
    """Raise if a column cannot be selected by its name.

    Raises:
        QueryError: two columns have the same name.
    """
    names = Counter(schema.names)
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        raise QueryError(f"two columns have the name {doubled[0]!r}; rename one with AS")


def objects(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return each row as a dictionary.

    Raises:
        QueryError: Python, and so JSON, cannot represent a value, such as an infinite time.
    """
    try:
        return batch.to_pylist()
    except (ArithmeticError, ValueError) as error:
        raise QueryError(f"cannot represent a value: {error}; cast it") from error


def _write_json(rows: RecordBatchStream, stream: BinaryIO) -> int:
    count = 0
    for line in json_lines(rows):
        stream.write(b",\n" if count else b"[")
        stream.write(line)
        count += 1
    stream.write(b"]\n" if count else b"[]\n")
    return count


def _written(writer: _Writer, batch: pa.RecordBatch) -> int:
    writer.write_batch(batch)
    return batch.num_rows


_OPEN: Final[dict[Format, Callable[[BinaryIO, pa.Schema], AbstractContextManager[Any]]]] = {
    Format.CSV: pa.csv.CSVWriter,
    Format.PARQUET: pq.ParquetWriter,
    # The stubs do not accept Python file objects.
    Format.ARROW: pa.ipc.new_stream,  # type: ignore[dict-item]
}
