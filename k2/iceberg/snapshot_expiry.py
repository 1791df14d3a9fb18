"""Expire old snapshots in the commit that adds rows, so that commits stay fast without a maintenance job."""

from collections.abc import Iterable

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotsUpdate, TableUpdate

from k2.iceberg.snapshot_retention import REMOVED_MAX, REMOVED_MIN, Retention, expired, retention_of
from k2.model.errors import TableError

__all__ = ["AssertRemovable", "referred", "removable", "removals", "retention_in"]


def retention_in(metadata: TableMetadata) -> Retention:
    """Return a table's snapshot retention.

    Raises:
        TableError: a retention property is invalid.
    """
    try:
        return retention_of(metadata.properties)
    except ValueError as error:
        raise TableError(
            f"invalid snapshot retention of the table in {metadata.location}: {error}; correct or remove that property"
        ) from error


def removable(metadata: TableMetadata) -> tuple[int, ...]:
    """Return the ids of the snapshots that the next commit must remove; none until a batch is due.

    Raises:
        TableError: a retention property is invalid.
    """
    ids = expired(metadata.snapshots, referred(metadata), retention_in(metadata))
    return tuple(ids[:REMOVED_MAX]) if len(ids) >= REMOVED_MIN else ()


def removals(ids: Iterable[int]) -> tuple[TableUpdate, ...]:
    """Return the updates that remove snapshots, one for each: older Java REST catalogs accept one id per update."""
    # The stubs declare the field by its alias only.
    return tuple(RemoveSnapshotsUpdate(snapshot_ids=[snapshot_id]) for snapshot_id in ids)  # type: ignore[call-arg]


class AssertRemovable(AssertTableUUID):
    """Requires the table's UUID, and that the snapshots to remove exist and no branch or tag refers to them.

    The REST catalog specification has no such requirement: a REST catalog checks the UUID only. For other catalogs
    requirements are checked here, against the metadata that the commit replaces.
    """

    removed: tuple[int, ...]

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]  # pydantic has an old one
        """Reject metadata from which the snapshots cannot be removed.

        Raises:
            CommitFailedException: the table is another, a snapshot is gone, or something refers to it.
        """
        super().validate(base_metadata)
        assert base_metadata is not None
        removable_ids = {snapshot.snapshot_id for snapshot in base_metadata.snapshots} - referred(base_metadata)
        if not removable_ids.issuperset(self.removed):
            raise CommitFailedException("a snapshot to be removed is already gone, or a branch or tag refers to it")


def referred(metadata: TableMetadata) -> set[int]:
    """Return the ids of the current snapshot and of those that branches and tags refer to."""
    current = metadata.current_snapshot_id
    return {ref.snapshot_id for ref in metadata.refs.values()} | ({current} if current is not None else set())
