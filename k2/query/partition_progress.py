"""Progress: the next offset and counts of each topic partition, and the age of its newest trades.

It is read from the table's metadata and the files of the newest commits alone, so that frequent polling is cheap.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pyiceberg.table import Table

from k2.model.progress import Progress, TopicPartition
from k2.model.times import time_of
from k2.ops.settings import Settings
from k2.query.audit import recorded_commits
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import existing_table
from k2.storage.commit_log import Commit
from k2.storage.table_properties import PROGRESS

__all__ = ["PartitionState", "partition_states", "progress"]

COMMITS_READ_MAX: Final = 16
"""Number of commits whose files are read; partitions that none of them advanced have been idle for longer."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The progress of a topic partition."""

    topic: str
    partition: int
    offset: int
    """Next offset to read; the highest of all writers."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    skipped: int
    committed_at: datetime | None
    """Time of the last commit that advanced it, by the job's clock; None if the metadata does not record it."""
    kafka_timestamp: datetime | None
    """Newest Kafka timestamp of its trades in the files that are read, those of the last commits; None without any."""
    timestamp: datetime | None
    """Newest venue time of these trades."""
    age_seconds: float | None
    """Seconds since `kafka_timestamp`."""
    corrections: int = 0


@retry_if_files_gone
def progress(settings: Settings, *, pool: EnginePool | None = None) -> list[PartitionState]:
    """Return the progress of each topic partition of the table, sorted.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: its progress cannot be read.
    """
    return partition_states(settings, existing_table(settings, "trades", pool), pool=pool)


def partition_states(settings: Settings, table: Table, *, pool: EnginePool | None = None) -> list[PartitionState]:
    """Return the progress of each topic partition as of one version of the table, sorted.

    Raises:
        TableError: its progress cannot be read.
    """
    recorded = PROGRESS.read(table.metadata.properties)
    last = _last_commits(recorded, recorded_commits(table))
    newest = _newest(settings, table, {one.snapshot_id for ones in last.values() for one in ones}, pool)
    now = datetime.now(UTC)
    return [
        _state(recorded, partition, last.get(partition, []), newest.get(partition, {}), now)
        for partition in recorded.partitions()
    ]


def _last_commits(recorded: Progress, commits: Iterable[Commit]) -> Mapping[TopicPartition, list[Commit]]:
    """Return, for each partition, the last commit of each writer: the one that advanced it to its committed offset."""
    moved: dict[tuple[str | None, TopicPartition, int], Commit] = {}
    for commit in sorted(commits, key=lambda one: one.committed_at):
        for move in commit.partitions:
            moved[commit.writer, TopicPartition(move.topic, move.partition), move.offset] = commit
    found: dict[TopicPartition, list[Commit]] = {}
    for writer, entries in recorded.writers.items():
        for partition, entry in entries.items():
            if (last_commit := moved.get((writer, partition, entry.offset))) is not None:
                found.setdefault(partition, []).append(last_commit)
    return found


def _newest(
    settings: Settings, table: Table, snapshot_ids: set[int], pool: EnginePool | None
) -> Mapping[TopicPartition, dict[str, Any]]:
    """Return each partition's newest times in the rows that some snapshots added."""
    snapshots = [one for one in table.metadata.snapshots if one.snapshot_id in snapshot_ids]
    snapshots.sort(key=lambda one: one.timestamp_ms)
    with open_engine(settings, pool) as engine:
        engine.register_added("added", table, {one.snapshot_id for one in snapshots[-COMMITS_READ_MAX:]})
        return {TopicPartition(row["topic"], row["partition"]): row for row in engine.query(_NEWEST)}


_NEWEST: Final = """
    SELECT topic, partition, max(kafka_timestamp) AS kafka_timestamp, max("timestamp") AS "timestamp"
    FROM added GROUP BY topic, partition
"""


def _state(
    recorded: Progress, partition: TopicPartition, commits: list[Commit], newest: Mapping[str, Any], now: datetime
) -> PartitionState:
    counts = recorded.counts(partition)
    kafka_timestamp = newest.get("kafka_timestamp")
    return PartitionState(
        partition.topic,
        partition.partition,
        max(entries[partition].offset for entries in recorded.writers.values() if partition in entries),
        counts.received,
        counts.stored,
        counts.duplicates,
        counts.dead_letters,
        counts.skipped,
        max((time_of(one.committed_at) for one in commits), default=None),
        kafka_timestamp,
        newest.get("timestamp"),
        None if kafka_timestamp is None else max(0.0, (now - kafka_timestamp).total_seconds()),
        counts.corrections,
    )
