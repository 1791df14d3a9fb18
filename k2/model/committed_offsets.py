"""Committed offsets by symbol: a trade below its writer's committed offset is in the table."""

from functools import cached_property

from k2.model.key_groups import group_of
from k2.model.progress import Progress, TopicPartition

__all__ = ["CommittedOffsets"]


class CommittedOffsets:
    """The committed offset of each symbol: a symbol belongs to one writer, and writers commit different offsets."""

    def __init__(self, progress: Progress, writers: int) -> None:
        self._progress, self._writers = progress, writers
        self._groups: dict[tuple[str, str], int] = {}

    def offset(self, exchange: str, symbol: str, topic_partition: TopicPartition) -> int:
        """Return the first offset of a topic partition at which a symbol's trades are not in the table."""
        group = self._groups.get((exchange, symbol))
        if group is None:
            group = self._groups[exchange, symbol] = group_of(exchange, symbol)
        return self.offsets(topic_partition)[group % self._writers]

    def offsets(self, topic_partition: TopicPartition) -> tuple[int, ...]:
        """Return the committed offset of each writer in a topic partition; 0 for a writer that has none."""
        return self._offsets.get(topic_partition, (0,) * self._writers)

    @cached_property
    def _offsets(self) -> dict[TopicPartition, tuple[int, ...]]:
        writers = [self._progress.of(str(writer)) for writer in range(self._writers)]
        return {
            one: tuple(entries[one].offset if one in entries else 0 for entries in writers)
            for one in self._progress.partitions()
        }
