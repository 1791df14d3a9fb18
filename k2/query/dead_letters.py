"""Dead letters as read from their files, and their counts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from k2.model.dead_letter import DeadLetter
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.storage.dead_letters.files import read_dead_letters

__all__ = ["NoDeadLettersError", "PartitionDeadLetters", "Statistics", "count_dead_letters", "open_dead_letters"]


class NoDeadLettersError(SettingsError):
    """The configured folder of dead letters does not exist: the settings are wrong, or the job has never run."""


@dataclass(frozen=True, slots=True)
class PartitionDeadLetters:
    """Number of dead letters of one topic partition."""

    topic: str
    partition: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Dead letters by reason and by partition, with the times when the job set the oldest and the newest aside."""

    dead_letters: int
    reasons: dict[str, int]
    partitions: list[PartitionDeadLetters]
    oldest: datetime | None
    newest: datetime | None


def open_dead_letters(settings: Settings, unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    """Read all dead letters, the oldest first; `unreadable` is called with each line that is not a dead letter.

    Raises:
        NoDeadLettersError: the configured folder does not exist.
        SettingsError: a file cannot be read; raised during iteration.
    """
    folder = settings.dead_letter_folder
    if not folder.is_dir():
        setting = f"K2_DATA_DIR={settings.data_dir}" if settings.dlq_dir is None else f"K2_DLQ_DIR={folder}"
        raise NoDeadLettersError(
            f"{setting}: there is no folder of dead letters {folder}; correct it, or start the job, which creates it"
        )
    return _readable(read_dead_letters(folder, unreadable))


def _readable(found: Iterator[DeadLetter]) -> Iterator[DeadLetter]:
    try:
        yield from found
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from None


def count_dead_letters(found: Iterable[DeadLetter]) -> Statistics:
    """Count dead letters by reason and by topic partition."""
    reasons: Counter[str] = Counter()
    partitions: Counter[tuple[str, int]] = Counter()
    oldest, newest = None, None
    for dead_letter in found:
        reasons[dead_letter.reason.value] += 1
        partitions[dead_letter.topic, dead_letter.partition] += 1
        if (when := dead_letter.dead_lettered_at) is not None:
            oldest, newest = min(oldest or when, when), max(newest or when, when)
    return Statistics(
        reasons.total(),
        dict(sorted(reasons.items())),
        [PartitionDeadLetters(*partition, count) for partition, count in sorted(partitions.items())],
        oldest,
        newest,
    )
