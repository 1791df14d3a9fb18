"""One attempt to replace a table's metadata, without PyIceberg's own retry.

PyIceberg's retry is not used: it would replay properties that were computed from older metadata over what others have
committed since, and it deletes the manifests of a commit that succeeded although it was reported as failed.

No other module touches PyIceberg's private parts.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, TableRequirement, TableUpdate

from k2.iceberg.tables import MANIFESTS_MERGED

__all__ = ["MetadataSwap"]


class MetadataSwap:
    """Changes that become visible together when `commit` succeeds, staged on a table's metadata as loaded."""

    def __init__(self, table: Table) -> None:
        """Stage changes of `table`, which is not refreshed."""
        self.metadata: Final = table.metadata
        """The metadata that the swap replaces."""
        self._table = table
        self._transaction = _Transaction(table)
        self._properties: dict[str, str] = {}
        self._updates: list[TableUpdate] = []
        self._requirements: list[TableRequirement] = []
        self._manifests: list[str] = []

    def append(self, files: Iterable[DataFile], summary: Mapping[str, str]) -> Snapshot:
        """Add a snapshot with data files, or without any; return it.

        Every 20th snapshot merges small manifests (`MANIFESTS_MERGED`).
        """
        update = self._transaction.update_snapshot(snapshot_properties=dict(summary))
        is_merge_due = self.metadata.next_sequence_number() % MANIFESTS_MERGED == 0
        append = update.merge_append() if is_merge_due else update.fast_append()
        for file in files:
            append.append_data_file(file)
        append.commit()
        self._manifests = [*append._written_manifests, *append._written_manifest_lists]  # noqa: SLF001
        return self.snapshots[-1]

    def delete(self, row_filter: BooleanExpression, summary: Mapping[str, str]) -> None:
        """Delete the rows that the filter selects; this adds snapshots."""
        self._transaction.delete(row_filter, snapshot_properties=dict(summary))

    def replace(
        self, removed: Iterable[DataFile], added: Iterable[DataFile], summary: Mapping[str, str], operation: Operation
    ) -> Snapshot:
        """Add a snapshot in which data files are removed and others added; return it.

        All of `removed` must be in the current snapshot. `operation` is `REPLACE` if the rows stay the same, so that
        readers that follow the table commit by commit skip it, and `DELETE` if rows are removed.
        """
        update = self._transaction.update_snapshot(snapshot_properties=dict(summary)).overwrite()
        for file in removed:
            update.delete_data_file(file)
        for file in added:
            update.append_data_file(file)
        update.commit()
        self._manifests = [*update._written_manifests, *update._written_manifest_lists]  # noqa: SLF001
        # PyIceberg computes the totals of a summary for an overwrite only.
        self._transaction._updates = tuple(  # noqa: SLF001
            _with_operation(one, operation) if isinstance(one, AddSnapshotUpdate) else one
            for one in self._transaction._updates  # noqa: SLF001
        )
        return self.snapshots[-1]

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Set table properties."""
        self._properties.update(properties)

    def add(self, updates: Sequence[TableUpdate], requirement: TableRequirement) -> None:
        """Add updates with what they require of the metadata that is replaced."""
        self._updates.extend(updates)
        self._requirements.append(requirement)

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots that the swap adds, the oldest first."""
        updates = self._transaction._updates  # noqa: SLF001
        return [update.snapshot for update in updates if isinstance(update, AddSnapshotUpdate)]

    def commit(self) -> None:
        """Replace the metadata, once.

        Raises:
            CommitFailedException: the metadata is no longer the one that the swap was staged on.
        """
        if self._properties:
            self._transaction.set_properties(self._properties)
        staged = self._transaction
        updates = (*staged._updates, *self._updates)  # noqa: SLF001
        requirements = (*staged._requirements, *self._requirements)  # noqa: SLF001
        self._table._do_commit(updates, requirements)  # noqa: SLF001

    def discard(self) -> None:
        """Delete the manifests of an append or a replacement that was rejected and that no snapshot refers to."""
        for path in self._manifests:
            with contextlib.suppress(Exception):
                self._table.io.delete(path)


def _with_operation(update: AddSnapshotUpdate, operation: Operation) -> AddSnapshotUpdate:
    snapshot = update.snapshot
    assert snapshot.summary is not None, "PyIceberg writes one"
    summary = Summary(operation, **snapshot.summary.additional_properties)
    return AddSnapshotUpdate(snapshot=snapshot.model_copy(update={"summary": summary}))


class _Transaction(Transaction):
    """A transaction that does not copy all snapshots for each access to its metadata.

    An append accesses it some thirty times before anything is staged; without this a commit to a table of
    400 snapshots took 590 ms of CPU.
    """

    @property
    def table_metadata(self) -> TableMetadata:
        return super().table_metadata if self._updates else self._table.metadata
