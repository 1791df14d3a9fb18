"""One commit: data files, progress and snapshot summary are committed together, exactly once or not at all."""

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import structlog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate

from k2.iceberg.commit_notes import COMMIT_NOTES_MAX, commit_notes_property, noted_commits
from k2.iceberg.fence import Entries, check_fence
from k2.iceberg.fencing_commit import check_fencing_token, fencing_token_of, set_fencing_token
from k2.iceberg.snapshot_expiry import AssertRemovable, removable, removals
from k2.iceberg.snapshot_lineage import check_lineage
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import MANIFESTS_MERGED
from k2.model.errors import FencedError, TableError, UnreachableError
from k2.model.progress import PartitionProgress, Progress
from k2.ops.failpoints import failpoint
from k2.ops.retry import OnRetry, retried
from k2.storage.catalog_errors import TRANSIENT, translate_refusals
from k2.storage.commit_log import Commit, summary_of
from k2.storage.table_properties import COMMIT_ID, LAST_SNAPSHOT, PROGRESS, TOPIC_IDS, LastSnapshot

__all__ = ["Advance", "Committer", "MoveToCommitLog"]

T = TypeVar("T")

CONFLICTS_MAX: Final = 100
"""How often one attempt is rebased over other writers' commits before it counts as a fault."""
CONFLICT_WAIT_SECONDS_MIN: Final = 0.01
CONFLICT_WAIT_SECONDS_MAX: Final = 1.0

MoveToCommitLog = Callable[[Sequence[Commit]], int]
"""Appends commits, the oldest first, to the commit log; returns the last sequence number that the log contains."""

_log = structlog.get_logger()


@dataclass
class Advance:
    """What one commit of one writer adds to the table, and the progress that the table must have before it."""

    writer: str
    expected: Entries
    """The writer's progress as it loaded or last committed it."""
    moves: Entries
    """For each topic partition that moves: the next offset, and the counts of this commit alone."""
    files: list[DataFile]
    commit_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Table properties to set in the same commit."""
    extra_summary: Mapping[str, str] = field(default_factory=dict)
    """Additional entries of the snapshot's summary."""
    snapshot_ids: list[int] = field(default_factory=list)
    """Snapshot ids of all attempts: an attempt that seemed to fail may have been committed."""

    @property
    def result(self) -> Entries:
        """The writer's progress after the commit."""
        moved = {
            topic_partition: self.expected.get(topic_partition, PartitionProgress(0)).advanced(move)
            for topic_partition, move in self.moves.items()
        }
        return {**self.expected, **moved}

    @property
    def summary(self) -> dict[str, str]:
        """The snapshot's summary, with the counts of this commit alone."""
        return {**summary_of(self.writer, self.moves), **self.extra_summary}


class Committer:
    """Commits of this process to one table, one at a time.

    PyIceberg's own retry is not used: it would replay the progress it was first given over what other
    writers have committed since, and it deletes the manifests of a commit that succeeded although it was
    reported as failed. Here each attempt is a new transaction on the table's current metadata.
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
        self._move_to_commit_log = move_to_commit_log
        self._logged_up_to = 0
        self._on_retry = on_retry
        self._sleep = sleep
        self._lock = threading.Lock()
        self._is_stale = False
        self._fencing_token = fencing_token_of(table)

    def progress(self) -> Progress:
        """Refresh the table and return its progress.

        Raises:
            TableError: the table was rolled back behind the job's last commit, dropped, or created again.
        """
        return self.change("reading the table's progress", self._checked_progress)

    def change(self, operation: str, act: Callable[[Table], T], *, also: tuple[type[BaseException], ...] = ()) -> T:
        """Call `act` with the refreshed table and return its result; it may change the table, and must be idempotent.

        After a transient fault, or an exception of a type in `also`, the table is refreshed and `act` is called again.
        """

        def refresh_and_act() -> T:
            self._refresh()
            return act(self.table)

        with self._lock:
            return self._retry(operation, refresh_and_act, also=also)

    def set_fencing_token(self, token: str | None, expected: Progress) -> None:
        """Fence out instances that started before this one, if the table's progress is `expected`.

        If the token is None, none is set, and the token set by another process of this cluster is adopted.

        Raises:
            FencedError: another instance has committed since the progress was read.
        """
        act = partial(self._set_fencing_token, token, expected)
        self._fencing_token = self.change("setting the fencing token", act, also=(CommitFailedException,))

    def _set_fencing_token(self, token: str | None, expected: Progress, table: Table) -> str | None:
        found = progress_of(table)
        for writer in sorted({*found.writers, *expected.writers}):
            check_fence(self._name, writer, found.of(writer), expected.of(writer))
        if token is not None:
            set_fencing_token(table, token)
        return fencing_token_of(table)

    def _checked_progress(self, table: Table) -> Progress:
        check_lineage(table.metadata, self._name)
        return progress_of(table)

    def commit(self, advance: Advance) -> Progress:
        """Commit an advance exactly once, whatever the catalog answers; return the progress of all writers.

        If the outcome of an attempt is in doubt, it is looked up before anything else is done. The commit is
        rebased over commits of other writers, compactions and foreign appends.

        Raises:
            FencedError: the writer's progress in the table is not what this instance left there.
            UnreachableError: the catalog or store did not answer, after retries.
            TableError: the table was dropped or created again.
            SettingsError: the catalog no longer accepts the credentials.
        """
        with self._lock:
            self._move_notes(advance)
            self._retry(f"committing to table {self._name}", lambda: self._try_commit(advance))
            failpoint("commit.seen")
            return progress_of(self.table)

    def _move_notes(self, advance: Advance) -> None:
        if self._move_to_commit_log is None or len(noted_commits(self.table.metadata)) < COMMIT_NOTES_MAX:
            return
        # Another process may have moved these notes since the last refresh; they must not be moved twice.
        self._retry(f"reading table {self._name}", self._refresh)
        self._check_fence(advance)
        noted = noted_commits(self.table.metadata)
        if len(noted) >= COMMIT_NOTES_MAX:
            self._logged_up_to = self._move_to_commit_log(noted)

    def remember_topics(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Return the topic ids recorded in the table; record those of `ids` whose topic it does not have yet."""
        return self.change("recording topic ids", partial(_record_topics, ids), also=(CommitFailedException,))

    def _retry(self, operation: str, act: Callable[[], T], *, also: tuple[type[BaseException], ...] = ()) -> T:
        with translate_refusals(self.table.catalog.name):
            return retried(operation, act, also=(*TRANSIENT, *also), on_retry=self._on_retry, sleep=self._sleep)

    @property
    def table_id(self) -> str:
        """The table's UUID; it changes if the table is dropped and created again."""
        return str(self.table.metadata.table_uuid)

    @property
    def _name(self) -> str:
        return ".".join(self.table.name())

    def _try_commit(self, advance: Advance) -> None:
        # A snapshot that is due for removal may have been tagged meanwhile.
        must_refresh = advance.snapshot_ids or self._is_stale or removable(self.table.metadata)
        if must_refresh and self._is_committed(advance):
            return
        try:
            self._commit_with_rebase(advance)
        except (FencedError, TableError):
            raise
        except Exception as error:
            # Whatever the exception, the catalog may have committed.
            _log.warning("commit_in_doubt", table=self._name, writer=advance.writer, error=repr(error))
            if not self._is_committed(advance):
                raise

    def _commit_with_rebase(self, advance: Advance) -> None:
        for conflict in range(CONFLICTS_MAX):
            self._check_fence(advance)
            attempt = self._stage(advance)
            try:
                # Not `commit_transaction`: it has its own retry.
                failpoint("commit.staged")
                self.table._do_commit(attempt.updates, attempt.requirements)  # noqa: SLF001
                failpoint("commit.landed")
            except CommitFailedException:
                self._sleep(_conflict_wait_seconds(conflict))
                if self._is_committed(advance):
                    return
                # Rejected, and not in the table: no snapshot refers to its manifests.
                self._discard(attempt.manifests)
            else:
                # A conflict means that others commit to this table: refresh before the next commit.
                self._is_stale = conflict > 0
                return
        raise UnreachableError(
            f"table {self._name}: {CONFLICTS_MAX} conflicts in a row with commits of others; stop other writers"
        )

    def _stage(self, advance: Advance) -> "_Attempt":
        transaction = _AppendTransaction(self.table)
        update = transaction.update_snapshot(snapshot_properties=advance.summary)
        is_merge_due = self.table.metadata.next_sequence_number() % MANIFESTS_MERGED == 0
        append = update.merge_append() if is_merge_due else update.fast_append()
        for file in advance.files:
            append.append_data_file(file)
        advance.snapshot_ids.append(append.snapshot_id)
        append.commit()
        progress = progress_of(self.table).replaced(advance.writer, advance.result)
        number = self.table.metadata.next_sequence_number()
        last = LastSnapshot(append.snapshot_id, number)
        notes: dict[str, str] = {}
        if self._move_to_commit_log is not None:
            notes = commit_notes_property(self.table.metadata, transaction._updates, self._logged_up_to)  # noqa: SLF001
        own = (
            PROGRESS.set_to(progress) | LAST_SNAPSHOT.set_to(last) | COMMIT_ID.set_to(advance.commit_id, advance.writer)
        )
        transaction.set_properties({**advance.properties, **own, **notes})
        removed = removable(self.table.metadata)
        is_removable = AssertRemovable(uuid=self.table.metadata.table_uuid, removed=removed)
        return _Attempt(
            (*transaction._updates, *removals(removed)),  # noqa: SLF001
            (*transaction._requirements, is_removable),  # noqa: SLF001
            [*append._written_manifests, *append._written_manifest_lists],  # noqa: SLF001
        )

    def _is_committed(self, advance: Advance) -> bool:
        """Refresh the table and return whether the advance is committed.

        The commit id outlives the snapshot's expiry; the snapshot outlives a later commit of the same writer.
        """
        self._refresh()
        metadata = self.table.metadata
        return COMMIT_ID.read(metadata.properties, advance.writer) == advance.commit_id or any(
            metadata.snapshot_by_id(snapshot_id) is not None for snapshot_id in advance.snapshot_ids
        )

    def _refresh(self) -> None:
        try:
            self.table.refresh()
        except NoSuchTableError as error:
            raise TableError(f"table {self._name} was dropped while the job ran; restart the job") from error
        except ValueError as error:
            raise TableError(f"table {self._name} is not the one that the job started with: {error}") from error

    def _check_fence(self, advance: Advance) -> None:
        check_lineage(self.table.metadata, self._name)
        # First, because the offsets of both sides are more informative than the fencing token.
        check_fence(self._name, advance.writer, progress_of(self.table).of(advance.writer), advance.expected)
        check_fencing_token(self._name, fencing_token_of(self.table), self._fencing_token)

    def _discard(self, paths: list[str]) -> None:
        for path in paths:
            with contextlib.suppress(Exception):
                self.table.io.delete(path)


class _AppendTransaction(Transaction):
    """A transaction that does not copy all snapshots for each access to its metadata.

    An append accesses it some thirty times before anything is staged; without this a commit to a table of
    400 snapshots took 590 ms of CPU.
    """

    @property
    def table_metadata(self) -> TableMetadata:
        return super().table_metadata if self._updates else self._table.metadata


@dataclass(frozen=True)
class _Attempt:
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    manifests: list[str]


def _record_topics(ids: Mapping[str, str], table: Table) -> dict[str, str]:
    known = TOPIC_IDS.read(table.metadata.properties)
    if not ids.keys() <= known.keys():
        known = {**ids, **known}
        with table.transaction() as transaction:
            transaction.set_properties(TOPIC_IDS.set_to(known))
    return known


def _conflict_wait_seconds(conflict: int) -> float:
    # Random, so that writers that conflicted once do not conflict again and again.
    longest = min(CONFLICT_WAIT_SECONDS_MAX, CONFLICT_WAIT_SECONDS_MIN * 2.0**conflict)
    return random.uniform(0, longest)  # noqa: S311  no secret
