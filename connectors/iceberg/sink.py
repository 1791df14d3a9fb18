"""The ends of the flow that are tables: stored trades, and the ledger of sequence events."""

from collections.abc import Mapping
from typing import Any

import structlog
from bytewax.outputs import FixedPartitionedSink

from connectors.iceberg.books import check_resume
from connectors.iceberg.books import resume_state as state_of
from connectors.iceberg.events import WRITER, EventsWriter
from connectors.iceberg.handle import TableHandle
from connectors.iceberg.progress import read_progress
from connectors.iceberg.tables import TableName
from connectors.iceberg.writer import OnCommit, TradesWriter
from runtime.retry import OnRetry
from runtime.settings import Settings
from trades.batch import Consumed, TradeSlice
from trades.events import SequenceEvent

__all__ = ["EventsSink", "TradesSink", "read_progress"]

_log = structlog.get_logger()


class TradesSink(FixedPartitionedSink[TradeSlice | Consumed, dict[str, Any]]):
    """Land trades in the table `trades`. Can support exactly-once processing.

    Items are `(str(writer), TradeSlice | Consumed)`. Every writer is to be told of every range read
    (`Consumed`), with the messages without a trade told to one of them. At the end of an epoch that
    brought anything, rows and progress land in one commit a writer.

    On replay rows below the table's progress are dropped before they are counted, so what is in the
    recovery store may be older than the table.

    Raises at its start:
        StateError: the recovery store is ahead of the table.
        SettingsError: `K2_WRITERS` is not what the table was made with.
    """

    def __init__(self, settings: Settings, on_commit: OnCommit | None = None, on_retry: OnRetry | None = None) -> None:
        self._settings = settings
        self._on_commit = on_commit
        self._handle = TableHandle(settings, TableName.TRADES, on_retry)

    def open(self) -> None:
        """Open or make the table now, so that what is amiss is said before the job runs."""
        self._handle.open()

    def remember_topics(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Give the topics' ids as they were when first read; those not known yet are noted in the table now."""
        return self._handle.committer().remember_topics(ids)

    def list_parts(self) -> list[str]:
        """Name the writers with two digits, since Bytewax counts partitions in the order of their text."""
        return [f"{writer:02d}" for writer in range(self._settings.writers)]

    def part_fn(self, item_key: str) -> int:
        """Route to the writer that the key names."""
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "TradesWriter":
        """Begin at the writer's progress in the table."""
        writer = TradesWriter(str(int(for_part)), self._handle, self._on_commit)
        check_resume(resume_state, writer.books.committed, self._handle.name)
        _log.info("writer_ready", step=step_id, writer=for_part, offsets=state_of(writer.books.committed)["offsets"])
        return writer


class EventsSink(FixedPartitionedSink[list[SequenceEvent], dict[str, Any]]):
    """Land sequence events in the table `sequence_events`. Can support exactly-once processing.

    Items are `("0", list[SequenceEvent])`. An epoch without events commits nothing. The progress moves
    at the end of an epoch only, behind the last message of each topic partition that caused an event.
    That is right because a source partition reads in order and an epoch ends between polls: what lies
    below belongs to this epoch or an earlier one, and steps emit in the epoch of their input, so every
    key group's events of it have come. On replay, events below the progress are dropped.
    """

    def __init__(self, settings: Settings, on_retry: OnRetry | None = None) -> None:
        self._handle = TableHandle(settings, TableName.SEQUENCE_EVENTS, on_retry)

    def open(self) -> None:
        """Open or make the table now, so that what is amiss is said before the job runs."""
        self._handle.open()

    def list_parts(self) -> list[str]:
        """Name the only writer."""
        return [WRITER]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "EventsWriter":  # noqa: ARG002
        """Begin at the ledger's progress."""
        writer = EventsWriter(self._handle)
        check_resume(resume_state, writer.committed, self._handle.name)
        return writer
