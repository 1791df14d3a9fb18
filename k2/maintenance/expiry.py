"""Expiry: old snapshots leave a table, so that the files that only they refer to become orphans.

The job expires snapshots of its own by the table's retention, some with each commit. This does not wait for a commit,
and takes those of other programs as well.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from k2.iceberg.commit import Committer
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.snapshot_expiry import AssertRemovable, referred, removals, retention_in
from k2.iceberg.snapshot_lineage import check_lineage, last_snapshot
from k2.iceberg.snapshot_retention import REMOVED_MAX
from k2.iceberg.tables import TableName, connect
from k2.maintenance.commits import commit_once
from k2.model.errors import TableError
from k2.ops.settings import Settings

__all__ = ["AGE_MIN", "DEFAULT_AGE", "Expiry", "expire"]

DEFAULT_AGE: Final = timedelta(days=5)
"""Age up to which the job keeps the last snapshot of each hour."""
AGE_MIN: Final = timedelta(hours=1)
"""A query, or a commit whose outcome is in doubt, may still look for a younger snapshot."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What was removed from a table, or would be."""

    table: str
    snapshots: int
    """Snapshots before."""
    expired: int
    committed: bool


def expire(
    settings: Settings,
    which: TableName,
    age: timedelta = DEFAULT_AGE,
    *,
    now_ms: int | None = None,
    dry_run: bool = False,
) -> Expiry:
    """Remove the snapshots of a table that are older than `age`, whoever made them.

    The current snapshot, those of branches and tags, and the job's last one with all that follow it stay. No file is
    deleted. Runs again from where it was killed.

    Raises:
        TableError: the table was rolled back, or its properties forbid to expire snapshots.
        UnreachableError: the catalog or store did not answer, after retries.
    """
    committer = Committer(connect(settings, which))
    until_ms = (int(time.time() * 1000) if now_ms is None else now_ms) - int(age.total_seconds() * 1000)

    def plan(table: Table) -> tuple[int, ...]:
        check_lineage(table.metadata, committer.name)
        if not retention_in(table.metadata).is_on:
            raise TableError(
                f"table {committer.name} keeps all snapshots by its property gc.enabled or k2.expire.enabled; set it "
                "to true to expire them"
            )
        return _older(table.metadata, until_ms)

    def remove_some(table: Table) -> int:
        ids = plan(table)[:REMOVED_MAX]
        if ids:
            swap = MetadataSwap(table)
            swap.add(removals(ids), AssertRemovable(uuid=table.metadata.table_uuid, removed=ids))
            commit_once(swap)
        return len(ids)

    operation = f"expiring snapshots of table {committer.name}"
    planned = frozenset(committer.change(operation, plan))
    before = len(committer.table.metadata.snapshots)
    while not dry_run and committer.change(operation, remove_some, also=(CommitFailedException,)):
        pass
    left = {snapshot.snapshot_id for snapshot in committer.table.metadata.snapshots}
    return Expiry(committer.name, before, len(planned if dry_run else planned - left), committed=not dry_run)


def _older(metadata: TableMetadata, until_ms: int) -> tuple[int, ...]:
    """Return the ids of the snapshots to remove, the oldest first."""
    kept, last = referred(metadata), last_snapshot(metadata)
    return tuple(
        snapshot.snapshot_id
        for snapshot in sorted(metadata.snapshots, key=lambda one: one.sequence_number or 0)
        if snapshot.snapshot_id not in kept
        and snapshot.timestamp_ms < until_ms
        and (last is None or (snapshot.sequence_number or 0) < last.sequence_number)
    )
