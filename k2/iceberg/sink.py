"""The Iceberg sinks of the flow: stored trades, and the ledger of sequence events."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
from bytewax.outputs import FixedPartitionedSink

from k2.iceberg.commit import Committer
from k2.iceberg.corrections_writer import CorrectionsWriter
from k2.iceberg.decoding import decoding_of
from k2.iceberg.fence import check_fence
from k2.iceberg.fencing_commit import adopt_fencing_token, invalidate_commits_in_flight, set_fencing_token
from k2.iceberg.ledger_rollback import WRITER, TradesFence, roll_back_events
from k2.iceberg.ledger_writer import LedgerWriter
from k2.iceberg.pending_commit import WriterProgress
from k2.iceberg.resume_state import check_resume
from k2.iceberg.starts import remember_starts
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.iceberg.topics import remember_topics
from k2.iceberg.trades_writer import Lag, OnCommit, TradesWriter
from k2.model.batch import TradeSlice
from k2.model.committed_offsets import CommittedOffsets
from k2.model.connections import GroupConnections
from k2.model.consumed import Consumed
from k2.model.dead_letter_ratio import DeadLetterRatio
from k2.model.errors import SettingsError
from k2.model.feeds import GroupFeeds
from k2.model.partition_starts import PartitionStarts
from k2.model.progress import Progress
from k2.model.sequence_events import SequenceEvent
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.ops.error_boundary import reports_errors
from k2.ops.health import Health
from k2.ops.retry import OnRetry
from k2.ops.settings import Settings
from k2.storage.catalog import find_table
from k2.storage.dead_letters.files import Position, series_prefix
from k2.storage.dead_letters.folders import check_no_other_writer, dead_letter_log
from k2.storage.dead_letters.queue import DeadLetterQueue
from k2.storage.table_properties import DEAD_LETTER_POSITIONS, PENDING_CORRECTIONS
from k2.venues import VENUES

__all__ = ["LedgerSink", "TradesSink"]

_log = structlog.get_logger()


class TradesSink(FixedPartitionedSink[TradeSlice | Consumed | GroupConnections | GroupFeeds, dict[str, Any]]):
    """Write trades to the table `trades`. Can support exactly-once processing.

    Items are `(str(writer), TradeSlice | Consumed | GroupConnections | GroupFeeds)`. Every writer must receive every
    range read (`Consumed`), and one of them the messages without a trade. At the end of an epoch that has any ranges,
    each writer commits its rows, its progress, its connections and its feeds together.

    On replay, rows below the table's progress are dropped before they are counted, so the recovery store may be older
    than the table.

    Dead letters, which are messages that could not be decoded and trades in conflict with stored ones, are written to
    their own files (`k2.storage.dead_letters`), and are durable before the commit that counts them. If too many of a
    topic's latest messages cannot be decoded, the job ends with DeadLetterRatioError before they are committed.

    Raises at its start:
        StateError: the recovery store is ahead of the table.
        SettingsError: `K2_WRITERS` differs from the number that the table was created with.
        TableError: the table was rolled back.
        FencedError: another instance has committed since this one read the progress that it starts from.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress | None = None,
        on_commit: OnCommit | None = None,
        on_retry: OnRetry | None = None,
        symbols: Symbols | None = None,
        health: Health | None = None,
        lag: Lag | None = None,
        on_writer_open: Callable[[str], None] | None = None,
    ) -> None:
        """Start from `progress`, from which the whole job starts; without it, from the table's progress at `open`.

        `on_writer_open` is called with each writer that is opened in this process.
        """
        self._on_writer_open = on_writer_open
        self._settings = settings
        self._symbols = symbols
        self._health = health
        self._progress = progress
        self._properties: Mapping[str, str] = {}
        self._starts: PartitionStarts = {}
        self._on_commit, self._lag = on_commit, lag
        self._handle = TableHandle(settings, TableName.TRADES, on_retry)
        self._corrections_handle = TableHandle(settings, TableName.CORRECTIONS, on_retry)

    def open(self) -> Progress:
        """Open or create the table now, so that errors are reported before the job runs; return the progress."""
        found = self.committer.progress()
        if self._progress is None:
            self._progress = found
        self._properties = self.committer.table.metadata.properties
        for writer in map(str, range(self._settings.writers)):
            check_fence(self._handle.name, writer, found.of(writer), self._progress.of(writer))
        return self._progress

    def check_dead_letter_locks(self) -> None:
        """Check, before anything is read, that no other process of this machine holds the dead letters of a writer.

        Raises:
            SettingsError: the folder cannot be created or written, or it is an address in the table's folder.
            StateError: another process holds them.
        """
        address, location = self._settings.dead_letter_address, self.committer.table.location()
        if address is not None and f"{address}/".startswith(f"{location.rstrip('/')}/"):
            raise SettingsError(
                f"K2_DLQ_DIR={address!r} is in the folder of table {self._handle.name}, whose upkeep removes what no "
                f"snapshot names; use an address outside of {location}"
            )
        for writer in map(str, range(self._settings.writers)):
            check_no_other_writer(self._settings, series_prefix(self.committer.table_id, writer))

    def remember_topics(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Return the topics' ids as they were when first read; record new topics, and how all are decoded.

        Raises:
            StateError: the decoding has changed for messages which one writer has committed, and another has not.
        """
        return remember_topics(self.committer, ids, decoding_of(self._settings), self._settings.writers)

    def remember_starts(self, decided: PartitionStarts) -> PartitionStarts:
        """Return the starts on record, after those of new topics are recorded, as `remember_starts`.

        The first commit of each writer that covers a partition says which offsets its start left out.
        """
        self._starts = remember_starts(self.committer, decided)
        return self._starts

    def set_fencing_token(self, token: str) -> None:
        """Fence out instances that started before this one.

        Raises:
            FencedError: another instance has committed since this one read the progress that it starts from.
        """
        set_fencing_token(self.committer, token, self.open())

    def adopt_fencing_token(self) -> None:
        """Commit under the fencing token that another process of this cluster may have set.

        Raises:
            FencedError: another instance has committed since this one read the progress that it starts from.
        """
        adopt_fencing_token(self.committer, self.open())

    @property
    def committer(self) -> Committer:
        """The committer of this process for the table; the first access opens or creates the table."""
        return self._handle.committer()

    def list_parts(self) -> list[str]:
        """Name the writers with two digits, because Bytewax sorts partitions by name.

        Bytewax calls this after all processes have connected and before any can commit. So if the table has moved since
        this process read it, another instance has committed.
        """
        self.open()
        return [f"{writer:02d}" for writer in range(self._settings.writers)]

    def part_fn(self, item_key: str) -> int:
        """Route an item to the writer in its key."""
        return int(item_key)

    @reports_errors
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "TradesWriter":
        """Return a writer that continues from its progress in the table."""
        writer = str(int(for_part))
        progress = self.open() if self._progress is None else self._progress
        committed = progress.of(writer)
        check_resume(resume_state, committed, self._handle.name, self.committer.table_id)
        offsets = {str(topic_partition): entry.offset for topic_partition, entry in committed.items()}
        _log.info("writer_ready", step=step_id, writer=for_part, offsets=offsets)
        dead_letters = self._dead_letters(writer, committed)
        corrections = self._corrections(writer, committed)
        if self._on_writer_open is not None:
            self._on_writer_open(writer)
        return TradesWriter(
            writer,
            self._handle,
            committed,
            dead_letters,
            self._on_commit,
            symbols=self._symbols,
            health=self._health,
            lag=self._lag,
            state_origin=_state_origin(resume_state, committed),
            ratio=DeadLetterRatio(self._settings.dlq_ratio_max, self._settings.dlq_ratio_messages_min),
            canary=None if self._settings.canary_topic is None else self._settings.canary_name,
            corrections=corrections,
            starts=self._starts,
            feeds=self._settings.feeds,
        )

    def _corrections(self, writer: str, committed: WriterProgress) -> CorrectionsWriter | None:
        """Return the writer of corrections, if a venue has any, after it has added what a crash left pending."""
        pending = PENDING_CORRECTIONS.read(self._properties, writer)
        if not pending.rows and not any(VENUES[one.venue].has_corrections for one in self._settings.topics):
            return None
        window_us = self._settings.dedup_window_seconds * SECOND_US
        corrections = CorrectionsWriter(writer, self._settings.writers, self._corrections_handle, window_us)
        if pending.rows or find_table(self._settings, TableName.CORRECTIONS) is not None:
            corrections.resume(pending, committed)
        return corrections

    def _dead_letters(self, writer: str, committed: WriterProgress) -> DeadLetterQueue:
        log = dead_letter_log(
            self._settings,
            series_prefix(self.committer.table_id, writer),
            DEAD_LETTER_POSITIONS.read(self._properties, writer),
            partial(self._settle, writer, committed),
        )
        return DeadLetterQueue(log)

    def _settle(self, writer: str, committed: WriterProgress) -> Mapping[str, Position]:
        """Invalidate commits in flight of other instances; return the dead-letter positions that are recorded then.

        Raises:
            FencedError: another instance has committed since the progress was read.
        """
        invalidate_commits_in_flight(self.committer, writer)
        check_fence(self._handle.name, writer, self.committer.progress().of(writer), committed)
        return DEAD_LETTER_POSITIONS.read(self.committer.table.metadata.properties, writer)


def _state_origin(resume_state: dict[str, Any] | None, committed: WriterProgress) -> str:
    if resume_state is not None:
        return "from the recovery store"
    return "from the tables" if committed else "with no state"


class LedgerSink(FixedPartitionedSink[list[SequenceEvent], dict[str, Any]]):
    """Write sequence events to the table `sequence_events`. Can support exactly-once processing.

    Items are `("0", list[SequenceEvent])`. An epoch without events commits nothing.

    The ledger follows the trades table, whose progress at the start of the job is given. Events of trades that are not
    in that table are rolled back at the start, because the replay causes them again, possibly different ones. Replayed
    events of trades that are in the table are dropped; those that the ledger lacks arrive as owed events.
    """

    def __init__(
        self,
        settings: Settings,
        trades_progress: Progress | None = None,
        on_retry: OnRetry | None = None,
        fence: TradesFence | None = None,
    ) -> None:
        """Follow the trades table at `trades_progress` (None if it is empty); `fence` fences that table."""
        self._trades_committed = CommittedOffsets(trades_progress or Progress(), settings.writers)
        self._handle = TableHandle(settings, TableName.SEQUENCE_EVENTS, on_retry)
        self._fence = fence
        self._committed: WriterProgress | None = None

    @property
    def committer(self) -> Committer:
        """The committer of this process for the ledger; the first access opens or creates the ledger."""
        return self._handle.committer()

    def open(self) -> None:
        """Open or create the table now, so that errors are reported before the job runs."""
        self.committer.progress()

    def list_parts(self) -> list[str]:
        """Name the only writer, after the ledger is rolled back to the trades table.

        Bytewax calls this after all processes have connected, so each has accepted its recovery store, and before any
        can commit.
        """
        self._roll_back()
        return [WRITER]

    @reports_errors
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "LedgerWriter":  # noqa: ARG002
        """Return a writer that continues from the ledger's progress.

        Raises:
            StateError: the recovery store counts events as written that this ledger does not have.
        """
        committed = self._roll_back()
        check_resume(resume_state, committed, self._handle.name, self.committer.table_id)
        return LedgerWriter(self._handle, committed, self._trades_committed)

    def _roll_back(self) -> WriterProgress:
        """Roll back the events of trades that are not in the table, once; return the ledger's progress."""
        if self._committed is None:
            progress = roll_back_events(self.committer, self._trades_committed, self._fence)
            self._committed = progress.of(WRITER)
        return self._committed
