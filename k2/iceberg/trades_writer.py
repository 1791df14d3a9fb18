"""One writer of the table `trades`: rows to files as they come, files and progress to a commit an epoch."""

import time
from collections.abc import Callable
from typing import Any, Final

from bytewax.outputs import StatefulSinkPartition
from pyiceberg.manifest import DataFile

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.column_buffer import FLUSH_ROWS, ColumnBuffer
from k2.iceberg.commit import Advance
from k2.iceberg.data_files import write_file
from k2.iceberg.fence import Entries
from k2.iceberg.partition_counts import PartitionCounts, resume_state
from k2.iceberg.stored_trades import PendingConflicts
from k2.iceberg.table_handle import TableHandle
from k2.model.batch import TradeSlice
from k2.model.consumed import Consumed
from k2.model.progress import Counts, Progress
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.metrics import (
    COMMIT_SECONDS,
    COMMITS,
    DUPLICATES_DROPPED,
    FRESHNESS_SECONDS,
    LAST_COMMIT,
    TRADES_STORED,
)
from k2.sequencing.doubts import PROPERTY as DOUBTS
from k2.sequencing.doubts import Doubts
from k2.sequencing.non_market import PROPERTY, NonMarketNumbers
from k2.storage.dead_letter_files import positions_property
from k2.storage.dead_letters import DeadLetterQueue

__all__ = ["OnCommit", "TradesWriter"]

OnCommit = Callable[[Progress], None]
"""Told the progress of all writers after each commit."""

MICROSECONDS: Final = 1_000_000


class TradesWriter(StatefulSinkPartition[TradeSlice | Consumed, dict[str, Any]]):
    """One writer of the table `trades`: the rows of its key groups."""

    def __init__(
        self,
        writer: str,
        handle: TableHandle,
        committed: Entries,
        letters: DeadLetterQueue,
        on_commit: OnCommit | None = None,
        flush_rows: int = FLUSH_ROWS,
    ) -> None:
        """Go on from the writer's progress, as the job read it before anything was judged by it."""
        self._writer = writer
        self._handle = handle
        self._committer = handle.committer()
        self._letters = letters
        self._conflicts = PendingConflicts(letters, lambda: self._committer.table)
        self._on_commit = on_commit
        self.partition_counts = PartitionCounts(committed)
        properties = self._committer.table.metadata.properties
        self._off_book = NonMarketNumbers(properties.get(PROPERTY + writer))
        self._doubts = Doubts(properties.get(DOUBTS + writer))
        self._buffer = ColumnBuffer(arrow_schema(self._committer.table.schema()), flush_rows)
        self._files: list[DataFile] = []
        self._newest: int | None = None

    @reports_errors
    def write_batch(self, values: list[TradeSlice | Consumed]) -> None:
        """Take what an epoch brings; files are written as the buffer fills, and named by no one yet."""
        for value in values:
            if isinstance(value, Consumed):
                self._letters.append(self.partition_counts.tell(value))
            else:
                self._take(value)
        failpoint("trades.taken")

    @reports_errors
    def snapshot(self) -> dict[str, Any]:
        """Commit the epoch, once; an epoch that brought nothing commits nothing."""
        failpoint("trades.closing")
        self._commit()
        failpoint("trades.snapshot")
        return resume_state(self.partition_counts.committed, self._committer.table_id)

    def close(self) -> None:
        """Let go of the dead letters."""
        self._letters.close()

    def _take(self, piece: TradeSlice) -> None:
        self._off_book.add(piece, self.partition_counts.committed)
        self._doubts.update(piece.doubts)
        picks, conflicts = self.partition_counts.count(piece)
        self._conflicts.take(piece, conflicts)
        if len(picks):
            columns = piece.batch.columns
            newest = int(columns.timestamps[piece.rows[picks]].max())
            self._newest = newest if self._newest is None else max(newest, self._newest)
        while len(picks):
            picks = picks[self._buffer.add(piece, picks) :]
            if self._buffer.full:
                self._flush()

    def _flush(self) -> None:
        failpoint("trades.flush")
        self._conflicts.look_into(self._buffer)
        table = self._committer.table
        for share in self._buffer.drain():
            partition = (share.day, share.exchange)
            self._files.append(write_file(table, share.rows, partition, self._handle.on_retry))

    def _commit(self) -> None:
        moves = self.partition_counts.moves()
        if not moves:
            self.partition_counts.close(self.partition_counts.committed)
            return
        self._flush()
        self._conflicts.settle(self._files)
        # Durable before they are counted, so that after any crash the table counts none that is not there.
        letters = positions_property(self._writer, self._letters.sync())
        properties = {**letters, **self._off_book.changed(self._writer), **self._doubts.changed(self._writer)}
        advance = Advance(self._writer, self.partition_counts.committed, moves, self._files, properties=properties)
        progress = self._land(advance)
        self._files = []
        self.partition_counts.close(advance.result)
        self._tell(advance)
        if self._on_commit is not None:
            self._on_commit(progress)

    def _land(self, advance: Advance) -> Progress:
        try:
            with COMMIT_SECONDS.time():
                progress = self._committer.commit(advance)
        except Exception:
            COMMITS.labels("failed").inc()
            raise
        COMMITS.labels("landed").inc()
        LAST_COMMIT.set_to_current_time()
        return progress

    def _tell(self, advance: Advance) -> None:
        counts = sum((move.counts for move in advance.moves.values()), Counts())
        TRADES_STORED.inc(counts.stored)
        DUPLICATES_DROPPED.inc(counts.duplicates)
        if self._newest is not None:
            FRESHNESS_SECONDS.set(time.time() - self._newest / MICROSECONDS)
