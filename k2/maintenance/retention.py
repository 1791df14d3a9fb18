"""Retention: whole days of trades are removed in one commit that records what is removed, so that all sums still hold.

The numbers of the removed rows are kept as ranges. So no rule, and no report, takes them for missing, also if a start
reads its state from the rows because the checkpoints are lost.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from k2.iceberg.commit import Committer
from k2.iceberg.commit_notes import commit_notes_property
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName, connect
from k2.maintenance.commits import commit_change, live_files, newest_us
from k2.model.progress import TopicPartition
from k2.model.state_source import StoredSession
from k2.model.times import SECOND_US
from k2.ops.settings import Settings
from k2.query.pool import open_engine
from k2.query.stored_sessions import stored_sessions
from k2.sequencing.non_market import joined
from k2.storage.commit_log import Remark
from k2.storage.removed_rows import read_removed_numbers, write_removed_numbers
from k2.storage.table_properties import LAST_SNAPSHOT, REMOVED_ROWS, LastSnapshot

__all__ = ["Removal", "retain"]

_EPOCH: Final = date(1970, 1, 1)
_KAFKA_TIME: Final = "kafka_timestamp"
_SECONDS_MAX: Final = 24 * 3600.0
_WINDOWS: Final = 2
"""Deduplication windows, by Kafka time, of which ids and contents are compared; their days are kept."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed, or would be."""

    before: date
    """Only days before it, by venue time, are removed."""
    days: list[date]
    files: int
    bytes: int
    rows: dict[str, int]
    """The number of removed rows, by topic partition."""
    kept_days: list[date]
    """Earlier days that stay for now: some of their messages came within the last two deduplication windows."""
    committed: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    days: list[int]
    kept_days: list[int]
    files: dict[str, DataFile]


@dataclass(frozen=True, slots=True)
class _Content:
    rows: Mapping[TopicPartition, int]
    sessions: list[StoredSession]


def retain(settings: Settings, days: int, *, today: date | None = None, dry_run: bool = False) -> Removal:
    """Remove the trades of all days (UTC, by venue time) that are more than `days` days before `today`.

    The files of whole days leave the table in one commit, which also records the removed rows by topic partition; they
    stay on disk for the snapshots that refer to them. A day stays whole if a message of it may still be compared with
    later ones: its Kafka timestamp is within two deduplication windows of the newest in the table. The ledger, the
    checkpoints and the progress stay as they are. Runs again from where it was killed; a second run removes nothing.

    Raises:
        TableError: the table has delete files, or was rolled back.
        UnreachableError: the catalog or store did not answer, after retries.
    """
    committer = Committer(connect(settings, TableName.TRADES))
    before = (datetime.now(UTC).date() if today is None else today) - timedelta(days=days)
    staged: dict[frozenset[str], _Content] = {}
    plans: list[_Plan] = []

    def stage(table: Table) -> MetadataSwap | None:
        plan = _plan(settings, table, before)
        plans.append(plan)
        files = frozenset(plan.files)
        if not files:
            return None
        if files not in staged:
            staged[files] = _read(settings, table, plan)
        return None if dry_run else _staged(table, before, plan, staged[files])

    committed = commit_change(committer, f"removing days of table {committer.name}", stage) is not None
    # If a response was lost, the plan that was committed is the last one with files.
    plan = next((plan for plan in reversed(plans) if plan.files), plans[-1])
    content = staged.get(frozenset(plan.files))
    return Removal(
        before,
        [_EPOCH + timedelta(days=day) for day in plan.days],
        len(plan.files),
        sum(file.file_size_in_bytes for file in plan.files.values()),
        {} if content is None else {str(one): rows for one, rows in sorted(content.rows.items())},
        [_EPOCH + timedelta(days=day) for day in plan.kept_days],
        committed,
    )


def _plan(settings: Settings, table: Table, before: date) -> _Plan:
    spec_id, first_day = table.metadata.default_spec_id, (before - _EPOCH).days
    files = {path: file for path, file in live_files(table).items() if file.spec_id == spec_id}
    reached_us = max((newest_us(file, table, _KAFKA_TIME) or 0 for file in files.values()), default=0)
    # A clock that is ahead makes no trade old.
    reach_us = min(reached_us, int(time.time() * SECOND_US)) - _WINDOWS * settings.dedup_window_seconds * SECOND_US
    earlier = {path: file for path, file in files.items() if file.partition[0] < first_day}
    kept = {file.partition[0] for file in earlier.values() if not _is_older(file, table, reach_us)}
    removed = {path: file for path, file in earlier.items() if file.partition[0] not in kept}
    return _Plan(sorted({file.partition[0] for file in removed.values()}), sorted(kept), removed)


def _is_older(file: DataFile, table: Table, reach_us: float) -> bool:
    """Return whether the Kafka timestamps of a file are all before a time, by its statistics; nulls are."""
    newest = newest_us(file, table, _KAFKA_TIME)
    if newest is None:
        field_id = table.schema().find_field(_KAFKA_TIME).field_id
        return (file.null_value_counts or {}).get(field_id) == file.record_count
    return newest < reach_us


def _read(settings: Settings, table: Table, plan: _Plan) -> _Content:
    """Return the number of rows in the files to remove, and their sequence numbers."""
    with open_engine(settings.model_copy(update={"query_timeout_seconds": _SECONDS_MAX})) as engine:
        engine.register_files("trades", table, [*plan.files])
        counted = engine.query("SELECT topic, partition, count(*) AS n FROM trades GROUP BY ALL")
        sessions = stored_sessions(engine, dict.fromkeys(progress_of(table).partitions(), 0))
    return _Content({TopicPartition(row["topic"], row["partition"]): row["n"] for row in counted}, sessions)


def _staged(table: Table, before: date, plan: _Plan, content: _Content) -> MetadataSwap:
    known = REMOVED_ROWS.read(table.metadata.properties)
    rows = {**known.rows}
    for topic_partition, count in sorted(content.rows.items()):
        rows[str(topic_partition)] = known.of(topic_partition) + count
    file, digest = write_removed_numbers(table, joined([*read_removed_numbers(table, known), *content.sessions]))
    removed = msgspec.structs.replace(known, rows=rows, before=before, file=file, digest=digest)
    counts = ", ".join(f"{one} {count}" for one, count in sorted(content.rows.items()))
    swap = MetadataSwap(table)
    remark = {Remark.REMOVED_ROWS.value: f"before {before}: {counts}"}
    snapshot = swap.replace(plan.files.values(), (), remark, Operation.DELETE)
    # A rollback past this commit would bring back rows that are recorded as removed, so it is to be detected.
    last = LastSnapshot(snapshot.snapshot_id, swap.metadata.next_sequence_number())
    swap.set_properties(REMOVED_ROWS.set_to(removed) | LAST_SNAPSHOT.set_to(last) | commit_notes_property(swap))
    return swap
