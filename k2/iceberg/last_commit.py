"""The last commit of a table as metrics, so that they are true from the start of the job on."""

import math

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType

from k2.iceberg.commit_notes import noted_commits
from k2.model.times import SECOND_US
from k2.ops.metrics import FRESHNESS_SECONDS, LAST_COMMIT
from k2.storage.commit_log import Commit

__all__ = ["report_last_commit"]


def report_last_commit(table: Table, canary_exchange: str | None = None) -> None:
    """Set the time of the last commit, and the age of its newest trade, from the table; NaN if there is none.

    The canary's trades do not count. The age is NaN also if the snapshots of the noted commits have expired.
    """
    commits = [commit for commit in noted_commits(table.metadata) if commit.partitions]
    LAST_COMMIT.set(commits[-1].committed_at / SECOND_US if commits else math.nan)
    stored = [commit for commit in commits if commit.rows]
    newest_us = _newest_us(table, stored[-1], canary_exchange) if stored else None
    FRESHNESS_SECONDS.set(math.nan if newest_us is None else (stored[-1].committed_at - newest_us) / SECOND_US)


def _newest_us(table: Table, commit: Commit, canary_exchange: str | None) -> int | None:
    """Return the newest venue time in the files that a commit added, by their column statistics; without the canary."""
    snapshot = table.metadata.snapshot_by_id(commit.snapshot_id)
    if snapshot is None:
        return None
    field_id = table.schema().find_field("timestamp").field_id
    bounds = [
        bound
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == commit.snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.status == ManifestEntryStatus.ADDED
        and not _is_of(entry.data_file, canary_exchange)
        and (bound := _upper_bound_us(entry.data_file, field_id)) is not None
    ]
    return max(bounds, default=None)


def _is_of(file: DataFile, exchange: str | None) -> bool:
    return exchange is not None and exchange in [file.partition[idx] for idx in range(len(file.partition))]


def _upper_bound_us(file: DataFile, field_id: int) -> int | None:
    bound = (file.upper_bounds or {}).get(field_id)
    return None if bound is None else int(from_bytes(TimestamptzType(), bound))
