"""Snapshot lineage: detect and undo a rollback of a table behind the job's last commit."""

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from k2.model.errors import TableError
from k2.storage.table_properties import LAST_SNAPSHOT, LastSnapshot

__all__ = ["check_lineage", "is_rolled_back", "last_snapshot", "roll_forward"]


def last_snapshot(metadata: TableMetadata) -> LastSnapshot | None:
    """Return the job's last snapshot, which may have expired; None if it committed none."""
    return LAST_SNAPSHOT.read(metadata.properties)


def is_rolled_back(metadata: TableMetadata) -> bool:
    """Return whether the current snapshot descends from one older than the job's last, but not from that one.

    Sequence numbers increase with each snapshot of a table (Iceberg spec, "Sequence Numbers"). So if an ancestor with a
    smaller number is found before the job's last snapshot, the last snapshot is not an ancestor. If expired snapshots
    end the chain before either is found, the table counts as not rolled back. A table without a current snapshot, but
    with a last one, counts as rolled back to before its first commit.
    """
    last = last_snapshot(metadata)
    if last is None:
        return False
    snapshot = metadata.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != last.snapshot_id:
        if _number(snapshot) < last.sequence_number:
            return True
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else metadata.snapshot_by_id(parent)
    return metadata.current_snapshot_id is None


def check_lineage(metadata: TableMetadata, table: str) -> None:
    """Reject a table that no longer has rows which its progress counts.

    Raises:
        TableError: the table was rolled back behind the job's last commit.
    """
    if is_rolled_back(metadata):
        last = last_snapshot(metadata)
        assert last is not None
        raise TableError(
            f"table {table} was rolled back to snapshot {metadata.current_snapshot_id}, behind this job's last commit "
            f"{last.snapshot_id}: rows that k2.progress counts are gone; undo it with `k2 recovery roll-forward`, "
            "or start with another K2_NAMESPACE"
        )


def roll_forward(table: Table) -> int | None:
    """Make the job's last snapshot current again; return its id, or None if the table was not rolled back.

    Raises:
        TableError: the job's last snapshot has expired, or others committed since the rollback.
    """
    name, metadata = ".".join(table.name()), table.metadata
    last, current = last_snapshot(metadata), metadata.current_snapshot()
    if last is None or not is_rolled_back(metadata):
        return None
    if metadata.snapshot_by_id(last.snapshot_id) is None:
        raise TableError(
            f"table {name}: snapshot {last.snapshot_id} has expired, so the rollback cannot be undone; set another "
            "K2_NAMESPACE"
        )
    if current is not None and _number(current) > last.sequence_number:
        raise TableError(
            f"table {name}: snapshot {current.snapshot_id} was committed by others after the rollback and would be "
            "lost; copy its rows elsewhere first"
        )
    table.manage_snapshots().set_current_snapshot(snapshot_id=last.snapshot_id).commit()
    return last.snapshot_id


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0
