"""Compaction: small data files of closed hours and days become few sorted ones, with the same rows.

Each group of files is one commit, so a kill loses the work of one group at most. A commit of compaction has a higher
Iceberg sequence number than all commits whose rows it rewrites. So a start that reads only what was committed after a
checkpoint still reads those rows, and leaves out by their offsets those that the checkpoint has seen.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import structlog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import DayTransform

from k2.iceberg.commit import Committer
from k2.iceberg.commit_notes import commit_notes_property
from k2.iceberg.data_files import ROW_GROUP_ROWS, write_files
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.tables import TableName, connect
from k2.maintenance.commits import commit_change, live_files, newest_us
from k2.maintenance.file_groups import FileSize, Group, file_groups
from k2.model.errors import TableError
from k2.model.times import SECOND_US
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.pool import FilesGoneError, open_engine
from k2.storage.commit_log import Remark

__all__ = ["TARGET_BYTES", "CompactedGroup", "compact"]

TARGET_BYTES: Final = 128 * 1024 * 1024
"""Size of a data file beyond which no further rows are added."""
_SECONDS_MAX: Final = 24 * 3600.0
"""Sorting a day of an exchange takes longer than a user's query may."""
_ORDER: Final[Mapping[TableName, str]] = {
    TableName.TRADES: 'symbol, "timestamp", topic, partition, "offset", "index"',
    TableName.SEQUENCE_EVENTS: 'symbol, "timestamp", topic, partition, "offset", first_sequence, event',
    TableName.COMMITS: "sequence_number, snapshot_id",
    TableName.CORRECTIONS: 'symbol, "timestamp", topic, partition, "offset", "index"',
}
"""The declared sort order, then columns that make the order of rows unique."""
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CompactedGroup:
    """Files of one partition that were rewritten together."""

    table: str
    partition: str
    """The partition's values, as in the paths of its files."""
    rows: int
    files: int
    bytes: int
    new_files: int | None
    """None in a dry run, and if another program replaced the files meanwhile."""
    new_bytes: int | None


def compact(
    settings: Settings, which: TableName, *, target_bytes: int = TARGET_BYTES, dry_run: bool = False
) -> Iterator[CompactedGroup]:
    """Rewrite the small files of a table's closed hours and days, and yield each group once it is committed.

    The rows are sorted outside of memory beyond `K2_QUERY_MEMORY_LIMIT`; one row group is held at a time. Before a
    commit the new files are read back, and compared with the old ones in every column. Old files stay for the
    snapshots that refer to them. Runs again from where it was killed.

    Raises:
        TableError: the table has delete files; new files differ from the old ones, or cannot hold a column.
        UnreachableError: the catalog or store did not answer, after retries.
    """
    committer = Committer(connect(settings, which))
    files = live_files(committer.table)
    sizes = [_file_size(committer.table, file) for file in files.values() if _is_current(committer.table, file)]
    for group in file_groups(sizes, int(time.time() * SECOND_US), target_bytes):
        old = [files[one.path] for one in group]
        new = None if dry_run else _compact_group(settings, committer, which, old, target_bytes)
        yield CompactedGroup(
            committer.name,
            _partition_text(committer.table, old[0]),
            sum(file.record_count for file in old),
            len(group),
            _bytes_of(group),
            None if new is None else len(new),
            None if new is None else sum(file.file_size_in_bytes for file in new),
        )


def _bytes_of(group: Group) -> int:
    return sum(file.bytes for file in group)


def _is_current(table: Table, file: DataFile) -> bool:
    """Return whether a file has the table's partitioning; others stay as they are."""
    return file.spec_id == table.metadata.default_spec_id


def _file_size(table: Table, file: DataFile) -> FileSize:
    days = [position for position, one in enumerate(table.spec().fields) if isinstance(one.transform, DayTransform)]
    partition = _partition(file)
    day = partition[days[0]] if days else None
    return FileSize(file.file_path, partition, file.file_size_in_bytes, day, _newest_us(table, file))


def _partition(file: DataFile) -> tuple[Any, ...]:
    return tuple(file.partition[position] for position in range(len(file.partition)))


def _newest_us(table: Table, file: DataFile) -> int | None:
    if "timestamp" not in table.schema().column_names:
        return None
    return newest_us(file, table, "timestamp")


def _partition_text(table: Table, file: DataFile) -> str:
    return table.spec().partition_to_path(file.partition, table.schema())


def _compact_group(
    settings: Settings, committer: Committer, which: TableName, old: Sequence[DataFile], target_bytes: int
) -> list[DataFile] | None:
    """Rewrite the files and commit; return the new files, or None if others replaced the old ones meanwhile."""
    # Those written so far, so that an error leaves none behind.
    new: list[DataFile] = []
    try:
        with open_engine(settings.model_copy(update={"query_timeout_seconds": _SECONDS_MAX})) as engine:
            engine.register_files("old", committer.table, [file.file_path for file in old])
            for file in _rewritten(engine, committer.table, which, _partition(old[0]), target_bytes):
                new.append(file)  # noqa: PERF402  an error must not hide the files written before it
            _check_same(engine, committer, old, new)
    except BaseException as error:
        _delete(committer.table, new)
        if isinstance(error, FilesGoneError) and _are_replaced(committer, old):
            return None
        raise
    staged: list[MetadataSwap] = []

    def stage(table: Table) -> MetadataSwap | None:
        swap = _staged(table, which, old, new)
        staged.extend([swap] if swap else [])
        return swap

    if commit_change(committer, f"compacting table {committer.name}", stage) is not None:
        _log.debug("compacted", table=committer.name, files=len(old), new_files=len(new))
        return new
    if not staged:
        # If one was, its response may have been lost, and snapshots refer to the files; else they are orphans.
        _delete(committer.table, new)
    return None


def _rewritten(
    engine: Engine, table: Table, which: TableName, partition: tuple[Any, ...], target_bytes: int
) -> Iterator[DataFile]:
    schema = _arrow_schema(table)
    with engine.rows(f"SELECT {_columns(table)} FROM old ORDER BY {_ORDER[which]}", batch_rows=ROW_GROUP_ROWS) as rows:
        yield from write_files(table, schema, _parts(rows.batches, schema), partition, target_bytes)


def _parts(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    for batch in batches:
        try:
            yield pa.Table.from_batches([batch]).cast(schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise TableError(f"a column cannot be rewritten: {error}; leave this table to another program") from error


def _arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of all columns, also those that others added, with their field ids."""
    return schema_to_pyarrow(table.schema(), include_field_ids=True)


def _columns(table: Table) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in (field.name for field in table.schema().fields))


def _check_same(engine: Engine, committer: Committer, old: Sequence[DataFile], new: Sequence[DataFile]) -> None:
    """Compare the rows of two sets of files, in every column and whatever their order.

    Raises:
        TableError: they differ; the table is as it was.
    """
    engine.register_files("new", committer.table, [file.file_path for file in new])
    select = f"SELECT count(*) AS rows, sum(hash({_columns(committer.table)})::HUGEINT)::VARCHAR AS hashes FROM "
    (before,), (after,) = engine.query(f"{select} old"), engine.query(f"{select} new")
    expected = sum(file.record_count for file in old)
    if before != after or before["rows"] != expected:
        raise TableError(
            f"table {committer.name}: {expected} rows of {len(old)} files were read as {before['rows']}, and written "
            f"as {after['rows']} or with other values; nothing was changed, report this as a bug"
        )


def _staged(table: Table, which: TableName, old: Sequence[DataFile], new: Sequence[DataFile]) -> MetadataSwap | None:
    if not live_files(table).keys() >= {file.file_path for file in old}:
        return None
    swap = MetadataSwap(table)
    swap.replace(old, new, {Remark.COMPACTED.value: str(len(old))}, Operation.REPLACE)
    if which is TableName.TRADES:
        swap.set_properties(commit_notes_property(swap))
    return swap


def _are_replaced(committer: Committer, old: Sequence[DataFile]) -> bool:
    paths = {file.file_path for file in old}
    return committer.change("reading the table", lambda table: not live_files(table).keys() >= paths)


def _delete(table: Table, files: Iterable[DataFile]) -> None:
    for file in files:
        with contextlib.suppress(Exception):
            table.io.delete(file.file_path)
