"""The writer of the commit log: moves commit notes of the table `trades` to the table `commits`, each once."""

import contextlib
from collections.abc import Sequence
from typing import Final

import msgspec
import pyarrow as pa
from pyiceberg.schema import Schema

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.commit import Advance, Committer
from k2.iceberg.data_files import write_file
from k2.iceberg.fence import Entries
from k2.model.columns import COMMITS
from k2.model.errors import FencedError
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.retry import OnRetry
from k2.storage.commit_log import Commit

__all__ = ["CommitLogWriter"]


_KEPT: Final = "k2.kept"
"""Property of the table `commits`: which snapshots the newest offer was of."""


class _Offer(msgspec.Struct, frozen=True):
    table: str = ""
    snapshots: frozenset[int] = frozenset()


class CommitLogWriter:
    """Appends commits to the table `commits`, each once.

    Where a crash comes between this and the commit that takes them out of the trades' property, they are offered
    again; several processes may offer the same. So the table remembers what it was offered last, by snapshot id: a
    commit stays on offer without a break until it is dropped for good. (Sequence numbers would not do: they come
    again where the trades' table is put back to an earlier state.)
    """

    def __init__(self, committer: Committer, table_id: str, name: str, on_retry: OnRetry | None = None) -> None:
        """Keep the commits of the table with that UUID, which people call `name`."""
        self._committer = committer
        self._table_id = table_id
        self._place = TopicPartition(name, 0)
        self._on_retry = on_retry

    def keep(self, commits: Sequence[Commit]) -> int:
        """Land commits, the oldest first, that are not kept yet; give the last sequence number kept.

        Raises:
            UnreachableError: the catalog or store did not answer, after retries.
            TableError: the table `commits` was dropped, made again, or rolled back.
        """
        while True:
            expected = self._committer.progress().of(self._table_id)
            new = [commit for commit in commits if commit.snapshot_id not in self._offered()]
            if not new:
                return commits[-1].sequence_number
            with contextlib.suppress(FencedError):
                # Another process was faster: look what is left to keep.
                self._append(expected, new, commits)

    def _offered(self) -> frozenset[int]:
        text = self._committer.table.metadata.properties.get(_KEPT)
        offer = _Offer() if text is None else msgspec.json.decode(text, type=_Offer)
        return offer.snapshots if offer.table == self._table_id else frozenset()

    def _append(self, expected: Entries, commits: Sequence[Commit], offered: Sequence[Commit]) -> None:
        table = self._committer.table
        file = write_file(table, self._as_arrow(commits, table.schema()), (self._table_id,), self._on_retry)
        move = PartitionProgress(commits[-1].sequence_number + 1, received=len(commits), stored=len(commits))
        offer = _Offer(self._table_id, frozenset(commit.snapshot_id for commit in offered))
        properties = {_KEPT: msgspec.json.encode(offer).decode()}
        try:
            self._committer.commit(
                Advance(self._table_id, expected, {self._place: move}, [file], properties=properties)
            )
        except FencedError:
            with contextlib.suppress(Exception):
                table.io.delete(file.file_path)
            raise

    def _as_arrow(self, commits: Sequence[Commit], schema: Schema) -> pa.Table:
        rows = [commit.row() | {"table_uuid": self._table_id} for commit in commits]
        return pa.Table.from_pylist(rows, schema=arrow_schema(schema, COMMITS, frozenset()))
