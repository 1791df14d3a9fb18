"""Old snapshots leave a table in the commit that brings new rows: nothing else need run to keep commits fast."""

from collections.abc import Iterable

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotsUpdate, TableUpdate

from k2.iceberg.snapshot_retention import REMOVED_MAX, REMOVED_MIN, Retention, expired, retention_of
from k2.model.errors import TableError

__all__ = ["AssertRemovable", "removable", "removals", "retention_in"]


def retention_in(metadata: TableMetadata) -> Retention:
    """Return how many snapshots a table keeps.

    Raises:
        TableError: a property that decides about it is bad.
    """
    try:
        return retention_of(metadata.properties)
    except ValueError as error:
        raise TableError(
            f"the table in {metadata.location} does not say what snapshots to keep: {error}; "
            "correct that property, or remove it"
        ) from error


def removable(metadata: TableMetadata) -> tuple[int, ...]:
    """Return the ids of the snapshots that the next commit is to remove; none until a batch is due.

    Raises:
        TableError: a property that decides about it is bad.
    """
    ids = expired(metadata.snapshots, _referred(metadata), retention_in(metadata))
    return tuple(ids[:REMOVED_MAX]) if len(ids) >= REMOVED_MIN else ()


def removals(ids: Iterable[int]) -> tuple[TableUpdate, ...]:
    """Return the updates that remove snapshots: one each, since REST catalogs of older Java take no more in one."""
    # The stubs know the field by its alias alone.
    return tuple(RemoveSnapshotsUpdate(snapshot_ids=[snapshot_id]) for snapshot_id in ids)  # type: ignore[call-arg]


class AssertRemovable(AssertTableUUID):
    """The table is the one meant, and what is to be removed is still there with no branch or tag that refers to it.

    The specification of REST catalogs has no such requirement: to them it is that of the table alone. Other catalogs
    check requirements here, against the metadata that they replace.
    """

    removed: tuple[int, ...]

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]  # pydantic has an old one
        """Refuse metadata from which the snapshots cannot be removed.

        Raises:
            CommitFailedException: the table is another, a snapshot is gone, or something refers to it.
        """
        super().validate(base_metadata)
        assert base_metadata is not None
        there = {snapshot.snapshot_id for snapshot in base_metadata.snapshots} - _referred(base_metadata)
        if not there.issuperset(self.removed):
            raise CommitFailedException("a snapshot to be removed is gone already, or has a branch or tag by now")


def _referred(metadata: TableMetadata) -> set[int]:
    current = metadata.current_snapshot_id
    return {ref.snapshot_id for ref in metadata.refs.values()} | ({current} if current is not None else set())
