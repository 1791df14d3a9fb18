"""Which snapshot of a table is asked for, by its id or by a time."""

from datetime import UTC, datetime

from pyiceberg.table import Table

from k2.query.engine import QueryError
from k2.query.parameters import AsOf

__all__ = ["NO_SNAPSHOT", "NoSnapshotError", "snapshot_as_of"]

NO_SNAPSHOT = 0
"""Given for a time before the table's first snapshot: it had no row then."""


class NoSnapshotError(QueryError):
    """What a table was then cannot be read any more, or never was."""


def snapshot_as_of(table: Table, as_of: AsOf | None) -> int | None:
    """Return the id of the snapshot that was current at a time, None for the current one; an id is looked up.

    Raises:
        NoSnapshotError: no such snapshot is kept.
    """
    if as_of is None:
        return None
    if isinstance(as_of, int):
        if table.metadata.snapshot_by_id(as_of) is None:
            raise NoSnapshotError(f"as_of: table {_name(table)} keeps no snapshot {as_of}; k2 audit lists those it had")
        return as_of
    snapshots = (table.metadata.snapshot_by_id(entry.snapshot_id) for entry in table.metadata.snapshot_log)
    kept = [snapshot for snapshot in snapshots if snapshot is not None]
    then = [snapshot for snapshot in kept if snapshot.timestamp_ms <= as_of.timestamp() * 1_000]
    if then:
        return then[-1].snapshot_id
    # Its parent would not tell: the expiry of a snapshot takes it out of those that were built on it.
    if kept and kept[0].sequence_number != 1:
        oldest = datetime.fromtimestamp(kept[0].timestamp_ms / 1_000, UTC)
        raise NoSnapshotError(
            f"as_of: table {_name(table)} keeps no snapshot as old as {as_of.isoformat()}; "
            f"the oldest is of {oldest.isoformat(timespec='milliseconds')}"
        )
    return NO_SNAPSHOT


def _name(table: Table) -> str:
    return ".".join(table.name())
