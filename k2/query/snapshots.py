"""Resolve `as_of`, a snapshot id or a time, to a snapshot of a table."""

from datetime import UTC, datetime

from pyiceberg.table import Table

from k2.query.engine import QueryError
from k2.query.parameters import AsOf

__all__ = ["NO_SNAPSHOT", "NoSnapshotError", "snapshot_as_of"]

NO_SNAPSHOT = 0
"""Returned for a time before the table's first snapshot: it had no rows then."""


class NoSnapshotError(QueryError):
    """The table's state at that time cannot be read any more, or the snapshot never existed."""


def snapshot_as_of(table: Table, as_of: AsOf | None) -> int | None:
    """Return the id of the last existing snapshot that was current at a time; None stands for the current snapshot.

    A snapshot id is returned if that snapshot exists.

    Raises:
        NoSnapshotError: the snapshot does not exist.
    """
    if as_of is None:
        return None
    if isinstance(as_of, int):
        if table.metadata.snapshot_by_id(as_of) is None:
            raise NoSnapshotError(f"as_of: table {_name(table)} has no snapshot {as_of}; k2 audit lists its snapshots")
        return as_of
    snapshots = (table.metadata.snapshot_by_id(entry.snapshot_id) for entry in table.metadata.snapshot_log)
    existing = [snapshot for snapshot in snapshots if snapshot is not None]
    earlier = [snapshot for snapshot in existing if snapshot.timestamp_ms <= as_of.timestamp() * 1_000]
    if earlier:
        return earlier[-1].snapshot_id
    # The parent id is no evidence: expiry of a snapshot also removes it as the parent of later ones.
    if existing and existing[0].sequence_number != 1:
        oldest = datetime.fromtimestamp(existing[0].timestamp_ms / 1_000, UTC)
        raise NoSnapshotError(
            f"as_of: table {_name(table)} has no snapshot as old as {as_of.isoformat()}; choose a time from "
            f"{oldest.isoformat(timespec='milliseconds')}, that of its oldest snapshot"
        )
    return NO_SNAPSHOT


def _name(table: Table) -> str:
    return ".".join(table.name())
