"""Dead letters, as the files have them: read one at a time, and counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from k2.model.dead_letter import DeadLetter
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.storage.dead_letter_files import letters_in

__all__ = ["NoLettersError", "PartitionLetters", "Statistics", "letters", "statistics"]


class NoLettersError(SettingsError):
    """There is no folder of dead letters where the settings say: another one than was meant, or the job never ran."""


@dataclass(frozen=True, slots=True)
class PartitionLetters:
    """A topic partition's."""

    topic: str
    partition: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many there are, and when the job set them aside."""

    dead_letters: int
    reasons: dict[str, int]
    partitions: list[PartitionLetters]
    oldest: datetime | None
    newest: datetime | None


def letters(settings: Settings, unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    """Read all letters, the oldest first; each line that is none is told to `unreadable`.

    Raises:
        NoLettersError: there is no folder of them where the settings say.
        SettingsError: while reading, a file cannot be read.
    """
    folder = settings.dead_letter_folder
    if not folder.is_dir():
        setting = f"K2_DATA_DIR={settings.data_dir}" if settings.dlq_dir is None else f"K2_DLQ_DIR={folder}"
        raise NoLettersError(
            f"{setting}: there is no folder of dead letters {folder}; mend it, or let the job run, which makes it"
        )
    return _readable(letters_in(folder, unreadable))


def _readable(found: Iterator[DeadLetter]) -> Iterator[DeadLetter]:
    try:
        yield from found
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from None


def statistics(found: Iterable[DeadLetter]) -> Statistics:
    """Count letters by reason and by topic partition."""
    reasons: Counter[str] = Counter()
    partitions: Counter[tuple[str, int]] = Counter()
    oldest, newest = None, None
    for letter in found:
        reasons[letter.reason.value] += 1
        partitions[letter.topic, letter.partition] += 1
        if (when := letter.dead_lettered_at) is not None:
            oldest, newest = min(oldest or when, when), max(newest or when, when)
    return Statistics(
        reasons.total(),
        dict(sorted(reasons.items())),
        [PartitionLetters(*where, count) for where, count in sorted(partitions.items())],
        oldest,
        newest,
    )
