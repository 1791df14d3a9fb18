"""One commit: data files, the progress and the snapshot's summary land together, once, or not at all."""

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import msgspec
import structlog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate

from k2.iceberg.catalog import TRANSIENT, translate_refusals
from k2.iceberg.commit_notes import COMMIT_NOTES_MAX, commit_notes_property, noted_commits
from k2.iceberg.fence import Entries, check_fence
from k2.iceberg.fencing_commit import check_fencing_token, fencing_token_of, set_fencing_token
from k2.iceberg.snapshot_expiry import AssertRemovable, removable, removals
from k2.iceberg.snapshot_lineage import LAST_SNAPSHOT, check_lineage, last_snapshot_value
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import MANIFESTS_MERGED
from k2.model.errors import FencedError, TableError, UnreachableError
from k2.model.progress import PROGRESS, Counts, PartitionProgress, Progress
from k2.ops.failpoints import failpoint
from k2.ops.retry import OnRetry, retried
from k2.storage.commit_log import Commit

__all__ = ["Advance", "Committer", "MoveToCommitLog"]

T = TypeVar("T")

CONFLICTS_MAX: Final = 100
"""How often one try is rebased over other writers' commits before it counts as a fault."""
CONFLICT_WAIT_SECONDS_MIN: Final = 0.01
CONFLICT_WAIT_SECONDS_MAX: Final = 1.0
_TOPICS: Final = "k2.topics"
"""Table property: Kafka's id of each topic as it was first read."""
_COMMIT: Final = "k2.commit."
"""Table property, one a writer: the mark of its last commit, by which a commit in doubt is looked up."""

MoveToCommitLog = Callable[[Sequence[Commit]], int]
"""Keeps commits elsewhere, the oldest first; gives the last sequence number kept."""

_log = structlog.get_logger()


@dataclass
class Advance:
    """What one commit of one writer brings, and what must be in the table before it."""

    writer: str
    expected: Entries
    """The writer's progress as it loaded or last committed it."""
    moves: Entries
    """Of each topic partition that moves: the next offset, and the counts of this commit alone."""
    files: list[DataFile]
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Table properties to set in the same commit."""
    remark: Mapping[str, str] = field(default_factory=dict)
    """More for the snapshot's summary."""
    snapshot_ids: list[int] = field(default_factory=list)
    """Of every try, since a try that seemed to fail can have landed."""

    @property
    def result(self) -> Entries:
        """The writer's progress once this is in."""
        moved = {
            where: self.expected.get(where, PartitionProgress(0)).advanced(move) for where, move in self.moves.items()
        }
        return {**self.expected, **moved}

    @property
    def summary(self) -> dict[str, str]:
        """The snapshot's summary, of this commit alone."""
        counts = sum((move.counts for move in self.moves.values()), Counts())
        return {
            "k2.writer": self.writer,
            "k2.received": str(counts.received),
            "k2.stored": str(counts.stored),
            "k2.duplicates": str(counts.duplicates),
            "k2.dead_letters": str(counts.dead_letters),
            "k2.skipped": str(counts.skipped),
            PROGRESS: Progress({self.writer: self.moves}).text(),
            **self.remark,
        }


class Committer:
    """The commits of this process to one table, one after the other.

    PyIceberg's own retry is left out: it would replay the progress it was first given over what other
    writers have committed since, and deletes manifests of a commit that landed though it was reported
    as failed. Here each try is a new transaction on the table as it is then.
    """

    def __init__(
        self,
        table: Table,
        on_retry: OnRetry | None = None,
        sleep: Callable[[float], None] = time.sleep,
        *,
        keep: MoveToCommitLog | None = None,
    ) -> None:
        """Commit to a table; if there is a `keep`, its commits are noted, and the notes are moved there later."""
        self.table = table
        self._keep = keep
        self._kept = 0
        self._on_retry = on_retry
        self._sleep = sleep
        self._lock = threading.Lock()
        self._is_stale = False
        self._fencing_token = fencing_token_of(table)

    def progress(self) -> Progress:
        """Return what is in the table now, read afresh.

        Raises:
            TableError: the table was rolled back behind the job's last commit, dropped, or made again.
        """
        return self.change("reading the table's progress", self._look)

    def change(self, operation: str, act: Callable[[Table], T], *, also: tuple[type[BaseException], ...] = ()) -> T:
        """Return what `act` gives of the table as it is now; it may change the table, and must be right to do twice.

        A transient fault, or one of the types in `also`, is tried again on the table as it is then.
        """

        def afresh() -> T:
            self._refresh()
            return act(self.table)

        with self._lock:
            return self._ride_out(operation, afresh, also=also)

    def set_fencing_token(self, mark: str | None, expected: Progress) -> None:
        """Keep instances that began before this one from committing, if the table is as `expected`.

        None as the mark: no claim is made, and that of another process of this cluster is taken over.

        Raises:
            FencedError: another instance has committed since the progress was read.
        """
        act = partial(self._claimed, mark, expected)
        self._fencing_token = self.change("claiming the table", act, also=(CommitFailedException,))

    def _claimed(self, mark: str | None, expected: Progress, table: Table) -> str | None:
        there = progress_of(table)
        for writer in sorted({*there.writers, *expected.writers}):
            check_fence(self._name, writer, there.of(writer), expected.of(writer))
        if mark is not None:
            set_fencing_token(table, mark)
        return fencing_token_of(table)

    def _look(self, table: Table) -> Progress:
        check_lineage(table.metadata, self._name)
        return progress_of(table)

    def commit(self, advance: Advance) -> Progress:
        """Land an advance once, whatever the catalog answers; give the progress of all writers then.

        A try whose outcome is in doubt is looked up before anything else is done. Commits of other
        writers, a compaction or a foreign append are rebased over.

        Raises:
            FencedError: the writer's progress in the table is not what this instance left there.
            UnreachableError: the catalog or store did not answer, after retries.
            TableError: the table was dropped or made again.
            SettingsError: the catalog no longer takes the credentials.
        """
        with self._lock:
            self._keep_trail(advance)
            self._ride_out(f"committing to table {self._name}", lambda: self._try(advance))
            failpoint("commit.seen")
            return progress_of(self.table)

    def _keep_trail(self, advance: Advance) -> None:
        if self._keep is None or len(noted_commits(self.table.metadata)) < COMMIT_NOTES_MAX:
            return
        # What was noted when it last looked may have been kept and dropped since, which is not to be kept twice.
        self._ride_out(f"reading table {self._name}", self._refresh)
        self._check_fence(advance)
        noted = noted_commits(self.table.metadata)
        if len(noted) >= COMMIT_NOTES_MAX:
            self._kept = self._keep(noted)

    def remember_topics(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Return the topics' ids that the table knows, with those that it did not know added."""
        return self.change("recording topic ids", partial(_note_topics, ids), also=(CommitFailedException,))

    def _ride_out(self, operation: str, act: Callable[[], T], *, also: tuple[type[BaseException], ...] = ()) -> T:
        with translate_refusals(self.table.catalog.name):
            return retried(operation, act, also=(*TRANSIENT, *also), on_retry=self._on_retry, sleep=self._sleep)

    @property
    def table_id(self) -> str:
        """The table's UUID: another after it was dropped and made again."""
        return str(self.table.metadata.table_uuid)

    @property
    def _name(self) -> str:
        return ".".join(self.table.name())

    def _try(self, advance: Advance) -> None:
        # A snapshot that is to be removed may have got a tag since.
        must_look = advance.snapshot_ids or self._is_stale or removable(self.table.metadata)
        if must_look and self._find(advance):
            return
        try:
            self._rebase_until_in(advance)
        except (FencedError, TableError):
            raise
        except Exception as error:
            # Whatever the fault says, the catalog may have done it.
            _log.warning("commit_in_doubt", table=self._name, writer=advance.writer, error=repr(error))
            if not self._find(advance):
                raise

    def _rebase_until_in(self, advance: Advance) -> None:
        for conflict in range(CONFLICTS_MAX):
            self._check_fence(advance)
            attempt = self._stage(advance)
            try:
                # Not `commit_transaction`, which retries by itself.
                failpoint("commit.staged")
                self.table._do_commit(attempt.updates, attempt.requirements)  # noqa: SLF001
                failpoint("commit.landed")
            except CommitFailedException:
                self._sleep(_conflict_wait_seconds(conflict))
                if self._find(advance):
                    return
                # Rejected for sure, and not in the table: its manifests are nobody's.
                self._discard(attempt.manifests)
            else:
                # Others commit to this table as well if there was a conflict: look before the next commit.
                self._is_stale = conflict > 0
                return
        raise UnreachableError(f"table {self._name} takes other commits all the time: {CONFLICTS_MAX} conflicts")

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
        last = last_snapshot_value(append.snapshot_id, number)
        trail: dict[str, str] = {}
        if self._keep is not None:
            trail = commit_notes_property(self.table.metadata, transaction._updates, self._kept)  # noqa: SLF001
        own = {PROGRESS: progress.text(), LAST_SNAPSHOT: last, _COMMIT + advance.writer: advance.mark}
        transaction.set_properties({**advance.properties, **own, **trail})
        removed = removable(self.table.metadata)
        is_removable = AssertRemovable(uuid=self.table.metadata.table_uuid, removed=removed)
        return _Attempt(
            (*transaction._updates, *removals(removed)),  # noqa: SLF001
            (*transaction._requirements, is_removable),  # noqa: SLF001
            [*append._written_manifests, *append._written_manifest_lists],  # noqa: SLF001
        )

    def _find(self, advance: Advance) -> bool:
        """Read the table afresh and return whether the advance is in.

        The mark outlives the snapshot's expiry, the snapshot outlives a later commit of the same writer.
        """
        self._refresh()
        metadata = self.table.metadata
        return metadata.properties.get(_COMMIT + advance.writer) == advance.mark or any(
            metadata.snapshot_by_id(snapshot_id) is not None for snapshot_id in advance.snapshot_ids
        )

    def _refresh(self) -> None:
        try:
            self.table.refresh()
        except NoSuchTableError as error:
            raise TableError(f"table {self._name} is gone: it was dropped while the job ran") from error
        except ValueError as error:
            raise TableError(f"table {self._name} is not the one the job began with: {error}") from error

    def _check_fence(self, advance: Advance) -> None:
        check_lineage(self.table.metadata, self._name)
        there = progress_of(self.table).of(advance.writer)
        # First, since the offsets of both sides say more than the claim.
        check_fence(self._name, advance.writer, there, advance.expected)
        check_fencing_token(self._name, fencing_token_of(self.table), self._fencing_token)

    def _discard(self, paths: list[str]) -> None:
        for path in paths:
            with contextlib.suppress(Exception):
                self.table.io.delete(path)


class _AppendTransaction(Transaction):
    """A transaction that does not copy the whole history for each look at its metadata.

    The append looks some thirty times before anything is staged; without this a commit to a table of
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


def _note_topics(ids: Mapping[str, str], table: Table) -> dict[str, str]:
    known: dict[str, str] = msgspec.json.decode(table.metadata.properties.get(_TOPICS, "{}"))
    if not ids.keys() <= known.keys():
        known = {**ids, **known}
        with table.transaction() as transaction:
            transaction.set_properties({_TOPICS: msgspec.json.encode(known).decode()})
    return known


def _conflict_wait_seconds(conflict: int) -> float:
    # At random, so that writers who met once do not meet again and again.
    longest = min(CONFLICT_WAIT_SECONDS_MAX, CONFLICT_WAIT_SECONDS_MIN * 2.0**conflict)
    return random.uniform(0, longest)  # noqa: S311  no secret
