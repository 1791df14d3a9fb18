"""One commit: data files, progress and snapshot summary are committed together, exactly once or not at all."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table

from k2.iceberg.commit_notes import CommitNotes, MoveToCommitLog
from k2.iceberg.commit_parts import CONTRIBUTIONS, GUARDS, Contribution, Guard, has_commit
from k2.iceberg.fence import FencingTokenGuard
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.pending_commit import PendingCommit
from k2.iceberg.snapshot_expiry import removable
from k2.iceberg.snapshot_lineage import check_lineage
from k2.iceberg.table_progress import progress_of
from k2.model.errors import FencedError, TableError, UnreachableError
from k2.model.progress import Progress
from k2.ops.failpoints import failpoint
from k2.ops.retry import COMMIT_CONFLICT, OnRetry, retried
from k2.storage.catalog_errors import CATALOG_TRANSIENT, catalog_address, translate_permanent_errors
from k2.storage.table_properties import FENCING_TOKEN

__all__ = ["Committer"]

T = TypeVar("T")

_log: Final = structlog.get_logger()


class Committer:
    """Commits of this process to one table, one at a time.

    Each attempt is a new swap of the table's current metadata: the guards check it, then the rows and the contributions
    are staged on it (`k2.iceberg.commit_parts`).
    """

    def __init__(
        self,
        table: Table,
        on_retry: OnRetry | None = None,
        sleep: Callable[[float], None] = time.sleep,
        *,
        move_to_commit_log: MoveToCommitLog | None = None,
    ) -> None:
        """Commit to `table`; with `move_to_commit_log`, each commit adds a commit note, and notes are moved later."""
        self.table = table
        self.token_guard = FencingTokenGuard(FENCING_TOKEN.read(table.metadata.properties))
        self._notes = CommitNotes(move_to_commit_log) if move_to_commit_log is not None else None
        self._guards: tuple[Guard, ...] = (*GUARDS, self.token_guard)
        notes: tuple[Contribution, ...] = () if self._notes is None else (self._notes,)
        self._contributions = (*CONTRIBUTIONS, *notes)
        self._on_retry = on_retry
        self._sleep = sleep
        self._lock = threading.Lock()
        self._is_stale = False

    @property
    def table_id(self) -> str:
        """The table's UUID; it changes if the table is dropped and created again."""
        return str(self.table.metadata.table_uuid)

    @property
    def name(self) -> str:
        """The table's name with its namespace."""
        return ".".join(self.table.name())

    def progress(self) -> Progress:
        """Refresh the table and return its progress.

        Raises:
            TableError: the table was rolled back behind the job's last commit, dropped, or created again.
        """

        def act(table: Table) -> Progress:
            check_lineage(table.metadata, self.name)
            return progress_of(table)

        return self.change("reading the table's progress", act)

    def change(self, operation: str, act: Callable[[Table], T], *, also: tuple[type[BaseException], ...] = ()) -> T:
        """Call `act` with the refreshed table and return its result; it may change the table, and must be idempotent.

        After a transient fault, or an exception of a type in `also`, the table is refreshed and `act` is called again.
        """

        def refresh_and_act() -> T:
            self._refresh()
            return act(self.table)

        with self._lock:
            return self._retry(operation, refresh_and_act, also=also)

    def commit(self, pending: PendingCommit) -> Progress:
        """Commit exactly once, whatever the catalog answers; return the progress of all writers.

        If the outcome of an attempt is in doubt, it is looked up before anything else is done. The commit is
        rebased over commits of other writers, compactions and foreign appends.

        Raises:
            FencedError: the writer's progress in the table is not what this instance left there.
            UnreachableError: the catalog or store did not answer, after retries.
            TableError: the table was dropped or created again.
            SettingsError: the catalog no longer accepts the credentials.
        """
        with self._lock:
            self._move_notes(pending)
            self._retry(f"committing to table {self.name}", lambda: self._try_commit(pending))
            failpoint("commit.seen")
            return progress_of(self.table)

    def _move_notes(self, pending: PendingCommit) -> None:
        if self._notes is None or not self._notes.is_move_due(self.table.metadata):
            return
        # Another process may have moved these notes since the last refresh; they must not be moved twice.
        self._retry(f"reading table {self.name}", self._refresh)
        self._check(pending)
        if self._notes.is_move_due(self.table.metadata):
            self._notes.move(self.table.metadata)

    def _try_commit(self, pending: PendingCommit) -> None:
        # A snapshot that is due for removal may have been tagged meanwhile.
        must_refresh = pending.snapshot_ids or self._is_stale or removable(self.table.metadata)
        if must_refresh and self._is_committed(pending):
            return
        try:
            self._commit_with_rebase(pending)
        except (FencedError, TableError):
            raise
        except Exception as error:
            # Whatever the exception, the catalog may have committed.
            _log.warning("commit_in_doubt", table=self.name, writer=pending.writer, error=repr(error))
            if not self._is_committed(pending):
                raise

    def _commit_with_rebase(self, pending: PendingCommit) -> None:
        for conflicts in range(COMMIT_CONFLICT.attempts_max):
            self._check(pending)
            swap = self._stage(pending)
            try:
                failpoint("commit.staged")
                swap.commit()
                failpoint("commit.landed")
            except CommitFailedException:
                self._sleep(COMMIT_CONFLICT.wait_seconds(conflicts + 1))
                if self._is_committed(pending):
                    return
                # Rejected, and not in the table: no snapshot refers to its manifests.
                swap.discard()
            else:
                # A conflict means that others commit to this table: refresh before the next commit.
                self._is_stale = conflicts > 0
                return
        raise UnreachableError(
            f"table {self.name}: {COMMIT_CONFLICT.attempts_max} conflicts in a row with commits of others; "
            "stop other writers"
        )

    def _check(self, pending: PendingCommit) -> None:
        for guard in self._guards:
            guard(self.name, self.table.metadata, pending)

    def _stage(self, pending: PendingCommit) -> MetadataSwap:
        swap = MetadataSwap(self.table)
        pending.snapshot_ids.append(swap.append(pending.files, pending.summary).snapshot_id)
        for contribute in self._contributions:
            contribute(swap, pending)
        return swap

    def _is_committed(self, pending: PendingCommit) -> bool:
        """Refresh the table and return whether the pending commit is in the table."""
        self._refresh()
        return has_commit(self.table.metadata, pending)

    def _refresh(self) -> None:
        try:
            self.table.refresh()
        except NoSuchTableError as error:
            raise TableError(f"table {self.name} was dropped while the job ran; restart the job") from error
        except ValueError as error:
            raise TableError(f"table {self.name} is not the one that the job started with: {error}") from error

    def _retry(self, operation: str, act: Callable[[], T], *, also: tuple[type[BaseException], ...] = ()) -> T:
        catalog = self.table.catalog
        with translate_permanent_errors(catalog.name, catalog_address(catalog.properties)):
            return retried(operation, act, also=(*CATALOG_TRANSIENT, *also), on_retry=self._on_retry, sleep=self._sleep)
