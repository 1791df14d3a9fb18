"""Which snapshot of a table is asked for, by its id or by a time."""

from datetime import UTC, datetime

from pyiceberg.table import Table

from query.asked import AsOf
from query.engine import QueryError

__all__ = ["NO_SNAPSHOT", "snapshot_as_of"]

NO_SNAPSHOT = 0
"""Given for a time before the table's first snapshot: it had no row then."""


def snapshot_as_of(table: Table, as_of: AsOf | None) -> int | None:
    """Give the id of the snapshot that was the table at a time, None for the one that is; an id is only looked up.

    Raises:
        QueryError: no such snapshot is kept.
    """
    if as_of is None:
        return None
    if isinstance(as_of, int):
        if table.metadata.snapshot_by_id(as_of) is None:
            raise QueryError(f"as_of: table {_name(table)} keeps no snapshot {as_of}; k2 audit lists those it had")
        return as_of
    found = table.snapshot_as_of_timestamp(int(as_of.timestamp() * 1_000))
    return found.snapshot_id if found is not None else _before_all(table, as_of)


def _before_all(table: Table, as_of: datetime) -> int:
    log = table.metadata.snapshot_log
    first = table.metadata.snapshot_by_id(log[0].snapshot_id) if log else None
    if first is not None and first.parent_snapshot_id is not None:
        oldest = datetime.fromtimestamp(log[0].timestamp_ms / 1_000, UTC)
        raise QueryError(
            f"as_of: table {_name(table)} keeps no snapshot as old as {as_of.isoformat()}; "
            f"the oldest is of {oldest.isoformat(timespec='milliseconds')}"
        )
    return NO_SNAPSHOT


def _name(table: Table) -> str:
    return ".".join(table.name())
