"""The writer of the table `corrections`: one commit after each commit to `trades` that counts corrections."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import pyarrow as pa
import structlog
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, GreaterThanOrEqual, IsNull, Or
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType

from k2.dedup.corrections import SeenCorrections
from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.data_files import write_file
from k2.iceberg.pending_commit import PendingCommit, WriterProgress
from k2.iceberg.table_handle import TableHandle
from k2.model.columns import CORRECTIONS
from k2.model.correction import Correction, CorrectionKind, PlacedCorrection
from k2.model.errors import TableError
from k2.model.key_groups import group_of
from k2.model.progress import PartitionDelta, PartitionProgress, TopicPartition
from k2.model.times import EPOCH, time_of
from k2.ops.failpoints import failpoint
from k2.ops.metrics import CORRECTIONS_STORED
from k2.storage.pending_corrections import PendingCorrections, correction_row
from k2.storage.row_filters import any_of, rows_from
from k2.storage.table_properties import COMMIT_ID, PENDING_CORRECTIONS

__all__ = ["CorrectionsWriter"]

_MICROSECOND: Final = EPOCH.resolution
_log = structlog.get_logger()


class CorrectionsWriter:
    """The corrections of one writer's symbols.

    The commit to `trades` that counts corrections also has them as pending. The commit that adds them to the table
    `corrections` has the same id, so a start knows whether it has yet to make it. The table is made with the first one.
    """

    def __init__(self, writer: str, writers: int, handle: TableHandle, window_us: int) -> None:
        """Compare corrections within `window_us`; `handle` opens or creates the table."""
        self._writer, self._writers, self._handle = writer, writers, handle
        self._seen = SeenCorrections(window_us)
        self._window_us = window_us
        self._committed: WriterProgress = {}
        self._pending = PendingCorrections()
        self._taken: list[PlacedCorrection] = []
        self._ahead: dict[tuple[str, int, int, int], Correction] = {}
        """By coordinates, rows of messages that `trades` has not committed: it was restored to an earlier state."""

    def resume(self, pending: PendingCorrections, trades_committed: WriterProgress) -> None:
        """Add what a crash left pending, and read the corrections of the last two windows. The table must exist.

        Raises:
            UnreachableError: the catalog or store did not answer, after retries.
            FencedError: another instance has committed meanwhile.
        """
        committer = self._handle.committer()
        self._committed = committer.progress().of(self._writer)
        self._pending = pending
        if pending.rows and COMMIT_ID.read(committer.table.metadata.properties, self._writer) != pending.commit:
            self._complete(committer.table, pending)
        for placed in self._stored(committer.table, _since(committer.table, 2 * self._window_us)):
            self._seen.add(placed)
        reached = {
            topic_partition: trades_committed.get(topic_partition, PartitionProgress(0)).offset
            for topic_partition in self._committed
        }
        ahead = self._from_offsets(committer.table, reached)
        self._ahead = {placed.coordinates: placed.correction for placed in ahead}

    def _complete(self, table: Table, pending: PendingCorrections) -> None:
        """Add the pending rows. If `trades` was restored to an earlier state, the table may have them already."""
        lowest: dict[TopicPartition, int] = {}
        for placed in pending.rows:
            topic_partition = TopicPartition(placed.topic, placed.partition)
            lowest[topic_partition] = min(placed.offset, lowest.get(topic_partition, placed.offset))
        stored = {placed.coordinates for placed in self._from_offsets(table, lowest)}
        rows = tuple(placed for placed in pending.rows if placed.coordinates not in stored)
        if rows:
            self._add_rows(PendingCorrections(pending.commit, rows))
            _log.info("corrections_completed", writer=self._writer, corrections=len(rows))

    def is_duplicate(self, placed: PlacedCorrection) -> bool:
        """Return whether a correction is a copy of one that is stored, or taken in this epoch.

        Raises:
            TableError: the table has another correction for this message, so it belongs to another trades table.
        """
        stored = self._ahead.get(placed.coordinates)
        if stored is None:
            return not self._seen.add(placed)
        if stored != placed.correction:
            raise TableError(
                f"table {self._handle.name} has another correction at offset {placed.offset} of "
                f"{placed.topic}:{placed.partition} than the topic: it belongs to trades that were dropped; rename it"
            )
        return False

    def take(self, corrections: Sequence[PlacedCorrection]) -> None:
        """Add corrections to the running epoch."""
        self._taken += [placed for placed in corrections if placed.coordinates not in self._ahead]

    def close_epoch(self, commit_id: str) -> dict[str, str]:
        """Return the property to set in the commit to `trades`: the epoch's corrections, or that none is pending."""
        was_pending = bool(self._pending.rows)
        self._pending, self._taken = PendingCorrections(commit_id, tuple(self._taken)), []
        if not self._pending.rows and not was_pending:
            return {}
        return PENDING_CORRECTIONS.set_to(self._pending if self._pending.rows else PendingCorrections(), self._writer)

    def commit(self) -> None:
        """Add the corrections that the last commit to `trades` has as pending.

        Raises:
            UnreachableError: the catalog or store did not answer, after retries.
            FencedError: another instance has committed them.
        """
        if not self._pending.rows:
            return
        failpoint("corrections.pending")
        self._add_rows(self._pending)
        failpoint("corrections.committed")
        for placed in self._pending.rows:
            CORRECTIONS_STORED.labels(placed.correction.exchange).inc()

    def _add_rows(self, pending: PendingCorrections) -> None:
        committer = self._handle.committer()
        table = committer.table
        rows = sorted(pending.rows, key=_sort_key)
        files = [
            write_file(table, _as_arrow(list(group), table.schema()), (exchange,), self._handle.on_retry)
            for exchange, group in groupby(rows, key=lambda one: one.correction.exchange)
        ]
        commit = PendingCommit(self._writer, self._committed, _deltas_of(rows), files, pending.commit)
        committer.commit(commit)
        self._committed = commit.result

    def _stored(self, table: Table, row_filter: BooleanExpression) -> Iterator[PlacedCorrection]:
        """Yield the stored corrections of this writer's symbols, in the order of their Kafka timestamps."""
        found = (_from_row(row) for row in table.scan(row_filter=row_filter).to_arrow().to_pylist())
        own = (placed for placed in found if self._is_own(placed.correction))
        yield from sorted(own, key=lambda placed: (placed.kafka_timestamp or 0, *placed.coordinates))

    def _is_own(self, correction: Correction) -> bool:
        return group_of(correction.exchange, correction.symbol) % self._writers == int(self._writer)

    def _from_offsets(self, table: Table, offsets: Mapping[TopicPartition, int]) -> list[PlacedCorrection]:
        """Return the stored corrections of this writer's symbols from some offsets on; usually there are none."""
        filters = [
            rows_from(topic_partition, offset)
            for topic_partition, offset in offsets.items()
            if self._committed.get(topic_partition, PartitionProgress(0)).offset > offset
        ]
        return [*self._stored(table, any_of(filters))] if filters else []


def _sort_key(placed: PlacedCorrection) -> tuple[Any, ...]:
    """Return the order of rows: by exchange, then as the table is sorted; the coordinates make it unique."""
    correction = placed.correction
    return correction.exchange, correction.symbol, correction.timestamp, *placed.coordinates


def _since(table: Table, duration_us: int) -> BooleanExpression:
    """Return the filter of the rows of the newest `duration_us` by Kafka timestamp, and of those without one."""
    field_id = table.schema().find_field("kafka_timestamp").field_id
    bounds = [task.file.upper_bounds or {} for task in table.scan().plan_files()]
    times: list[Any] = [from_bytes(TimestamptzType(), bound[field_id]) for bound in bounds if field_id in bound]
    if not times:
        return AlwaysTrue()
    first = time_of(max(times) - duration_us).isoformat()
    # PyIceberg's type hints lack its constructors.
    return Or(GreaterThanOrEqual("kafka_timestamp", first), IsNull("kafka_timestamp"))  # type: ignore[call-arg,arg-type]


def _deltas_of(rows: Sequence[PlacedCorrection]) -> dict[TopicPartition, PartitionDelta]:
    deltas: dict[TopicPartition, PartitionDelta] = {}
    for placed in rows:
        topic_partition = TopicPartition(placed.topic, placed.partition)
        known = deltas.get(topic_partition, PartitionDelta(0))
        offset = max(known.offset, placed.offset + 1)
        deltas[topic_partition] = PartitionDelta(offset, received=known.received + 1, stored=known.stored + 1)
    return deltas


def _as_arrow(rows: Sequence[PlacedCorrection], schema: Schema) -> pa.Table:
    values = [correction_row(placed) for placed in rows]
    return pa.Table.from_pylist(values, schema=arrow_schema(schema, CORRECTIONS, frozenset()))


def _from_row(row: dict[str, Any]) -> PlacedCorrection:
    """Return a row of the table as it was before it was stored."""
    values = row | {name: _microseconds(row[name]) for name in ("timestamp", "received", "kafka_timestamp")}
    correction = Correction(**{name: values[name] for name in Correction._fields})
    return PlacedCorrection(
        correction._replace(what=CorrectionKind(correction.what)),
        *(values[name] for name in PlacedCorrection.__struct_fields__[1:]),
    )


def _microseconds(time: Any) -> int | None:
    return None if time is None else (time - EPOCH) // _MICROSECOND
