"""A table shared by the workers of one process."""

import threading

from k2.iceberg.commit import Committer
from k2.iceberg.commit_log_writer import CommitLogWriter
from k2.iceberg.commit_notes import MoveToCommitLog
from k2.iceberg.tables import TableName, connect
from k2.ops.retry import OnRetry
from k2.ops.settings import Settings

__all__ = ["TableHandle"]


class TableHandle:
    """One of the job's tables, shared by the workers of this process and opened once, at first use."""

    def __init__(self, settings: Settings, which: TableName, on_retry: OnRetry | None) -> None:
        self._settings = settings
        self._which = which
        self.on_retry = on_retry
        self._lock = threading.Lock()
        self._committer: Committer | None = None

    @property
    def name(self) -> str:
        """The table's name with its namespace."""
        return f"{self._settings.namespace}.{self._which}"

    def committer(self) -> Committer:
        """Return the committer; the first call opens the table, or creates it."""
        with self._lock:
            if self._committer is None:
                table = connect(self._settings, self._which, self.on_retry)
                move_to_commit_log = self._open_commit_log(str(table.metadata.table_uuid))
                self._committer = Committer(table, self.on_retry, move_to_commit_log=move_to_commit_log)
            return self._committer

    def _open_commit_log(self, table_id: str) -> MoveToCommitLog | None:
        """Open the table `commits` for the trades table; None for other tables, whose commits are not logged."""
        if self._which is not TableName.TRADES:
            return None
        commits = Committer(connect(self._settings, TableName.COMMITS, self.on_retry), self.on_retry)
        return CommitLogWriter(commits, table_id, self._which, self.on_retry).append
