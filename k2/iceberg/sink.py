"""The ends of the flow that are tables: stored trades, and the ledger of sequence events."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from bytewax.outputs import FixedPartitionedSink
from pyiceberg.exceptions import CommitFailedException

from k2.iceberg.commit import Committer
from k2.iceberg.fence import Entries, check_fence
from k2.iceberg.fencing_commit import invalidate_commits_in_flight
from k2.iceberg.ledger_rollback import WRITER, SetFencingToken, roll_back_events
from k2.iceberg.ledger_writer import LedgerWriter
from k2.iceberg.partition_counts import check_resume
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.iceberg.trades_writer import OnCommit, TradesWriter
from k2.model.batch import TradeSlice
from k2.model.committed_offsets import CommittedOffsets
from k2.model.consumed import Consumed
from k2.model.progress import Progress
from k2.model.sequence_events import SequenceEvent
from k2.ops.error_boundary import reports_errors
from k2.ops.retry import OnRetry
from k2.ops.settings import Settings
from k2.storage.dead_letter_files import Position, recorded_positions, series_prefix
from k2.storage.dead_letters import DeadLetterQueue, check_free

__all__ = ["LedgerSink", "TradesSink"]

_log = structlog.get_logger()


def _no_fencing(_mark: str | None) -> None:
    """Leave the trades' table alone: no job of its own writes there."""


class TradesSink(FixedPartitionedSink[TradeSlice | Consumed, dict[str, Any]]):
    """Land trades in the table `trades`. Can support exactly-once processing.

    Items are `(str(writer), TradeSlice | Consumed)`. Every writer is to be told of every range read
    (`Consumed`), with the messages without a trade told to one of them. At the end of an epoch that
    brought anything, rows and progress land in one commit a writer.

    On replay rows below the table's progress are dropped before they are counted, so what is in the
    recovery store may be older than the table.

    Dead letters, messages that could not be read and trades in conflict with stored ones, are files of
    their own (`k2.storage.dead_letters`), durable before the commit that counts them.

    Raises at its start:
        StateError: the recovery store is ahead of the table.
        SettingsError: `K2_WRITERS` is not what the table was made with.
        TableError: the table was rolled back.
        FencedError: another instance has committed since this one read the progress that it begins from.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress | None = None,
        on_commit: OnCommit | None = None,
        on_retry: OnRetry | None = None,
    ) -> None:
        """Take the progress from which all of the job begins; as it is in the table at `open`, if it is not given."""
        self._settings = settings
        self._progress = progress
        self._recorded: Mapping[str, str] = {}
        self._on_commit = on_commit
        self._handle = TableHandle(settings, TableName.TRADES, on_retry)

    def open(self) -> Progress:
        """Open or make the table now, so that an error is reported before the job runs; give the progress."""
        there = self.committer.progress()
        if self._progress is None:
            self._progress = there
        self._recorded = self.committer.table.metadata.properties
        for writer in map(str, range(self._settings.writers)):
            check_fence(self._handle.name, writer, there.of(writer), self._progress.of(writer))
        return self._progress

    def check_dead_letter_locks(self) -> None:
        """Say before anything is read that another process has the dead letters of a writer, as one that runs has.

        Raises:
            SettingsError: the folder cannot be made or written.
            StateError: another process has them.
        """
        for writer in map(str, range(self._settings.writers)):
            check_free(self._settings.dead_letter_folder, series_prefix(self.committer.table_id, writer))

    def remember_topics(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Return the topics' ids as they were when first read; those not known yet are noted in the table now."""
        return self.committer.remember_topics(ids)

    def set_fencing_token(self, mark: str | None) -> None:
        """Keep instances that began before this one from committing, or take over what this cluster has claimed.

        Raises:
            FencedError: another instance has committed since this one read the progress that it begins from.
        """
        self.committer.set_fencing_token(mark, self.open())

    @property
    def committer(self) -> Committer:
        """The commits of this process to the table, which is opened or made for it."""
        return self._handle.committer()

    def list_parts(self) -> list[str]:
        """Name the writers with two digits, since Bytewax counts partitions in the order of their text.

        Asked once all processes have come together, before any can commit: whoever moved the table since this process
        read it is another instance.
        """
        self.open()
        return [f"{writer:02d}" for writer in range(self._settings.writers)]

    def part_fn(self, item_key: str) -> int:
        """Route to the writer that the key names."""
        return int(item_key)

    @reports_errors
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "TradesWriter":
        """Begin at the writer's progress."""
        writer = str(int(for_part))
        progress = self.open() if self._progress is None else self._progress
        committed = progress.of(writer)
        check_resume(resume_state, committed, self._handle.name, self.committer.table_id)
        offsets = {str(where): entry.offset for where, entry in committed.items()}
        _log.info("writer_ready", step=step_id, writer=for_part, offsets=offsets)
        return TradesWriter(writer, self._handle, committed, self._letters(writer, committed), self._on_commit)

    def _letters(self, writer: str, committed: Entries) -> DeadLetterQueue:
        return DeadLetterQueue(
            self._settings.dead_letter_folder,
            series_prefix(self.committer.table_id, writer),
            recorded_positions(self._recorded, writer),
            self._settings.dlq_file_bytes_max,
            settle=partial(self._settle, writer, committed),
        )

    def _settle(self, writer: str, committed: Entries) -> Mapping[str, Position]:
        """Keep out what another instance may have under way; give how far the letters are that are counted then.

        Raises:
            FencedError: another instance has committed since the progress was read.
        """
        self.committer.change(
            "settling dead letters", partial(invalidate_commits_in_flight, writer), also=(CommitFailedException,)
        )
        check_fence(self._handle.name, writer, self.committer.progress().of(writer), committed)
        return recorded_positions(self.committer.table.metadata.properties, writer)


class LedgerSink(FixedPartitionedSink[list[SequenceEvent], dict[str, Any]]):
    """Land sequence events in the table `sequence_events`. Can support exactly-once processing.

    Items are `("0", list[SequenceEvent])`. An epoch without events commits nothing.

    The ledger follows the trades' table, of which it is told the progress from which the job begins.
    Events of trades that are not in that table are withdrawn at the start, since the replay will bring
    them again, perhaps others. Events that a replay brings of trades that are in it are dropped; what
    the ledger lacks of those comes as owed.
    """

    def __init__(
        self,
        settings: Settings,
        landed: Progress | None = None,
        on_retry: OnRetry | None = None,
        set_fencing_token: SetFencingToken = _no_fencing,
    ) -> None:
        """Take the progress of the trades' table, None for nothing there yet, and what claims that table."""
        self._landed = CommittedOffsets(landed or Progress(), settings.writers)
        self._handle = TableHandle(settings, TableName.SEQUENCE_EVENTS, on_retry)
        self._fencing_token = set_fencing_token
        self._committed: Entries | None = None

    @property
    def committer(self) -> Committer:
        """The commits of this process to the ledger, which is opened or made for it."""
        return self._handle.committer()

    def open(self) -> None:
        """Open or make the table now, so that an error is reported before the job runs."""
        self.committer.progress()

    def list_parts(self) -> list[str]:
        """Name the only writer; the ledger is brought back to the trades' table first.

        Asked once all processes have come together, so none has refused its recovery store, and before any can commit.
        """
        self._bring_back()
        return [WRITER]

    @reports_errors
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "LedgerWriter":  # noqa: ARG002
        """Begin at the ledger's progress, which follows the trades' table alone.

        Raises:
            StateError: the recovery store counts events as told that this ledger does not have.
        """
        committed = self._bring_back()
        check_resume(resume_state, committed, self._handle.name, self.committer.table_id)
        return LedgerWriter(self._handle, committed, self._landed)

    def _bring_back(self) -> Entries:
        """Withdraw the events of trades that are not in the table, once; give the ledger's progress."""
        if self._committed is None:
            self._committed = roll_back_events(self.committer, self._landed, self._fencing_token).of(WRITER)
        return self._committed
