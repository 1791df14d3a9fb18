"""The audit: each commit of the job to the table `trades`, also of snapshots that have expired since."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import ancestors_of

from k2.model.progress import Counts, PartitionProgress, Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.parameters import AsOf
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.snapshots import NoSnapshotError
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.query.where_clauses import equal
from k2.storage.commit_log import COMMIT_NOTES, Commit, PartitionMove, commit_of, in_effect, parse_commit_notes

__all__ = ["Audit", "AuditedCommit", "ProgressAsOf", "audit", "progress_as_of", "recorded_commits"]

_COUNTS: Final = Counts.__struct_fields__


@dataclass(frozen=True, slots=True)
class AuditedCommit:
    """One commit of the job."""

    snapshot_id: int
    parent_id: int | None
    """The snapshot it was built on, of another writer as well; None of the table's first."""
    sequence_number: int
    """Rises from commit to commit of a table, whoever makes them."""
    committed_at: datetime
    """By the clock of the process that committed."""
    writer: str | None
    """None of a commit that only claimed the table."""
    rows: int
    files: int
    bytes: int
    partitions: list[dict[str, Any]]
    """Of each topic partition that moved: `topic`, `partition`, the next `offset`, and the counts of this commit."""
    remark: str | None
    """What else was done by it: offsets given up, a claim."""
    undone: bool
    """Whether the table was put back to a state before it: it landed, and its rows are not in the table any more."""
    expired: bool
    """Whether its snapshot is in the table no more."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The commits asked for, the oldest first, and whether those of all time are complete."""

    commits: list[AuditedCommit]
    adds_up: bool
    """The counts and offsets of all commits are those of the table's progress: none is missing, none is told twice."""


@retry_if_files_gone
def audit(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
    *,
    pool: EnginePool | None = None,
) -> Audit:
    """Return the job's commits from a time on and before another; the newest of them where there is a limit.

    A commit is told by the table `commits`, by the table property that holds the newest, or by a snapshot that is
    there: by several of them it is one.

    Raises:
        NoTableError: there is no table `trades` where the settings say.
        TableError: it, or its table `commits`, is not the job's, or cannot be read.
    """
    table = existing_table(settings, "trades", pool)
    with _commits(settings, table, pool) as engine:
        asked = {"start": start, "end": end, "limit": limit, **_whose(table)}
        rows = engine.query(_EVERY + _CHOSEN, asked)
        there = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
        commits = [AuditedCommit(**row, expired=row["snapshot_id"] not in there) for row in reversed(rows)]
        progress = Progress.in_properties(table.metadata.properties)
        return Audit(commits, _moves(progress) == _moves(_summed(engine, table)))


class ProgressAsOf(NamedTuple):
    """What the table of trades was at a time or by a snapshot."""

    progress: Progress
    time: datetime


def progress_as_of(settings: Settings, table: Table, as_of: AsOf, *, pool: EnginePool | None = None) -> ProgressAsOf:
    """Return how far the job was, by its commits until a time, or up to a snapshot, which may have expired since.

    Raises:
        NoSnapshotError: the table never had that snapshot, or was put back to one before it.
    """
    with _commits(settings, table, pool) as engine:
        if isinstance(as_of, datetime):
            return ProgressAsOf(_summed(engine, table, as_of), as_of)
        number, time = _place_of(engine, table, as_of)
        return ProgressAsOf(_summed(engine, table, number=number), time)


def _place_of(engine: Engine, table: Table, snapshot_id: int) -> tuple[int, datetime]:
    """Return the sequence number of a snapshot that led to the table as it is, of whichever writer, and its time."""
    for row in engine.query(_EVERY + _PLACE, {"id": snapshot_id, **_whose(table)}):
        return row["sequence_number"], row["committed_at"]
    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        if snapshot.snapshot_id == snapshot_id:
            return snapshot.sequence_number or 0, datetime.fromtimestamp(snapshot.timestamp_ms / 1_000, UTC)
    name = ".".join(table.name())
    raise NoSnapshotError(f"as_of: {snapshot_id} is no commit that led to table {name} as it is; k2 audit lists them")


@contextmanager
def _commits(settings: Settings, table: Table, pool: EnginePool | None) -> Iterator[Engine]:
    """Yield an engine that shows what is `kept` of commits, and what is `noted` in the table's own metadata.

    The metadata was read before: what goes from it to the table `commits` meanwhile is in both.
    """
    noted = pa.Table.from_pylist([commit.row() for commit in recorded_commits(table)], schema=_NOTED)
    kept = find_job_table(settings, "commits", pool)
    with open_engine(settings, pool) as engine:
        engine.register_arrow("noted", noted)
        if kept is None:
            engine.register_arrow("kept", noted.slice(0, 0).append_column("table_uuid", pa.array([], pa.string())))
        else:
            check_columns(kept, ["table_uuid", *_NOTED.names])
            engine.register("kept", kept, row_filter=equal(table_uuid=str(table.metadata.table_uuid)))
        engine.register_arrow("effective", _effective(engine, table))
        yield engine


def _effective(engine: Engine, table: Table) -> pa.Table:
    """Return the ids of the commits that led to the table as it is."""
    told = engine.table(_TOLD + _LINE, _whose(table))
    ids, previous, numbers = (told[name].to_numpy() for name in ("snapshot_id", "previous_id", "sequence_number"))
    noted = parse_commit_notes(table.metadata.properties.get(COMMIT_NOTES))
    found = in_effect(ids, previous, numbers, noted[-1].snapshot_id if noted else 0)
    return pa.table({"snapshot_id": pa.array(ids[found], pa.int64())})


def recorded_commits(table: Table) -> list[Commit]:
    """Return the commits that the table's own metadata tells of: the newest, and those whose snapshots are there."""
    snapshots = (commit_of(snapshot) for snapshot in table.metadata.snapshots)
    noted = parse_commit_notes(table.metadata.properties.get(COMMIT_NOTES))
    # What was noted comes last, since the removal of a snapshot takes it out of those that were built on it.
    return [*{one.snapshot_id: one for one in (*snapshots, *noted) if one is not None}.values()]


def _whose(table: Table) -> dict[str, object]:
    metadata = table.metadata
    read = datetime.fromtimestamp(metadata.last_updated_ms / 1_000, UTC)
    return {"table": str(metadata.table_uuid), "next": metadata.next_sequence_number(), "read": read}


def _summed(engine: Engine, table: Table, as_of: datetime | None = None, number: int | None = None) -> Progress:
    writers: dict[str, dict[TopicPartition, PartitionProgress]] = {}
    for row in engine.query(_EVERY + _SUMMED, {"as_of": as_of, "number": number, **_whose(table)}):
        entry = PartitionProgress(row["offset"], **{name: row[name] for name in _COUNTS})
        writers.setdefault(row["writer"], {})[TopicPartition(row["topic"], row["partition"])] = entry
    return Progress(writers)


def _moves(progress: Progress) -> Mapping[tuple[str, TopicPartition], tuple[int, Counts]]:
    return {
        (writer, where): (entry.offset, entry.counts)
        for writer, entries in progress.writers.items()
        for where, entry in entries.items()
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
]
_NOTED: Final = pa.schema(_FIELDS)
_COLUMNS: Final = ", ".join(_NOTED.names)
# A commit told of twice is one; of one that the table does not have any more, as it was put back, nothing is noted.
# What is newer than the reading was not read yet.
_TOLD: Final = f"""
    WITH told AS (
        SELECT {_COLUMNS}, TRUE AS is_noted FROM noted
        UNION ALL
        SELECT {_COLUMNS}, FALSE AS is_noted FROM kept
        WHERE table_uuid = $table AND (sequence_number < $next OR committed_at <= $read::TIMESTAMPTZ)
    ), each AS (
        -- What was noted says more than the snapshot itself.
        SELECT * FROM told QUALIFY row_number() OVER (
            PARTITION BY snapshot_id ORDER BY previous_id IS NULL, is_noted DESC
        ) = 1
    )
"""
_LINE: Final = """
    SELECT snapshot_id, coalesce(previous_id, 0) AS previous_id, sequence_number FROM each
    WHERE sequence_number < $next ORDER BY sequence_number DESC, is_noted DESC, committed_at DESC
"""
_EVERY: Final = f"""
    {_TOLD}, commits AS (
        SELECT {_COLUMNS}, snapshot_id NOT IN (SELECT snapshot_id FROM effective) AS undone FROM each
    )
"""
_CHOSEN: Final = """
    SELECT * EXCLUDE previous_id FROM commits
    WHERE committed_at >= coalesce($start::TIMESTAMPTZ, committed_at)
      AND ($end IS NULL OR committed_at < $end::TIMESTAMPTZ)
    ORDER BY sequence_number DESC, undone LIMIT coalesce($limit, 9223372036854775807)
"""
_PLACE: Final = "SELECT sequence_number, committed_at FROM commits WHERE snapshot_id = $id AND NOT undone"
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
