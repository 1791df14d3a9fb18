"""Which trades are in the table: those below the offset that their symbol's writer has reached."""

from functools import cached_property

from k2.model.key_groups import group_of
from k2.model.progress import Progress, TopicPartition

__all__ = ["CommittedOffsets"]


class CommittedOffsets:
    """The table's progress, asked symbol by symbol: each is one writer's, and writers stand at different offsets."""

    def __init__(self, progress: Progress, writers: int) -> None:
        self._progress, self._writers = progress, writers
        self._groups: dict[tuple[str, str], int] = {}

    def floor(self, exchange: str, symbol: str, where: TopicPartition) -> int:
        """Return the first offset of a topic partition whose trades of a symbol are not in the table."""
        group = self._groups.get((exchange, symbol))
        if group is None:
            group = self._groups[exchange, symbol] = group_of(exchange, symbol)
        return self.floors(where)[group % self._writers]

    def floors(self, where: TopicPartition) -> tuple[int, ...]:
        """Return that offset for each writer."""
        return self._floors.get(where, (0,) * self._writers)

    @cached_property
    def _floors(self) -> dict[TopicPartition, tuple[int, ...]]:
        writers = [self._progress.of(str(writer)) for writer in range(self._writers)]
        return {
            where: tuple(entries[where].offset if where in entries else 0 for entries in writers)
            for where in self._progress.partitions()
        }
