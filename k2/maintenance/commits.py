"""Commits of the upkeep: changes of a table that add and remove no progress, rebased over those of the job."""

import time
from collections.abc import Callable
from typing import Final

from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType

from k2.iceberg.commit import Committer
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.snapshot_lineage import check_lineage
from k2.model.errors import TableError, UnreachableError
from k2.ops.failpoints import failpoint
from k2.ops.retry import COMMIT_CONFLICT

__all__ = ["Stage", "commit_change", "commit_once", "live_files", "newest_us"]

Stage = Callable[[Table], MetadataSwap | None]
"""Stages a change on a table as it was just read; returns None if there is nothing to change any more."""
_CONFLICT: Final = -1


def commit_change(
    committer: Committer, operation: str, stage: Stage, sleep: Callable[[float], None] = time.sleep
) -> int | None:
    """Commit what `stage` returns, once; return the id of its snapshot, or None if there was nothing to change.

    After a conflict with a commit of the job or of others, the change is staged again on the new metadata. After a lost
    response, the table is read to see whether the change is in it. If the process is killed, the change is in the
    table or not at all, and what it wrote is an orphan.

    Raises:
        TableError: the table was rolled back behind the job's last commit, dropped, or created again.
        UnreachableError: the catalog or store did not answer, after retries.
    """
    staged: list[MetadataSwap] = []
    rejected: list[MetadataSwap] = []

    def act(table: Table) -> int | None:
        check_lineage(table.metadata, committer.name)
        for swap in staged:
            if table.metadata.snapshot_by_id(_snapshot_id(swap)) is not None:
                return _snapshot_id(swap)
        while rejected:
            # It is not in the table: no snapshot refers to its manifests.
            rejected.pop().discard()
        swap_now = stage(table)
        if swap_now is None:
            return None
        staged.append(swap_now)
        try:
            commit_once(swap_now)
        except CommitFailedException:
            rejected.append(swap_now)
            return _CONFLICT
        return _snapshot_id(swap_now)

    for attempt in range(COMMIT_CONFLICT.attempts_max):
        snapshot_id = committer.change(operation, act)
        if snapshot_id != _CONFLICT:
            return snapshot_id
        sleep(COMMIT_CONFLICT.wait_seconds(attempt + 1))
    raise UnreachableError(
        f"table {committer.name}: {COMMIT_CONFLICT.attempts_max} conflicts in a row with commits of others; "
        "run the command again at a quieter time"
    )


def commit_once(swap: MetadataSwap) -> None:
    """Replace the metadata, once.

    Raises:
        CommitFailedException: the metadata is no longer the one that the swap was staged on.
    """
    failpoint("maintenance.staged")
    swap.commit()
    failpoint("maintenance.landed")


def _snapshot_id(swap: MetadataSwap) -> int:
    return swap.snapshots[-1].snapshot_id


def live_files(table: Table) -> dict[str, DataFile]:
    """Return the data files of a table's current snapshot, by location.

    Raises:
        TableError: the table has delete files, which belong to data files that must not be rewritten apart from them.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return {}
    manifests = snapshot.manifests(table.io)
    if any(manifest.content != ManifestContent.DATA for manifest in manifests):
        raise TableError(
            f"table {'.'.join(table.name())} has delete files of another program; let that program rewrite its data "
            "files first"
        )
    entries = (entry for one in manifests for entry in one.fetch_manifest_entry(table.io, discard_deleted=True))
    return {entry.data_file.file_path: entry.data_file for entry in entries}


def newest_us(file: DataFile, table: Table, column: str) -> int | None:
    """Return the newest time in a column of a data file, microseconds since the epoch; None if it is not known."""
    bound = (file.upper_bounds or {}).get(table.schema().find_field(column).field_id)
    return None if bound is None else int(from_bytes(TimestamptzType(), bound))
