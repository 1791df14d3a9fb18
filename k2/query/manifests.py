"""A snapshot's data files as columns, decoded from its manifests; each manifest is read once, as it never changes."""

import struct
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final, TypeAlias

import pyarrow as pa
from cachetools import LRUCache, cached
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import (
    DateType,
    IcebergType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
)
from pyiceberg.utils.concurrent import ExecutorFactory

__all__ = ["Column", "ManifestCache", "SpecFiles", "lower", "no_nulls", "nulls_only", "partition", "upper"]

Column: TypeAlias = "pa.ChunkedArray[Any]"
MANIFESTS_BYTES_MAX: Final = 64 * 1024 * 1024
LISTS_MAX: Final = 16
"""Cached manifest lists: the current ones of the tables, and some of earlier snapshots."""
_COMPARED: Final[Mapping[type[IcebergType], pa.DataType]] = {
    DateType: pa.int64(),
    IntegerType: pa.int64(),
    LongType: pa.int64(),
    StringType: pa.string(),
    TimestampType: pa.int64(),
    TimestamptzType: pa.int64(),
}
"""Types whose values Arrow orders as Iceberg does; columns of other types are not used to skip files."""


def lower(field_id: int) -> str:
    """Return the name of the column of a field's lower bounds; null for a file without one."""
    return f"lower {field_id}"


def upper(field_id: int) -> str:
    """Return the name of the column of a field's upper bounds; null for a file without one."""
    return f"upper {field_id}"


def nulls_only(field_id: int) -> str:
    """Return the name of the bool column that says whether a field is known to be null in all rows of a file."""
    return f"nulls only {field_id}"


def no_nulls(field_id: int) -> str:
    """Return the name of the bool column that says whether a field is known to be null in no row of a file."""
    return f"no nulls {field_id}"


def partition(field_id: int) -> str:
    """Return the name of the column of a partition field's values."""
    return f"partition {field_id}"


class SpecFiles:
    """The files of one partition spec as columns: `path`, `rows`, `is_data`, and those named by the functions above."""

    def __init__(self, spec_id: int, parts: Sequence[pa.Table]) -> None:
        """Concatenate the columns of some manifests."""
        self.spec_id = spec_id
        self._parts = parts

    def column(self, name: str) -> "Column | None":
        """Return a column; None if a manifest lacks it."""
        if any(part.schema.get_field_index(name) < 0 for part in self._parts):
            return None
        return pa.chunked_array([chunk for part in self._parts for chunk in part[name].chunks])


class ManifestCache:
    """Thread-safe LRU cache of decoded manifests."""

    def __init__(self, bytes_max: int = MANIFESTS_BYTES_MAX) -> None:
        """Cache at most `bytes_max` bytes of columns."""
        lists: LRUCache[str, list[ManifestFile]] = LRUCache(LISTS_MAX)
        self._manifests = cached(lists, lambda snapshot, _: snapshot.manifest_list, Lock())(Snapshot.manifests)
        self._lock = Lock()
        self._parts: LRUCache[tuple[str, int], pa.Table] = LRUCache(bytes_max, lambda part: part.nbytes)
        self._columns_of = cached(self._parts, _key, self._lock)(_columns_of)

    @property
    def held_bytes(self) -> int:
        """Size of the cached columns in bytes."""
        return int(self._parts.currsize)

    def files(self, table: Table, snapshot: Snapshot, committed_after: int = 0) -> list[SpecFiles]:
        """Return the files of a table's snapshot, without manifests up to a sequence number."""
        listed = self._manifests(snapshot, table.io)
        manifests = [one for one in listed if (one.sequence_number or 0) > committed_after or not committed_after]
        parts = self._read(table, manifests)
        return [
            SpecFiles(spec_id, [parts[one] for one in manifests if one.partition_spec_id == spec_id])
            for spec_id in dict.fromkeys(one.partition_spec_id for one in manifests)
        ]

    def _read(self, table: Table, manifests: Sequence[ManifestFile]) -> dict[ManifestFile, pa.Table]:
        with self._lock:
            parts = {one: self._parts.get(_key(table, one)) for one in manifests}
        new = [one for one, part in parts.items() if part is None]
        # Manifests are read concurrently, because each takes long on remote storage.
        read = ExecutorFactory.get_or_create().map(lambda one: self._columns_of(table, one), new)
        found = dict(zip(new, read, strict=True))
        return {one: found[one] if part is None else part for one, part in parts.items()}


def _key(table: Table, manifest: ManifestFile) -> tuple[str, int]:
    return manifest.manifest_path, table.schema().schema_id


def _columns_of(table: Table, manifest: ManifestFile) -> pa.Table:
    files = [entry.data_file for entry in manifest.fetch_manifest_entry(table.io)]
    columns: dict[str, pa.Array[Any]] = {
        "path": pa.array([file.file_path for file in files], pa.string()),
        "rows": pa.array([file.record_count for file in files], pa.int64()),
        "is_data": pa.array([file.content == DataFileContent.DATA for file in files], pa.bool_()),
    }
    for field in table.schema().fields:
        if type(field.field_type) in _COMPARED:
            columns |= _bounds_of(files, field.field_id, field.field_type)
    fields = table.specs()[manifest.partition_spec_id].partition_type(table.schema()).fields
    for position, field in enumerate(fields):
        if type(field.field_type) in _COMPARED:
            values = [file.partition[position] for file in files]
            columns[partition(field.field_id)] = pa.array(values, _COMPARED[type(field.field_type)])
    return pa.table(columns)


def _bounds_of(files: Sequence[DataFile], field_id: int, kind: IcebergType) -> dict[str, "pa.Array[Any]"]:
    return {
        lower(field_id): _decoded([(file.lower_bounds or {}).get(field_id) for file in files], kind),
        upper(field_id): _decoded([(file.upper_bounds or {}).get(field_id) for file in files], kind),
        nulls_only(field_id): pa.array([_holds_nulls_only(file, field_id) for file in files], pa.bool_()),
        no_nulls(field_id): pa.array([(file.null_value_counts or {}).get(field_id) == 0 for file in files], pa.bool_()),
    }


def _decoded(bounds: Sequence[bytes | None], kind: IcebergType) -> "pa.Array[Any]":
    return pa.array([_value(bound, kind) for bound in bounds], _COMPARED[type(kind)])


def _value(bound: bytes | None, kind: IcebergType) -> object:
    assert isinstance(kind, PrimitiveType), "of a column that is compared"
    try:
        return None if bound is None else from_bytes(kind, bound)
    except (ValueError, struct.error):
        # An undecodable bound, such as one truncated within a character by another writer, skips no file.
        return None


def _holds_nulls_only(file: DataFile, field_id: int) -> bool:
    values = (file.value_counts or {}).get(field_id)
    return bool(values) and values == (file.null_value_counts or {}).get(field_id)
