"""One writer of the table `trades`: rows are written to files as they arrive, and committed once per epoch."""

import math
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from bytewax.outputs import StatefulSinkPartition
from numpy.typing import NDArray
from pyiceberg.manifest import DataFile

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.checkpoint_writer import CheckpointWriter, CommittedPoint
from k2.iceberg.column_buffer import FLUSH_ROWS, ColumnBuffer
from k2.iceberg.commit_report import CommitReport
from k2.iceberg.corrections_writer import CorrectionsWriter
from k2.iceberg.data_files import write_parts
from k2.iceberg.partition_counts import PartitionCounts
from k2.iceberg.pending_commit import PendingCommit, WriterProgress
from k2.iceberg.pending_conflicts import PendingConflicts
from k2.iceberg.resume_state import resume_state
from k2.iceberg.table_handle import TableHandle
from k2.model.batch import TradeSlice
from k2.model.canary import CanarySymbol
from k2.model.connections import GroupConnections
from k2.model.consumed import Consumed
from k2.model.dead_letter_ratio import DeadLetterRatio
from k2.model.feeds import FeedTopic, GroupFeeds
from k2.model.partition_starts import PartitionStarts, left_out_text
from k2.model.progress import Counts, Progress
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.health import Health
from k2.ops.metrics import (
    COMMIT_SECONDS,
    COMMITS,
    DUPLICATES_DROPPED,
    FRESHNESS_SECONDS,
    LAST_COMMIT,
    TRADES_STORED,
)
from k2.storage.commit_log import Remark
from k2.storage.dead_letters.queue import DeadLetterQueue
from k2.storage.table_properties import (
    ANNOUNCED_NUMBERS,
    CONNECTIONS,
    DEAD_LETTER_POSITIONS,
    DOUBTS,
    FEEDS,
    NON_MARKET_NUMBERS,
)

__all__ = ["Lag", "OnCommit", "TradesWriter"]

OnCommit = Callable[[Progress], None]
"""Called with the progress of all writers after each commit."""
Lag = Callable[[], float]
"""Returns the number of messages that this process has not read yet; NaN if unknown."""


class TradesWriter(StatefulSinkPartition[TradeSlice | Consumed | GroupConnections | GroupFeeds, dict[str, Any]]):
    """One writer of the table `trades`: the rows of its key groups."""

    def __init__(
        self,
        writer: str,
        handle: TableHandle,
        committed: WriterProgress,
        dead_letters: DeadLetterQueue,
        on_commit: OnCommit | None = None,
        flush_rows: int = FLUSH_ROWS,
        symbols: Symbols | None = None,
        health: Health | None = None,
        lag: Lag | None = None,
        state_origin: str = "with no state",
        ratio: DeadLetterRatio | None = None,
        canary: CanarySymbol | None = None,
        corrections: CorrectionsWriter | None = None,
        starts: PartitionStarts | None = None,
        feeds: tuple[FeedTopic, ...] = (),
    ) -> None:
        """Continue from the writer's progress `committed`, as the job read it at its start.

        The first commit records `state_origin`, where the state of the rules came from. `ratio` limits the dead letters
        of each topic; without it there is no limit. The trades of `canary` do not count as fresh. `corrections` is
        needed if a venue has corrections. `feeds` are the feeds that are read. The first commit that covers a partition
        of `starts` records what was left out before it.
        """
        self._starts = {} if starts is None else starts
        self._corrections = corrections
        self._canary = canary
        self._ratio = DeadLetterRatio(0, 1) if ratio is None else ratio
        self._writer = writer
        self._handle = handle
        self._committer = handle.committer()
        self._dead_letters = dead_letters
        self._conflicts = PendingConflicts(dead_letters, lambda: self._committer.table)
        self._on_commit, self._lag = on_commit, lag
        self._health = Health() if health is None else health
        self._health.writer_opened(writer)
        self._report = CommitReport(writer)
        self.partition_counts = PartitionCounts(committed)
        properties = self._committer.table.metadata.properties
        self._non_market = NON_MARKET_NUMBERS.read(properties, writer)
        self._doubts = DOUBTS.read(properties, writer)
        self._announced = ANNOUNCED_NUMBERS.read(properties, writer)
        self._connections = CONNECTIONS.read(properties, writer)
        self._feeds = FEEDS.read(properties, writer) if feeds else None
        if self._feeds is not None:
            self._feeds.begin(feeds)
        self._checkpoints = CheckpointWriter(writer, properties, handle.on_retry)
        self._buffer = ColumnBuffer(arrow_schema(self._committer.table.schema()), flush_rows, symbols)
        self._files: list[DataFile] = []
        self._newest_us: int | None = None
        self._start_remark = {Remark.STARTED.value: state_origin}

    @reports_errors
    def write_batch(self, values: list[TradeSlice | Consumed | GroupConnections | GroupFeeds]) -> None:
        """Add the epoch's rows and ranges; files are written when the buffer is full, but not committed yet.

        Raises:
            DeadLetterRatioError: too many of a topic's latest messages are dead letters; the epoch is not committed, so
                the next start reads its messages again.
        """
        for value in values:
            if isinstance(value, Consumed):
                dead_letters = self.partition_counts.add_range(value)
                # Messages that were replayed and fail again say nothing of the feed, and must not stop its capture.
                if value.is_live:
                    self._ratio.add(value.topic, self.partition_counts.new_messages(value), dead_letters)
                self._dead_letters.append(dead_letters)
                self._take_corrections(value)
            elif isinstance(value, GroupConnections):
                self._connections.update(value)
            elif isinstance(value, GroupFeeds):
                assert self._feeds is not None, "the sink has the settings of the flow"
                self._feeds.update(value)
            else:
                self._write_slice(value)
        failpoint("trades.taken")

    @reports_errors
    def snapshot(self) -> dict[str, Any]:
        """Commit the epoch exactly once, and return the state to resume from; an empty epoch makes no commit."""
        failpoint("trades.closing")
        began = CommittedPoint.now(self._committer.table, self.partition_counts.committed)
        self._commit()
        self._checkpoints.end_epoch(began)
        self._health.writer_committed(self._writer)
        failpoint("trades.snapshot")
        return resume_state(self.partition_counts.committed, self._committer.table_id)

    def close(self) -> None:
        """Close the dead-letter queue."""
        self._dead_letters.close()

    def _take_corrections(self, consumed: Consumed) -> None:
        if consumed.corrections:
            assert self._corrections is not None, "the sink opens it for a venue with corrections"
            self._corrections.take(self.partition_counts.add_corrections(consumed, self._corrections.is_duplicate))

    def _write_slice(self, trade_slice: TradeSlice) -> None:
        self._non_market.add(trade_slice, self.partition_counts.committed)
        self._doubts.update(trade_slice.doubts)
        self._announced.update(trade_slice.announced)
        if trade_slice.state is not None:
            table, committed = self._committer.table, self.partition_counts.committed
            self._checkpoints.add(table, trade_slice.group, trade_slice.state, committed)
        if len(trade_slice):
            self._checkpoints.note_rows(trade_slice.group)
        slice_indices, conflicts = self.partition_counts.count(trade_slice)
        self._conflicts.add(trade_slice, conflicts)
        if len(slice_indices):
            self._note_times(trade_slice, slice_indices)
        while len(slice_indices):
            slice_indices = slice_indices[self._buffer.add(trade_slice, slice_indices) :]
            if self._buffer.full:
                self._flush()

    def _note_times(self, trade_slice: TradeSlice, slice_indices: NDArray[np.int64]) -> None:
        columns, rows = trade_slice.batch.columns, trade_slice.rows[slice_indices]
        if self._canary is not None and self._canary.group == trade_slice.group:
            ids = [one for one in np.unique(columns.symbols[rows]) if columns.names.name(int(one)) != self._canary]
            rows = rows[np.isin(columns.symbols[rows], ids)]
        if len(rows):
            newest = int(columns.timestamps[rows].max())
            self._newest_us = newest if self._newest_us is None else max(newest, self._newest_us)

    def _flush(self) -> None:
        failpoint("trades.flush")
        self._conflicts.find_in_buffer(self._buffer)
        table = self._committer.table
        for file_rows in self._buffer.drain():
            partition = (file_rows.day, file_rows.exchange)
            schema, on_retry = self._buffer.schema, self._handle.on_retry
            self._files.append(write_parts(table, schema, file_rows.parts, partition, on_retry))

    def _commit(self) -> None:
        moves = self.partition_counts.moves()
        if not moves:
            self.partition_counts.start_next_epoch(self.partition_counts.committed)
            return
        self._flush()
        self._conflicts.resolve(self._files)
        # Durable before the commit that counts them, so that after any crash the table counts only existing ones.
        properties = DEAD_LETTER_POSITIONS.set_to(self._dead_letters.sync(), self._writer)
        if self._non_market.take_change():
            properties |= NON_MARKET_NUMBERS.set_to(self._non_market, self._writer)
        if self._doubts.take_change():
            properties |= DOUBTS.set_to(self._doubts, self._writer)
        if self._announced.take_change():
            properties |= ANNOUNCED_NUMBERS.set_to(self._announced, self._writer)
        if self._connections.advance(self.partition_counts.next_offsets()):
            properties |= CONNECTIONS.set_to(self._connections, self._writer)
        if self._feeds is not None:
            self._feeds.advance(self.partition_counts.next_offsets())
            properties |= FEEDS.set_to(self._feeds, self._writer)
        lag = math.nan if self._lag is None else self._lag()
        commit_id = uuid.uuid4().hex
        properties |= self._checkpoints.write(self._committer.table, commit_id, self.partition_counts.committed)
        if self._corrections is not None:
            properties |= self._corrections.close_epoch(commit_id)
        pending = PendingCommit(
            self._writer,
            self.partition_counts.committed,
            moves,
            self._files,
            commit_id,
            properties=properties,
            lag=None if math.isnan(lag) else int(lag),
            extra_summary=self._start_remark | self._left_out(moves),
        )
        started = time.monotonic()
        progress = self._commit_pending(pending)
        if self._corrections is not None:
            self._corrections.commit()
        seconds = time.monotonic() - started
        self._files, self._start_remark = [], {}
        self._checkpoints.remove_unnamed(self._committer.table)
        self.partition_counts.start_next_epoch(pending.result)
        counts = sum((move.counts for move in moves.values()), Counts())
        self._update_metrics(counts)
        if self._on_commit is not None:
            self._on_commit(progress)
        self._report.log(counts, self._dead_letters.take_rejections(), pending.lag, seconds)

    def _left_out(self, moves: WriterProgress) -> dict[str, str]:
        """Return the remark on offsets before the start of partitions that this writer commits for the first time."""
        committed = self.partition_counts.committed
        new = {where: self._starts[where] for where in moves if where in self._starts and where not in committed}
        text = left_out_text(new)
        return {Remark.LEFT_OUT.value: text} if text else {}

    def _commit_pending(self, pending: PendingCommit) -> Progress:
        try:
            with COMMIT_SECONDS.time():
                progress = self._committer.commit(pending)
        except Exception:
            COMMITS.labels("failed").inc()
            raise
        COMMITS.labels("landed").inc()
        LAST_COMMIT.set_to_current_time()
        return progress

    def _update_metrics(self, counts: Counts) -> None:
        TRADES_STORED.inc(counts.stored)
        DUPLICATES_DROPPED.inc(counts.duplicates)
        if self._newest_us is not None:
            FRESHNESS_SECONDS.set(time.time() - self._newest_us / SECOND_US)
