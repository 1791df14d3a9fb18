"""Whether the dead letters that the table's progress counts are in the files."""

from functools import cached_property

import numpy as np
import structlog

from runtime.dead_letter_files import CoordinateIndex, files_in, lines_of, read_coordinates
from runtime.settings import Settings
from trades.progress import Progress, TopicPartition

__all__ = ["LetterCount"]

_LOG = structlog.get_logger()


class LetterCount:
    """Counts the letters in the files, when first asked: only a start without a recovery store needs it.

    A letter is made durable at the end of its epoch, as rows are, but neither waits for the other; so a crash between
    them can leave a progress that counts a letter which is in no file.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings, self._progress = settings, progress

    def is_short(self, where: TopicPartition) -> bool:
        """Whether fewer letters of a partition lie below the progress than it counts."""
        offsets, _ = self._columns.get(where, (np.empty(0, dtype=np.int64), None))
        reached = [entries[where].offset for entries in self._progress.writers.values() if where in entries]
        there = int(np.searchsorted(offsets, max(reached, default=0)))
        return there < self._progress.counts(where).dead_letters

    @cached_property
    def _columns(self) -> dict[TopicPartition, tuple[np.ndarray, np.ndarray]]:
        lines = lines_of(files_in(self._settings.dead_letter_folder))
        found = (coordinates for _, coordinates in read_coordinates(lines, _warn))
        return CoordinateIndex(found).columns()


def _warn(line: str) -> None:
    _LOG.warning("unreadable dead letter", line=line)
