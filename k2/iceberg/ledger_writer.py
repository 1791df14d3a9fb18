"""The writer of the ledger: commits sequence events to the table `sequence_events`."""

from collections import Counter
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import pyarrow as pa
import structlog
from bytewax.outputs import StatefulSinkPartition

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.data_files import write_file
from k2.iceberg.ledger_rollback import WRITER
from k2.iceberg.pending_commit import PendingCommit, WriterProgress
from k2.iceberg.resume_state import resume_state
from k2.iceberg.table_handle import TableHandle
from k2.model.columns import SEQUENCE_EVENTS
from k2.model.committed_offsets import CommittedOffsets
from k2.model.progress import PartitionDelta, TopicPartition
from k2.model.sequence_events import SequenceEvent
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint

__all__ = ["LedgerWriter"]

_log = structlog.get_logger()


class LedgerWriter(StatefulSinkPartition[list[SequenceEvent], dict[str, Any]]):
    """The only writer of the ledger."""

    def __init__(self, handle: TableHandle, committed: WriterProgress, trades_committed: CommittedOffsets) -> None:
        """Continue from the ledger's progress `committed`; `trades_committed` is that of the trades at the start."""
        self._handle = handle
        self._committer = handle.committer()
        self.committed = committed
        self._trades_committed = trades_committed
        self._events: list[SequenceEvent] = []

    def write_batch(self, values: list[list[SequenceEvent]]) -> None:
        """Add the events that are not in the ledger yet."""
        self._events += [event for events in values for event in events if self._is_new(event)]
        failpoint("events.taken")

    @reports_errors
    def snapshot(self) -> dict[str, Any]:
        """Commit the epoch's events, if there are any, and return the state to resume from."""
        failpoint("events.closing")
        if self._events:
            self._commit()
        failpoint("events.snapshot")
        return resume_state(self.committed, self._committer.table_id)

    def _is_new(self, event: SequenceEvent) -> bool:
        if event.is_owed:
            return True
        return event.offset >= self._trades_committed.offset(event.exchange, event.symbol, _topic_partition(event))

    def _commit(self) -> None:
        table = self._committer.table
        now = int(datetime.now(UTC).timestamp() * 1_000_000)
        # Also by offset, so that events of one time are in the order of their messages.
        events = sorted(self._events, key=attrgetter("exchange", "symbol", "timestamp", "offset"))
        files = [
            write_file(table, _as_arrow(list(group), now, table.schema()), (exchange,), self._handle.on_retry)
            for exchange, group in groupby(events, key=lambda event: event.exchange)
        ]
        pending = PendingCommit(WRITER, self.committed, _moves(events), files)
        self._committer.commit(pending)
        failpoint("events.committed")
        counts = Counter(event.event for event in events)
        _log.info("ledger_committed", **{kind.value: count for kind, count in counts.items()})
        self.committed = pending.result
        self._events = []


def _topic_partition(event: SequenceEvent) -> TopicPartition:
    return TopicPartition(event.topic, event.partition)


def _moves(events: list[SequenceEvent]) -> dict[TopicPartition, PartitionDelta]:
    counts = Counter((event.topic, event.partition) for event in events)
    newest = dict(sorted(((event.topic, event.partition), event.offset) for event in events))
    return {
        TopicPartition(*place): PartitionDelta(newest[place] + 1, received=count, stored=count)
        for place, count in counts.items()
    }


def _as_arrow(events: list[SequenceEvent], detected_at: int, schema: Any) -> pa.Table:
    columns: dict[str, Any] = dict(zip(SequenceEvent._fields, zip(*events, strict=True), strict=True))
    columns |= {"missing": [event.missing for event in events], "detected_at": [detected_at] * len(events)}
    own = arrow_schema(schema, SEQUENCE_EVENTS, frozenset())
    nothing = [None] * len(events)
    return pa.Table.from_arrays([pa.array(columns.get(one.name, nothing), one.type) for one in own], schema=own)
