"""Progress: how far the table is in each topic partition, and how old the newest trades of it are.

All of it is told by the table's metadata, and by the files of the newest commits alone, so that it may be asked often.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pyiceberg.table import Table

from k2.model.progress import Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query.audit import recorded_commits
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import existing_table
from k2.storage.commit_log import Commit, PartitionMove

__all__ = ["PartitionState", "progress"]

COMMITS_READ_MAX: Final = 16
"""Of so many commits the files are read; partitions that none of them moved have been quiet for longer."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """A topic partition, as the table's progress has it."""

    topic: str
    partition: int
    offset: int
    """To read next, by the writer that is furthest."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    skipped: int
    committed_at: datetime | None
    """Of the last commit that moved it, by the clock of the job; None where no record of that commit is at hand."""
    kafka_timestamp: datetime | None
    """The newest of its trades in the files that are read: those of the last commits. None where they hold none."""
    timestamp: datetime | None
    """The newest venue time of these."""
    age_seconds: float | None
    """Since `kafka_timestamp`."""


@retry_if_files_gone
def progress(settings: Settings, *, pool: EnginePool | None = None) -> list[PartitionState]:
    """Return the state of each topic partition of which something is in, sorted.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: its progress cannot be read.
    """
    table = existing_table(settings, "trades", pool)
    said = Progress.in_properties(table.metadata.properties)
    last = _last_commits(said, recorded_commits(table))
    newest = _newest(settings, table, {one.snapshot_id for ones in last.values() for one in ones}, pool)
    now = datetime.now(UTC)
    return [_state(said, where, last.get(where, []), newest.get(where, {}), now) for where in said.partitions()]


def _last_commits(said: Progress, commits: Iterable[Commit]) -> Mapping[TopicPartition, list[Commit]]:
    """Return, for each partition, the last commit of each writer: the one that moved it to where it is."""
    moved: dict[tuple[str | None, TopicPartition, int], Commit] = {}
    for commit in sorted(commits, key=lambda one: one.committed_at):
        moved.update({(commit.writer, _where(move), move.offset): commit for move in commit.partitions})
    found: dict[TopicPartition, list[Commit]] = {}
    for writer, entries in said.writers.items():
        for where, entry in entries.items():
            if (commit_there := moved.get((writer, where, entry.offset))) is not None:
                found.setdefault(where, []).append(commit_there)
    return found


def _where(move: PartitionMove) -> TopicPartition:
    return TopicPartition(move.topic, move.partition)


def _newest(
    settings: Settings, table: Table, snapshot_ids: set[int], pool: EnginePool | None
) -> Mapping[TopicPartition, dict[str, Any]]:
    """Return the newest times of each partition among the rows that some commits added."""
    kept = [one for one in table.metadata.snapshots if one.snapshot_id in snapshot_ids]
    kept.sort(key=lambda one: one.timestamp_ms)
    with open_engine(settings, pool) as engine:
        engine.register_added("added", table, {one.snapshot_id for one in kept[-COMMITS_READ_MAX:]})
        return {TopicPartition(row["topic"], row["partition"]): row for row in engine.query(_NEWEST)}


_NEWEST: Final = """
    SELECT topic, partition, max(kafka_timestamp) AS kafka_timestamp, max("timestamp") AS "timestamp"
    FROM added GROUP BY topic, partition
"""


def _state(
    said: Progress, where: TopicPartition, commits: list[Commit], newest: Mapping[str, Any], now: datetime
) -> PartitionState:
    counts = said.counts(where)
    kafka_timestamp = newest.get("kafka_timestamp")
    return PartitionState(
        where.topic,
        where.partition,
        max(entries[where].offset for entries in said.writers.values() if where in entries),
        counts.received,
        counts.stored,
        counts.duplicates,
        counts.dead_letters,
        counts.skipped,
        max((_EPOCH + timedelta(microseconds=one.committed_at) for one in commits), default=None),
        kafka_timestamp,
        newest.get("timestamp"),
        None if kafka_timestamp is None else max(0.0, (now - kafka_timestamp).total_seconds()),
    )
