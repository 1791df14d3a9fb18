"""The writer of the commit log: moves commit notes of the table `trades` to the table `commits`, each exactly once."""

import contextlib
from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.schema import Schema

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.commit import Committer
from k2.iceberg.data_files import write_file
from k2.iceberg.pending_commit import PendingCommit, WriterProgress
from k2.model.columns import COMMITS
from k2.model.errors import FencedError
from k2.model.progress import PartitionDelta, TopicPartition
from k2.ops.retry import OnRetry
from k2.storage.commit_log import Commit
from k2.storage.table_properties import COMMIT_LOG_BATCH, CommitLogBatch

__all__ = ["CommitLogWriter"]


class CommitLogWriter:
    """Appends commits to the table `commits`, each exactly once.

    After a crash between this append and the commit that removes the notes from the trades table, the same notes are
    appended again; several processes may append the same. So the table records the newest batch by snapshot id: a note
    is in every batch until it is removed for good. (Sequence numbers would not do: they repeat if the trades table is
    put back to an earlier state.)
    """

    def __init__(self, committer: Committer, table_id: str, name: str, on_retry: OnRetry | None = None) -> None:
        """Write the commits of the table `name` with that UUID; `committer` commits to the table `commits`."""
        self._committer = committer
        self._table_id = table_id
        self._progress_key = TopicPartition(name, 0)
        self._on_retry = on_retry

    def append(self, commits: Sequence[Commit]) -> int:
        """Append those commits, the oldest first, that the table lacks; return the last sequence number of `commits`.

        Raises:
            UnreachableError: the catalog or store did not answer, after retries.
            TableError: the table `commits` was dropped, created again, or rolled back.
        """
        while True:
            expected = self._committer.progress().of(self._table_id)
            new = [commit for commit in commits if commit.snapshot_id not in self._recorded()]
            if not new:
                return commits[-1].sequence_number
            # If another process was faster, check again what is left to append.
            with contextlib.suppress(FencedError):
                self._append(expected, new, commits)

    def _recorded(self) -> frozenset[int]:
        batch = COMMIT_LOG_BATCH.read(self._committer.table.metadata.properties)
        return batch.snapshots if batch.table == self._table_id else frozenset()

    def _append(self, expected: WriterProgress, commits: Sequence[Commit], batch_commits: Sequence[Commit]) -> None:
        table = self._committer.table
        file = write_file(table, self._as_arrow(commits, table.schema()), (self._table_id,), self._on_retry)
        move = PartitionDelta(commits[-1].sequence_number + 1, received=len(commits), stored=len(commits))
        batch = CommitLogBatch(self._table_id, frozenset(commit.snapshot_id for commit in batch_commits))
        properties = COMMIT_LOG_BATCH.set_to(batch)
        try:
            self._committer.commit(
                PendingCommit(self._table_id, expected, {self._progress_key: move}, [file], properties=properties)
            )
        except FencedError:
            with contextlib.suppress(Exception):
                table.io.delete(file.file_path)
            raise

    def _as_arrow(self, commits: Sequence[Commit], schema: Schema) -> pa.Table:
        rows = [commit.row() | {"table_uuid": self._table_id} for commit in commits]
        return pa.Table.from_pylist(rows, schema=arrow_schema(schema, COMMITS, frozenset()))
