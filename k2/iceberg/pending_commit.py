"""A pending commit: what one commit of one writer adds to a table."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.manifest import DataFile

from k2.model.progress import PartitionDelta, PartitionProgress, TopicPartition
from k2.storage.commit_log import summary_of

__all__ = ["PendingCommit", "WriterProgress"]

WriterProgress = Mapping[TopicPartition, PartitionProgress]
"""One writer's progress."""


@dataclass
class PendingCommit:
    """What one commit of one writer adds to the table, and the progress that the table must have before it."""

    writer: str
    expected: WriterProgress
    """The writer's progress as it loaded or last committed it."""
    moves: Mapping[TopicPartition, PartitionDelta]
    """What the commit adds to each topic partition that moves."""
    files: list[DataFile]
    commit_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Table properties of this writer to set in the same commit."""
    lag: int | None = None
    """Messages that this process has not read yet; None if unknown, or if the table is not one of trades."""
    extra_summary: Mapping[str, str] = field(default_factory=dict)
    """Additional entries of the snapshot's summary."""
    snapshot_ids: list[int] = field(default_factory=list)
    """Snapshot ids of all attempts: an attempt that seemed to fail may have been committed."""

    @property
    def result(self) -> WriterProgress:
        """The writer's progress after the commit."""
        moved = {
            topic_partition: self.expected.get(topic_partition, PartitionProgress(0)).advanced(move)
            for topic_partition, move in self.moves.items()
        }
        return {**self.expected, **moved}

    @property
    def summary(self) -> dict[str, str]:
        """The snapshot's summary, with the counts of this commit alone."""
        return {**summary_of(self.writer, self.moves, self.lag), **self.extra_summary}
