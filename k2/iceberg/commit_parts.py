"""What guards each commit of a writer, and what each commit contains besides its rows.

A guard rejects a commit by the metadata that it would replace. A contribution adds something to the same swap of
metadata, so that it is committed with the rows or not at all.
"""

from collections.abc import Callable
from typing import Final

from pyiceberg.table.metadata import TableMetadata

from k2.iceberg.fence import check_fence
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.pending_commit import PendingCommit
from k2.iceberg.snapshot_expiry import AssertRemovable, removable, removals
from k2.iceberg.snapshot_lineage import check_lineage
from k2.storage.table_properties import COMMIT_ID, LAST_SNAPSHOT, PROGRESS, LastSnapshot

__all__ = ["CONTRIBUTIONS", "GUARDS", "Contribution", "Guard", "has_commit"]

Guard = Callable[[str, TableMetadata, PendingCommit], None]
"""Called with the table's name, the metadata that the commit would replace, and the pending commit.

Raises TableError or FencedError; the commit is then not tried again.
"""
Contribution = Callable[[MetadataSwap, PendingCommit], None]
"""Called with the swap, which has the snapshot with the rows as its last, and the pending commit."""


def _check_rollback(table: str, metadata: TableMetadata, _pending: PendingCommit) -> None:
    check_lineage(metadata, table)


def _check_fence(table: str, metadata: TableMetadata, pending: PendingCommit) -> None:
    check_fence(table, pending.writer, PROGRESS.read(metadata.properties).of(pending.writer), pending.expected)


def _add_progress(swap: MetadataSwap, pending: PendingCommit) -> None:
    progress = PROGRESS.read(swap.metadata.properties).replaced(pending.writer, pending.result)
    last = LastSnapshot(swap.snapshots[-1].snapshot_id, swap.metadata.next_sequence_number())
    swap.set_properties(PROGRESS.set_to(progress) | LAST_SNAPSHOT.set_to(last))


def _add_commit_id(swap: MetadataSwap, pending: PendingCommit) -> None:
    swap.set_properties(COMMIT_ID.set_to(pending.commit_id, pending.writer))


def _add_writer_state(swap: MetadataSwap, pending: PendingCommit) -> None:
    swap.set_properties(pending.properties)


def _expire_snapshots(swap: MetadataSwap, _pending: PendingCommit) -> None:
    removed = removable(swap.metadata)
    swap.add(removals(removed), AssertRemovable(uuid=swap.metadata.table_uuid, removed=removed))


GUARDS: Final[tuple[Guard, ...]] = (_check_rollback, _check_fence)
"""Those of every table. The fence comes before the fencing token: its error, with the offsets of both, says more."""
CONTRIBUTIONS: Final[tuple[Contribution, ...]] = (_add_writer_state, _add_progress, _add_commit_id, _expire_snapshots)
"""Those of every table."""


def has_commit(metadata: TableMetadata, pending: PendingCommit) -> bool:
    """Return whether a pending commit is in the metadata.

    The commit id outlives the snapshot's expiry; the snapshot outlives a later commit of the same writer.
    """
    return COMMIT_ID.read(metadata.properties, pending.writer) == pending.commit_id or any(
        metadata.snapshot_by_id(snapshot_id) is not None for snapshot_id in pending.snapshot_ids
    )
