"""The audit log: each commit of the job to the table `trades`, including those whose snapshots have expired."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.expressions import And
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from k2.model.columns import COMMITS as COMMIT_COLUMNS
from k2.model.progress import Counts, PartitionProgress, Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.parameters import AsOf
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.snapshots import NoSnapshotError
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.query.where_clauses import between, equal
from k2.storage.commit_log import MOVE_COUNTS, Commit, PartitionMove, commit_of, in_effect
from k2.storage.table_properties import COMMIT_NOTES, PROGRESS

__all__ = [
    "COMMITS",
    "Audit",
    "AuditedCommit",
    "ProgressAsOf",
    "audit",
    "commit_parameters",
    "open_commits",
    "progress_as_of",
    "recorded_commits",
]

_COUNTS: Final = MOVE_COUNTS


@dataclass(frozen=True, slots=True)
class AuditedCommit:
    """One commit of the job."""

    snapshot_id: int
    parent_id: int | None
    """The snapshot it is based on, which may be another writer's; None for the table's first."""
    sequence_number: int
    """Iceberg sequence number; increases with each commit to the table, whoever makes it."""
    committed_at: datetime
    """By the clock of the process that committed."""
    writer: str | None
    """None for a commit that only fences the table."""
    rows: int
    files: int
    bytes: int
    partitions: list[dict[str, Any]]
    """For each topic partition that advanced: `topic`, `partition`, the next `offset`, and counts of this commit."""
    remark: str | None
    """Other effects of the commit: abandoned offsets, fencing; or that it was its writer's first since a start."""
    lag: int | None
    """Messages that the writer's process had not read yet; None if it was not known, or by an earlier version."""
    undone: bool
    """Whether the table was rolled back to a state before it, so that its rows are no longer in the table."""
    expired: bool
    """Whether its snapshot has been removed from the table."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The selected commits, oldest first, and whether the whole commit log is complete."""

    commits: list[AuditedCommit]
    adds_up: bool
    """Whether counts and offsets of all commits add up to the table's progress: none is missing or counted twice."""


@retry_if_files_gone
def audit(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
    *,
    pool: EnginePool | None = None,
) -> Audit:
    """Return the job's commits with `start` <= committed_at < `end`; with a `limit`, the newest of them.

    A commit is recorded in the table `commits`, in the table property with the newest commits, or in an existing
    snapshot; a commit that is recorded in several of them is returned once.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: it or the table `commits` was not created by the job, or cannot be read.
    """
    table = existing_table(settings, "trades", pool)
    with open_commits(settings, table, pool) as engine:
        parameters = {"start": start, "end": end, "limit": limit, **commit_parameters(table)}
        rows = engine.query(COMMITS + _SELECTED, parameters)
        there = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
        commits = [AuditedCommit(**row, expired=row["snapshot_id"] not in there) for row in reversed(rows)]
        progress = PROGRESS.read(table.metadata.properties)
        return Audit(commits, _offsets_and_counts(progress) == _offsets_and_counts(_summed(engine, table)))


class ProgressAsOf(NamedTuple):
    """The progress of the trades table at a time or snapshot."""

    progress: Progress
    time: datetime


def progress_as_of(settings: Settings, table: Table, as_of: AsOf, *, pool: EnginePool | None = None) -> ProgressAsOf:
    """Return the job's progress by its commits until a time, or up to a snapshot, which may have expired.

    Raises:
        NoSnapshotError: the table never had that snapshot, or was rolled back to one before it.
    """
    with open_commits(settings, table, pool) as engine:
        if isinstance(as_of, datetime):
            return ProgressAsOf(_summed(engine, table, as_of), as_of)
        number, time = _find_snapshot(engine, table, as_of)
        return ProgressAsOf(_summed(engine, table, number=number), time)


def _find_snapshot(engine: Engine, table: Table, snapshot_id: int) -> tuple[int, datetime]:
    """Return the sequence number and time of a snapshot in the current table's lineage, of any writer."""
    for row in engine.query(COMMITS + _SNAPSHOT, {"id": snapshot_id, **commit_parameters(table)}):
        return row["sequence_number"], row["committed_at"]
    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        if snapshot.snapshot_id == snapshot_id:
            return snapshot.sequence_number or 0, datetime.fromtimestamp(snapshot.timestamp_ms / 1_000, UTC)
    name = ".".join(table.name())
    raise NoSnapshotError(
        f"as_of: {snapshot_id} is no commit in the lineage of table {name}; k2 audit lists its commits"
    )


@contextmanager
def open_commits(
    settings: Settings, table: Table, pool: EnginePool | None, since: datetime | None = None
) -> Iterator[Engine]:
    """Yield an engine with views of the commits: `archived` in the table `commits`, `metadata_commits` in its metadata.

    With `since`, files of the commit log with only earlier commits are skipped.
    The metadata is read first: a commit that is archived meanwhile is in both.
    """
    metadata_commits = pa.Table.from_pylist([commit.row() for commit in recorded_commits(table)], schema=_RECORD_SCHEMA)
    archive = find_job_table(settings, "commits", pool)
    with open_engine(settings, pool) as engine:
        engine.register_arrow("metadata_commits", metadata_commits)
        if archive is None:
            engine.register_arrow(
                "archived", metadata_commits.slice(0, 0).append_column("table_uuid", pa.array([], pa.string()))
            )
        else:
            check_columns(archive, (column.name for column in COMMIT_COLUMNS if not column.is_later))
            of_table = equal(table_uuid=str(table.metadata.table_uuid))
            engine.register("archived", archive, row_filter=And(of_table, between("committed_at", since, None)))
        engine.register_arrow("effective", _effective(engine, table))
        yield engine


def _effective(engine: Engine, table: Table) -> pa.Table:
    """Return the ids of the commits in the current table's lineage."""
    recorded = engine.table(_RECORDED + _LINEAGE, commit_parameters(table))
    ids, previous, numbers = (recorded[name].to_numpy() for name in ("snapshot_id", "previous_id", "sequence_number"))
    noted = COMMIT_NOTES.read(table.metadata.properties)
    found = in_effect(ids, previous, numbers, noted[-1].snapshot_id if noted else 0)
    return pa.table({"snapshot_id": pa.array(ids[found], pa.int64())})


def recorded_commits(table: Table) -> list[Commit]:
    """Return the commits recorded in the table's own metadata: the newest ones, and those of existing snapshots."""
    snapshots = (commit_of(snapshot) for snapshot in table.metadata.snapshots)
    noted = COMMIT_NOTES.read(table.metadata.properties)
    # The notes come last and win: removal of a snapshot also removes it as the parent of later snapshots.
    return [*{one.snapshot_id: one for one in (*snapshots, *noted) if one is not None}.values()]


def commit_parameters(table: Table) -> dict[str, object]:
    """Return the parameters of `COMMITS`."""
    metadata = table.metadata
    read = datetime.fromtimestamp(metadata.last_updated_ms / 1_000, UTC)
    return {"table": str(metadata.table_uuid), "next": metadata.next_sequence_number(), "read": read}


def _summed(engine: Engine, table: Table, as_of: datetime | None = None, number: int | None = None) -> Progress:
    writers: dict[str, dict[TopicPartition, PartitionProgress]] = {}
    for row in engine.query(COMMITS + _SUMMED, {"as_of": as_of, "number": number, **commit_parameters(table)}):
        counts = {name: row[name] for name in _COUNTS}
        corrections = counts["received"] - sum(row[name] for name in _COUNTS if name != "received")
        entry = PartitionProgress(row["offset"], **counts, corrections=corrections)
        writers.setdefault(row["writer"], {})[TopicPartition(row["topic"], row["partition"])] = entry
    return Progress(writers)


def _offsets_and_counts(progress: Progress) -> Mapping[tuple[str, TopicPartition], tuple[int, Counts]]:
    return {
        (writer, partition): (entry.offset, entry.counts)
        for writer, entries in progress.writers.items()
        for partition, entry in entries.items()
    }


_TYPES: Final[Mapping[type | str, pa.DataType]] = {int: pa.int64(), str: pa.string()}
_MOVE: Final = pa.struct([pa.field(name, _TYPES[kind]) for name, kind in PartitionMove.__annotations__.items()])
_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("snapshot_id", pa.int64()),
    pa.field("parent_id", pa.int64()),
    pa.field("sequence_number", pa.int64()),
    pa.field("committed_at", pa.timestamp("us", tz="UTC")),
    pa.field("writer", pa.string()),
    pa.field("rows", pa.int64()),
    pa.field("files", pa.int64()),
    pa.field("bytes", pa.int64()),
    pa.field("partitions", pa.list_(_MOVE)),
    pa.field("remark", pa.string()),
    pa.field("previous_id", pa.int64()),
    pa.field("lag", pa.int64()),
]
_RECORD_SCHEMA: Final = pa.schema(_FIELDS)
_COLUMNS: Final = ", ".join(_RECORD_SCHEMA.names)
# A commit that is recorded twice counts once. Commits that were archived after the metadata was read are left out;
# a commit that was rolled back is in the archive only.
_RECORDED: Final = """
    WITH recorded AS (
        SELECT *, TRUE AS is_from_metadata FROM metadata_commits
        -- The table of an earlier version lacks columns.
        UNION ALL BY NAME
        SELECT *, FALSE AS is_from_metadata FROM archived
        WHERE table_uuid = $table AND (sequence_number < $next OR committed_at <= $read::TIMESTAMPTZ)
    ), each AS (
        -- The notes hold more than the snapshot summary.
        SELECT * FROM recorded QUALIFY row_number() OVER (
            PARTITION BY snapshot_id ORDER BY previous_id IS NULL, is_from_metadata DESC
        ) = 1
    )
"""
_LINEAGE: Final = """
    SELECT snapshot_id, coalesce(previous_id, 0) AS previous_id, sequence_number FROM each
    WHERE sequence_number < $next ORDER BY sequence_number DESC, is_from_metadata DESC, committed_at DESC
"""
COMMITS: Final = f"""
    {_RECORDED}, commits AS (
        SELECT {_COLUMNS}, snapshot_id NOT IN (SELECT snapshot_id FROM effective) AS undone FROM each
    )
"""
"""SQL that begins with the job's commits as `commits`, over the views of `open_commits`."""
_REST: Final = "one.received - one.stored - one.duplicates - one.dead_letters - one.skipped"
_SELECTED: Final = f"""
    SELECT * EXCLUDE previous_id
           REPLACE ([struct_insert(one, corrections := {_REST}) for one in partitions] AS partitions)
    FROM commits
    WHERE committed_at >= coalesce($start::TIMESTAMPTZ, committed_at)
      AND ($end IS NULL OR committed_at < $end::TIMESTAMPTZ)
    ORDER BY sequence_number DESC, undone LIMIT coalesce($limit, 9223372036854775807)
"""
_SNAPSHOT: Final = "SELECT sequence_number, committed_at FROM commits WHERE snapshot_id = $id AND NOT undone"
_SUMMED: Final = f"""
    , moves AS (
        SELECT writer, unnest(partitions, max_depth := 2) FROM commits
        WHERE NOT undone AND committed_at <= coalesce($as_of::TIMESTAMPTZ, committed_at)
          AND sequence_number <= coalesce($number::BIGINT, sequence_number)
    )
    SELECT writer, topic, partition, max("offset") AS "offset",
           {", ".join(f"sum({name})::BIGINT AS {name}" for name in _COUNTS)}
    FROM moves GROUP BY writer, topic, partition
"""
