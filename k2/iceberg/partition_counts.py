"""A writer's partition counts: what is committed of each topic partition, and what the running epoch adds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.iceberg.pending_commit import WriterProgress
from k2.model.batch import TradeSlice
from k2.model.consumed import Consumed
from k2.model.correction import PlacedCorrection
from k2.model.dead_letter import DeadLetter
from k2.model.errors import StateError
from k2.model.last_message import LastMessage
from k2.model.progress import Counts, PartitionDelta, PartitionProgress, TopicPartition
from k2.model.rejected_messages import since
from k2.model.state_source import Positions
from k2.model.verdicts import CONFLICT, DUPLICATE, HEAD, SKIPPED, STORED

__all__ = ["PartitionCounts"]

_NO_ROWS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


@dataclass
class _EpochCounts:
    """Counts of one topic partition in the running epoch."""

    base: int
    """First offset that is not in the table."""
    next_offset: int
    """First offset after the ranges added in the epoch."""
    start: int = 0
    """First offset that was ever read."""
    last_row_offset: int = -1
    """Highest offset of a counted row."""
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0
    corrections: int = 0
    last_message: LastMessage | None = None
    """The last message of the ranges added in the epoch."""

    def move(self) -> PartitionDelta:
        """Return the next offset and this epoch's counts."""
        received = self.stored + self.duplicates + self.dead_letters + self.skipped + self.corrections
        counts = (received, self.stored, self.duplicates, self.dead_letters, self.skipped)
        return PartitionDelta(self.next_offset, *counts, self.start, self.last_message, self.corrections)

    @property
    def has_moved(self) -> bool:
        """Whether the epoch has anything that is not in the table yet."""
        return self.next_offset > self.base or self.move().counts != Counts()


@dataclass
class PartitionCounts:
    """The committed progress of one writer, and the counts of its running epoch."""

    committed: WriterProgress
    _epoch: dict[TopicPartition, _EpochCounts] = field(default_factory=dict)

    def add_range(self, consumed: Consumed) -> Sequence[DeadLetter]:
        """Add a range of offsets that was read, and its messages without a trade; return its new dead letters.

        Messages below the table's progress are not counted: they are replayed.

        Raises:
            StateError: the range starts beyond the last offset that was read, so messages in between would be lost.
        """
        topic_partition = TopicPartition(consumed.topic, consumed.partition)
        counts = self._counts(topic_partition)
        if consumed.first_offset > counts.next_offset:
            self._start_at(topic_partition, counts, consumed.first_offset)
        counts.next_offset = max(counts.next_offset, consumed.next_offset)
        # Ranges arrive in the order of their offsets; one without messages has the end of the partition or markers.
        counts.last_message = consumed.last_message or counts.last_message
        counts.skipped += int(np.count_nonzero(consumed.skipped >= counts.base))
        dead_letters = since(consumed.dead_letters, counts.base)
        counts.dead_letters += len(dead_letters)
        return dead_letters

    def add_corrections(
        self, consumed: Consumed, is_duplicate: Callable[[PlacedCorrection], bool]
    ) -> list[PlacedCorrection]:
        """Count the corrections of a range that was added; return those to store.

        Corrections below the table's progress are dropped before they are counted: they are replayed.
        """
        counts = self._counts(TopicPartition(consumed.topic, consumed.partition))
        kept = []
        for placed in consumed.corrections:
            if placed.offset < counts.base:
                continue
            if is_duplicate(placed):
                counts.duplicates += 1
            else:
                counts.corrections += 1
                kept.append(placed)
        return kept

    def new_messages(self, consumed: Consumed) -> int:
        """Return how many messages of a range are not in the table; at most, if a replay ends within the range.

        Offsets without a message, which compaction leaves, count in such a range.
        """
        counts = self._counts(TopicPartition(consumed.topic, consumed.partition))
        return max(0, min(consumed.messages, consumed.next_offset - counts.base))

    def count(self, trade_slice: TradeSlice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count a slice's rows by verdict; return int64 indexes into the slice: rows to store, and conflicts.

        Rows below the table's progress are dropped before they are counted: they are replayed.
        """
        counts = self._counts(trade_slice.batch.source.topic_partition)
        offsets = trade_slice.batch.offsets_of(trade_slice.rows)
        is_new = offsets >= counts.base
        if not is_new.any():
            return _NO_ROWS, _NO_ROWS
        verdicts = trade_slice.verdicts if is_new.all() else trade_slice.verdicts[is_new]
        by_verdict = np.bincount(verdicts, minlength=HEAD + 1)
        counts.stored += int(by_verdict[STORED])
        counts.duplicates += int(by_verdict[DUPLICATE])
        counts.dead_letters += int(by_verdict[CONFLICT])
        counts.skipped += int(by_verdict[SKIPPED] + by_verdict[HEAD])
        counts.last_row_offset = max(counts.last_row_offset, int(offsets.max()))
        conflicts = np.flatnonzero(is_new & (trade_slice.verdicts == CONFLICT)) if by_verdict[CONFLICT] else _NO_ROWS
        return np.flatnonzero(is_new & (trade_slice.verdicts == STORED)), conflicts

    def moves(self) -> dict[TopicPartition, PartitionDelta]:
        """Return the epoch's next offset and counts for each topic partition that moved."""
        for topic_partition, counts in self._epoch.items():
            assert counts.last_row_offset < counts.next_offset, f"{topic_partition}: a row beyond the ranges read"
        return {topic_partition: counts.move() for topic_partition, counts in self._epoch.items() if counts.has_moved}

    def next_offsets(self) -> Positions:
        """Return the first offset of each topic partition after what is committed and what the epoch adds."""
        committed = {topic_partition: entry.offset for topic_partition, entry in self.committed.items()}
        return committed | {topic_partition: move.offset for topic_partition, move in self.moves().items()}

    def start_next_epoch(self, committed: WriterProgress) -> None:
        """Start the next epoch after a commit; `committed` is the writer's progress after it."""
        self.committed = committed
        self._epoch.clear()

    def _start_at(self, topic_partition: TopicPartition, counts: _EpochCounts, first_offset: int) -> None:
        if topic_partition in self.committed or counts.next_offset > counts.base:
            raise StateError(
                f"{topic_partition}: reading continued at offset {first_offset}, but the table has it only to "
                f"{counts.next_offset}, so messages would be lost; use the recovery store of this table"
            )
        counts.base = counts.next_offset = counts.start = first_offset

    def _counts(self, topic_partition: TopicPartition) -> _EpochCounts:
        counts = self._epoch.get(topic_partition)
        if counts is None:
            entry = self.committed.get(topic_partition, PartitionProgress(0))
            counts = self._epoch[topic_partition] = _EpochCounts(entry.offset, entry.offset, entry.start)
        return counts
