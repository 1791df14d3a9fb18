"""Dead letters as read from their files, and their counts."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec
import pyarrow as pa

from k2.model.dead_letter import DeadLetter
from k2.model.errors import SettingsError, error_pattern
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query.engine import RecordBatchStream
from k2.query.pool import EnginePool
from k2.query.replays import LetterPlaces, ReplayCounts, count_replays
from k2.query.tables import existing_table
from k2.storage.dead_letters.files import committed_dead_letters, read_dead_letters
from k2.storage.dead_letters.folders import dead_letter_folder
from k2.storage.table_properties import DEAD_LETTER_POSITIONS

__all__ = [
    "DEAD_LETTER_SCHEMA",
    "DeadLetterExcerpt",
    "ErrorDeadLetters",
    "ErrorStatistics",
    "NoDeadLettersError",
    "PartitionDeadLetters",
    "Statistics",
    "count_by_error",
    "count_dead_letters",
    "count_with_replays",
    "dead_letter_row",
    "dead_letter_rows",
    "newest_dead_letters",
    "open_dead_letters",
]

BATCH_ROWS: Final = 8_192
EXCERPT_CHARACTERS_MAX: Final = 4_096
"""A multiple of 4, so that the start of a base64 text can be decoded."""
_TIME: Final = pa.timestamp("us", tz="UTC")
_FIELDS: Final[Mapping[str, pa.DataType]] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "index": pa.int32(),
    "kafka_timestamp": _TIME,
    "key": pa.string(),
    "key_encoding": pa.string(),
    "value": pa.string(),
    "value_encoding": pa.string(),
    "reason": pa.string(),
    "error": pa.string(),
    "error_type": pa.string(),
    "venue": pa.string(),
    "dead_lettered_at": _TIME,
    "exchange": pa.string(),
    "symbol": pa.string(),
    "sequence": pa.int64(),
    "session": pa.int32(),
    "timestamp": _TIME,
    "origin": pa.string(),
}
DEAD_LETTER_SCHEMA: Final = pa.schema(_FIELDS)
"""Columns of dead letters as rows; those that the reason of a dead letter does not set are null."""


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
    replays: ReplayCounts | None = None
    """What became of those that were replayed; None if it was not counted."""


@dataclass(frozen=True, slots=True)
class ErrorDeadLetters:
    """Number of dead letters with one cause, and the first of them."""

    reason: str
    error: str
    """The error with `…` for each quoted text, number and time."""
    dead_letters: int
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ErrorStatistics:
    """Dead letters by error, the commonest first, with the times of the oldest and the newest."""

    dead_letters: int
    errors: list[ErrorDeadLetters]
    oldest: datetime | None
    newest: datetime | None
    replays: ReplayCounts | None = None
    """As in `Statistics`."""


@dataclass(frozen=True, slots=True)
class DeadLetterExcerpt:
    """A dead letter with at most the first 4,096 characters of the message's key and value."""

    topic: str
    partition: int
    offset: int
    index: int
    """Index of the trade in its message."""
    reason: str
    error: str
    error_type: str
    venue: str
    kafka_timestamp: datetime | None
    dead_lettered_at: datetime | None
    key: str | None
    key_encoding: str | None
    """base64 if the key is not UTF-8; otherwise None."""
    value: str | None
    value_encoding: str | None
    value_bytes: int | None
    """Size of the whole value; None for a null value."""


def count_with_replays(
    count: Callable[[Iterable[DeadLetter]], "Statistics | ErrorStatistics"],
    settings: Settings,
    found: Iterable[DeadLetter],
    unreadable: Callable[[str], None],
    *,
    pool: EnginePool | None = None,
) -> "Statistics | ErrorStatistics":
    """Count dead letters by `count_dead_letters` or `count_by_error`, and those that were replayed in the same pass.

    `unreadable` is called with each file of the journal of replays that cannot be read. Raises as `count_replays`.
    """
    places = LetterPlaces()
    counted = count(places.through(found))
    return replace(counted, replays=count_replays(settings, places, unreadable, pool=pool))


def open_dead_letters(settings: Settings, unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    """Read all dead letters, the oldest first; `unreadable` is called with each line that is not a dead letter.

    In an object store, which may have objects of several attempts at one commit, those are read that commits count.

    Raises:
        NoDeadLettersError: the configured folder does not exist.
        NoTableError: the table `trades`, which names the objects that count, does not exist.
        SettingsError: a file cannot be read; raised during iteration.
        UnreachableError: the object store or the catalog does not answer; also raised during iteration.
    """
    if settings.dead_letter_address is not None:
        positions = DEAD_LETTER_POSITIONS.read_all(existing_table(settings, "trades").metadata.properties)
        return committed_dead_letters(dead_letter_folder(settings), positions, unreadable)
    folder = settings.dead_letter_folder
    if not folder.is_dir():
        setting = f"K2_DATA_DIR={settings.data_dir}" if settings.dlq_dir is None else f"K2_DLQ_DIR={folder}"
        raise NoDeadLettersError(
            f"{setting}: there is no folder of dead letters {folder}; correct it, or start the job, which creates it"
        )
    return _readable(read_dead_letters(dead_letter_folder(settings), unreadable))


def _readable(found: Iterator[DeadLetter]) -> Iterator[DeadLetter]:
    try:
        yield from found
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from None


def dead_letter_row(dead_letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as a row of `DEAD_LETTER_SCHEMA`."""
    return {**msgspec.structs.asdict(dead_letter), "reason": dead_letter.reason.value}


def dead_letter_rows(found: Iterable[DeadLetter]) -> RecordBatchStream:
    """Return dead letters as a stream of rows, which are read in batches."""
    return RecordBatchStream(DEAD_LETTER_SCHEMA, _batches(iter(found)))


def _batches(found: Iterator[DeadLetter]) -> Iterator[pa.RecordBatch]:
    while rows := [dead_letter_row(dead_letter) for dead_letter in islice(found, BATCH_ROWS)]:
        yield pa.RecordBatch.from_pylist(rows, DEAD_LETTER_SCHEMA)


def newest_dead_letters(
    found: Iterable[DeadLetter], limit: int, *, reason: Reason | None = None, error: str | None = None
) -> list[DeadLetterExcerpt]:
    """Return the last `limit` dead letters with a reason and an error, the last one first.

    `error` is the error of a dead letter, or one that `count_by_error` returns, which stands for all of its cause.
    """
    matching = (
        _excerpt(dead_letter)
        for dead_letter in found
        if (reason is None or dead_letter.reason == reason)
        and (error is None or error in {dead_letter.error, error_pattern(dead_letter.error)})
    )
    return [*reversed(deque(matching, limit))]


def _excerpt(letter: DeadLetter) -> DeadLetterExcerpt:
    value = letter.value_bytes()
    return DeadLetterExcerpt(
        letter.topic,
        letter.partition,
        letter.offset,
        letter.index,
        letter.reason.value,
        letter.error,
        letter.error_type,
        letter.venue,
        letter.kafka_timestamp,
        letter.dead_lettered_at,
        None if letter.key is None else letter.key[:EXCERPT_CHARACTERS_MAX],
        letter.key_encoding,
        None if letter.value is None else letter.value[:EXCERPT_CHARACTERS_MAX],
        letter.value_encoding,
        None if value is None else len(value),
    )


def count_by_error(found: Iterable[DeadLetter]) -> ErrorStatistics:
    """Count dead letters by reason and error, where values such as numbers and quoted texts make no difference."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], DeadLetter] = {}
    oldest, newest = None, None
    for dead_letter in found:
        cause = dead_letter.reason.value, error_pattern(dead_letter.error)
        counts[cause] += 1
        first.setdefault(cause, dead_letter)
        if (when := dead_letter.dead_lettered_at) is not None:
            oldest, newest = min(oldest or when, when), max(newest or when, when)
    errors = [
        ErrorDeadLetters(*cause, count, first[cause].topic, first[cause].partition, first[cause].offset)
        for cause, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return ErrorStatistics(counts.total(), errors, oldest, newest)


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
