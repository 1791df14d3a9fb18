"""Write Parquet data files, tuned for readers of trades; a file is complete or absent."""

import contextlib
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table import Table

from k2.model.columns import CORRECTIONS, SEQUENCE_EVENTS, TRADES, ColumnType
from k2.ops.failpoints import failpoint
from k2.ops.retry import OnRetry, retried
from k2.storage.catalog_errors import CATALOG_TRANSIENT

__all__ = ["ROW_GROUP_ROWS", "write_file", "write_files", "write_parts"]

_ZSTD_LEVEL: Final = 1
"""Level 3 cost a third more time for files 2 % smaller."""
ROW_GROUP_ROWS: Final = 131_072
_COLUMNS: Final = (*TRADES, *SEQUENCE_EVENTS, *CORRECTIONS)
_DICTIONARIES: Final = frozenset(column.name for column in _COLUMNS if column.is_dictionary)
_ENCODINGS: Final = {
    column.name: "DELTA_BYTE_ARRAY" if column.type is ColumnType.STRING else "DELTA_BINARY_PACKED"
    for column in _COLUMNS
    if column.is_delta
}


def write_file(table: Table, rows: pa.Table, partition: tuple[Any, ...], on_retry: OnRetry | None = None) -> DataFile:
    """Write one sorted data file of one partition; it is not part of the table until a commit adds it.

    `partition` holds the partition's values after their transforms, in the order of the table's spec.
    Columns of `rows` are the job's own, with the table's field ids. A file that fails is deleted, and what a
    killed process leaves behind is an orphan: no snapshot refers to an incomplete file.

    Raises:
        UnreachableError: the store does not accept the file, after retries.
    """
    return write_parts(table, rows.schema, lambda: iter([rows]), partition, on_retry)


def write_parts(
    table: Table,
    schema: pa.Schema,
    parts: Callable[[], Iterator[pa.Table]],
    partition: tuple[Any, ...],
    on_retry: OnRetry | None = None,
) -> DataFile:
    """Write one data file, like `write_file`, from sorted rows in parts; each attempt asks for the parts again.

    Raises:
        UnreachableError: the store does not accept the file, after retries.
    """
    return retried(
        "writing a data file",
        lambda: _write(table, schema, parts(), partition),
        also=CATALOG_TRANSIENT,
        on_retry=on_retry,
    )


def _write(table: Table, schema: pa.Schema, parts: Iterator[pa.Table], partition: tuple[Any, ...]) -> DataFile:
    failpoint("file.create")
    (file,) = write_files(table, schema, parts, partition)
    return file


def write_files(
    table: Table,
    schema: pa.Schema,
    parts: Iterable[pa.Table],
    partition: tuple[Any, ...],
    bytes_max: float = math.inf,
) -> Iterator[DataFile]:
    """Write sorted rows, which arrive in parts, to data files of one partition; yield each file once it is whole.

    A file ends with the part at which it reaches `bytes_max`. Only one part is in memory at a time. A file that fails
    is deleted. Without parts there are no files.
    """
    remaining, held = iter(parts), deque[pa.Table]()
    for part in remaining:
        held.append(part)
        del part  # only the deque holds it, and that gives it up
        yield _write_file(table, schema, chain(_emptied(held), remaining), partition, bytes_max)


def _emptied(held: deque[pa.Table]) -> Iterator[pa.Table]:
    while held:
        yield held.popleft()


def _write_file(
    table: Table, schema: pa.Schema, parts: Iterable[pa.Table], partition: tuple[Any, ...], bytes_max: float
) -> DataFile:
    """Write the next file, and leave the parts that follow it."""
    key = _partition_key(table, partition)
    path = table.location_provider().new_data_location(f"{uuid.uuid4()}.parquet", key)
    output = table.io.new_output(path)
    try:
        # The path is always new; `overwrite` only saves a request that checks for the file.
        with output.create(overwrite=True) as stream, _writer(stream, schema) as writer:
            for part in parts:
                writer.write_table(part, row_group_size=ROW_GROUP_ROWS)
                del part  # its memory is free while the next part is made
                if stream.tell() >= bytes_max:
                    break
        failpoint("file.written")
        return _data_file(table, path, len(output), key, writer.writer.metadata)
    except BaseException:
        with contextlib.suppress(Exception):
            table.io.delete(path)
        raise


def _writer(stream: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        # The stubs accept a bool only.
        use_dictionary=[name for name in schema.names if name in _DICTIONARIES],  # type: ignore[arg-type]
        column_encoding={name: _ENCODINGS[name] for name in schema.names if name in _ENCODINGS},
        # Otherwise Arrow readers would see the dictionary types of the columns in memory.
        store_schema=False,
    )


def _partition_key(table: Table, partition: tuple[Any, ...]) -> PartitionKey:
    spec = table.spec()
    values = [PartitionFieldValue(field, value) for field, value in zip(spec.fields, partition, strict=True)]
    return PartitionKey(values, spec, table.schema())


def _data_file(table: Table, path: str, size: int, key: PartitionKey, metadata: pq.FileMetaData) -> DataFile:
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=metadata,
        stats_columns=compute_statistics_plan(table.schema(), table.metadata.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(table.schema()),
    )
    _drop_unwritable_bounds(statistics)
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=key.partition,
        file_size_in_bytes=size,
        sort_order_id=table.metadata.default_sort_order_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
    # Not an argument of `from_args`: it is not serialised, but readers of the object need it.
    file.spec_id = table.metadata.default_spec_id
    return file


def _drop_unwritable_bounds(statistics: DataFileStatistics) -> None:
    """Drop a column's bounds if PyIceberg's upper bound is not valid text.

    PyIceberg truncates a text to 16 characters and increments the last one, which after U+D7FF yields a surrogate. A
    column without bounds is never used to skip the file.
    """
    for field_id, bounds in list(statistics.column_aggregates.items()):
        try:
            bounds.max_as_bytes()
        except UnicodeEncodeError:
            del statistics.column_aggregates[field_id]
