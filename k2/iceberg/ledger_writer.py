"""The writer of the ledger: commits sequence events to the table `sequence_events`."""

from collections import Counter
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from bytewax.outputs import StatefulSinkPartition
from pyiceberg.schema import Schema

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

_ORDER: Final = ("exchange", "symbol", "timestamp", "offset")
"""By offset last, so that events of one time are in the order of their messages."""

OBJECTS_MAX: Final = 20_000
"""From this many on, events become Arrow columns, which take 100 bytes an event in place of 280."""

_log = structlog.get_logger()


class LedgerWriter(StatefulSinkPartition[list[SequenceEvent], dict[str, Any]]):
    """The only writer of the ledger."""

    def __init__(self, handle: TableHandle, committed: WriterProgress, trades_committed: CommittedOffsets) -> None:
        """Continue from the ledger's progress `committed`; `trades_committed` is that of the trades at the start."""
        self._handle = handle
        self._committer = handle.committer()
        self.committed = committed

        @cache
        def first_new_offset(exchange: str, symbol: str, topic: str, partition: int) -> int:
            return trades_committed.offset(exchange, symbol, TopicPartition(topic, partition))

        self._first_new_offset = first_new_offset
        self._events: list[SequenceEvent] = []
        self._tables: list[pa.Table] = []
        """Earlier events of the epoch, as Arrow columns."""

    def write_batch(self, values: list[list[SequenceEvent]]) -> None:
        """Add the events that are not in the ledger yet: owed ones, and those of trades not committed before."""
        for events in values:
            self._events += [
                one
                for one in events
                if one.is_owed
                or one.offset >= self._first_new_offset(one.exchange, one.symbol, one.topic, one.partition)
            ]
            if len(self._events) >= OBJECTS_MAX:
                self._to_columns()
        failpoint("events.taken")

    @reports_errors
    def snapshot(self) -> dict[str, Any]:
        """Commit the epoch's events, if there are any, and return the state to resume from."""
        failpoint("events.closing")
        self._to_columns()
        if self._tables:
            self._commit()
        failpoint("events.snapshot")
        return resume_state(self.committed, self._committer.table_id)

    def _to_columns(self) -> None:
        if self._events:
            self._tables.append(_columns_of(self._events))
            self._events = []

    def _commit(self) -> None:
        table = self._committer.table
        rows = _rows_of(pa.concat_tables(self._tables), datetime.now(UTC), table.schema())
        files = [
            # By a mask, which keeps the order of the rows; threads that evaluate an expression may not.
            write_file(table, rows.filter(pc.equal(rows["exchange"], one)), (one.as_py(),), self._handle.on_retry)
            for one in rows["exchange"].unique()
        ]
        pending = PendingCommit(WRITER, self.committed, _deltas_of(rows), files)
        self._committer.commit(pending)
        failpoint("events.committed")
        counts: dict[str, int] = Counter(map(str, rows["event"].to_pylist()))
        _log.info("ledger_committed", **counts)
        self.committed = pending.result
        self._tables = []


def _columns_of(events: list[SequenceEvent]) -> pa.Table:
    columns: dict[str, Any] = dict(zip(SequenceEvent._fields, map(pa.array, zip(*events, strict=True)), strict=True))
    return pa.table(columns | {"missing": pa.array([event.missing for event in events])})


def _rows_of(columns: pa.Table, detected_at: datetime, schema: Schema) -> pa.Table:
    """Return the rows of the ledger, sorted; the sort is stable, so events of one message stay in their order."""
    times = pa.repeat(pa.scalar(detected_at, pa.timestamp("us", "UTC")), len(columns))
    columns = columns.append_column("detected_at", times)
    own = arrow_schema(schema, SEQUENCE_EVENTS, frozenset())
    arrays = [
        columns[one.name].cast(one.type) if one.name in columns.column_names else pa.nulls(len(columns), one.type)
        for one in own
    ]
    rows = pa.Table.from_arrays(arrays, schema=own)
    return rows.take(pc.sort_indices(rows, [(name, "ascending") for name in _ORDER]))


def _deltas_of(rows: pa.Table) -> dict[TopicPartition, PartitionDelta]:
    totals = rows.group_by(["topic", "partition"]).aggregate([("offset", "max"), ("offset", "count")]).to_pylist()
    return {
        TopicPartition(one["topic"], one["partition"]): PartitionDelta(
            one["offset_max"] + 1, received=one["offset_count"], stored=one["offset_count"]
        )
        for one in totals
    }
