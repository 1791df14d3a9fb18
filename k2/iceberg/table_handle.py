"""A table as the workers of one process share it."""

import threading

from k2.iceberg.commit import Committer, MoveToCommitLog
from k2.iceberg.commit_log_writer import CommitLogWriter
from k2.iceberg.tables import TableName, connect
from k2.ops.retry import OnRetry
from k2.ops.settings import Settings

__all__ = ["TableHandle"]


class TableHandle:
    """One of the job's tables as the workers of this process share it: opened once, at first use."""

    def __init__(self, settings: Settings, which: TableName, on_retry: OnRetry | None) -> None:
        self._settings = settings
        self._which = which
        self.on_retry = on_retry
        self._lock = threading.Lock()
        self._committer: Committer | None = None

    @property
    def name(self) -> str:
        """The table's name for people."""
        return f"{self._settings.namespace}.{self._which}"

    def open(self) -> None:
        """Open or make the table now, so that an error is reported before the job runs."""
        self.committer()

    def committer(self) -> Committer:
        """Return the committer; the table is opened, or made, the first time."""
        with self._lock:
            if self._committer is None:
                table = connect(self._settings, self._which, self.on_retry)
                self._committer = Committer(table, self.on_retry, keep=self._keep(str(table.metadata.table_uuid)))
            return self._committer

    def _keep(self, table_id: str) -> MoveToCommitLog | None:
        """Open the table that keeps the trail of the trades' commits."""
        if self._which is not TableName.TRADES:
            return None
        kept = Committer(connect(self._settings, TableName.COMMITS, self.on_retry), self.on_retry)
        return CommitLogWriter(kept, table_id, self._which, self.on_retry).keep
