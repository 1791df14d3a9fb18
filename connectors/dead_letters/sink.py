"""The end of the flow where messages that could not become trades are kept."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from connectors.dead_letters.resume import begin, resume, state_of
from connectors.dead_letters.writer import FileLock, Writer
from runtime.ending import told
from runtime.failpoints import failpoint
from runtime.settings import Settings
from trades.dead_letter import DeadLetter
from trades.progress import Progress

__all__ = ["DeadLettersSink"]

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class DeadLettersSink(FixedPartitionedSink[list[DeadLetter], dict[str, Any]]):
    """Append dead letters to `dlq-00000001.jsonl` and so on in `settings.dead_letter_folder`.

    Takes items `("0", letters)`; there is one partition, so one worker of the cluster writes: processes on
    several machines need the folder to be shared. Another process on the same folder is refused.

    Can support exactly-once processing. With a recovery store, what was written after the recovered epoch is
    removed, but for letters below the table's progress that `committed` gives: those stay, and are left out
    when the replay brings them again. Without a store nothing is removed, and letters whose (topic,
    partition, offset, index) is in the files are left out. Not covered: a message below the table's progress
    that was stored before and is a dead letter by the replay (a conflict between copies in two partitions,
    read in another order) is written as well.
    """

    def __init__(self, settings: Settings, committed: Callable[[], Progress] = Progress, clock: Clock = _now) -> None:
        self._settings = settings
        self._committed = committed
        self._clock = clock

    def open(self) -> None:
        """Make the folder now, so that what is amiss is said before the job runs.

        Raises:
            SettingsError: it cannot be made or written.
            StateError: another process has it.
        """
        FileLock(self._settings.dead_letter_folder).release()

    @override
    def list_parts(self) -> list[str]:
        return ["0"]

    @override
    def part_fn(self, item_key: str) -> int:
        return 0

    @override
    @told
    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, Any] | None) -> "_DeadLettersPartition":
        return _DeadLettersPartition(self._settings, resume_state, self._committed, self._clock)


class _DeadLettersPartition(StatefulSinkPartition[list[DeadLetter], dict[str, Any]]):
    def __init__(
        self,
        settings: Settings,
        state: dict[str, Any] | None,
        committed: Callable[[], Progress],
        clock: Clock,
    ) -> None:
        self._folder = settings.dead_letter_folder
        self._clock = clock
        self._lock = FileLock(self._folder)
        limit, topics = settings.dlq_file_bytes_max, dict(settings.topics)
        try:
            position, self._present = (
                begin(self._folder, limit) if state is None else resume(self._folder, state, committed(), limit, topics)
            )
        except BaseException:
            self._lock.release()
            raise
        self._writer = Writer(self._folder, position, limit)

    @override
    @told
    def write_batch(self, values: list[list[DeadLetter]]) -> None:
        self._writer.append(self._lines(values))

    @override
    @told
    def snapshot(self) -> dict[str, Any]:
        self._writer.sync()
        failpoint("letters.snapshot")
        return state_of(self._writer.position)

    @override
    @told
    def close(self) -> None:
        self._writer.close()
        self._lock.release()

    def _lines(self, values: list[list[DeadLetter]]) -> Iterator[bytes]:
        now = self._clock()
        for letters in values:
            for letter in letters:
                if letter.coordinates not in self._present:
                    yield msgspec.structs.replace(letter, dead_lettered_at=now).line()
