"""What became of replayed dead letters: from the journal, the tables and the progress, in one query for all letters."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar

import pyarrow as pa

from k2.model.dead_letter import DeadLetter
from k2.ops.settings import Settings
from k2.query.corrections import register_corrections
from k2.query.offset_bounds import next_offsets, table_of
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import existing_table
from k2.query.where_clauses import offset_ranges
from k2.storage.dead_letters.files import committed_dead_letters
from k2.storage.dead_letters.folders import dead_letter_folder, replay_journal
from k2.storage.dead_letters.replay_journal import JournalEntry
from k2.storage.table_properties import DEAD_LETTER_POSITIONS

__all__ = ["LetterPlaces", "ReplayCounts", "committed_letters", "count_replays", "replay_sentence", "spans"]

SPANS_MAX: Final = 16
"""Each costs a comparison for each data file of the table, and one too few has files read in vain."""

Letter = TypeVar("Letter", bound=DeadLetter)


@dataclass(frozen=True, slots=True)
class ReplayCounts:
    """Dead letters by whether they were replayed, and replayed ones by what became of their messages."""

    waiting: int
    """Not replayed. A letter that was replayed and failed again is another letter, which waits in turn."""
    replayed: int
    stored: int
    """Replayed, and a trade of the message is in the table."""
    rejected_again: int
    """Replayed, and the message is a dead letter at its new offset."""
    corrections: int
    """Replayed, and the message is in the table `corrections`."""
    unread: int
    """Replayed, and the job has not committed the message yet."""
    other: int
    """Replayed, and the message was a duplicate or skipped, or its rows were removed with their day."""


def replay_sentence(counts: ReplayCounts) -> str:
    """Return the counts as one line for people.

    >>> replay_sentence(ReplayCounts(7, 12, stored=9, rejected_again=2, corrections=0, unread=1, other=0))
    '7 waiting; 12 replayed: 9 stored since, 2 rejected again, 1 not read yet'
    """
    outcomes = {
        "stored since": counts.stored,
        "rejected again": counts.rejected_again,
        "stored as corrections": counts.corrections,
        "duplicate, skipped or removed": counts.other,
        "not read yet": counts.unread,
    }
    said = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items() if count)
    return f"{counts.waiting:,} waiting; {counts.replayed:,} replayed: {said}"


class LetterPlaces:
    """Collects the coordinates of dead letters that pass, as columns of 20 bytes a letter."""

    def __init__(self) -> None:
        self._topics: dict[str, int] = {}
        self._columns = (array("i"), array("i"), array("q"), array("i"))

    def through(self, letters: Iterable[Letter]) -> Iterator[Letter]:
        """Yield the letters unchanged."""
        topics, partitions, offsets, indexes = self._columns
        for letter in letters:
            topics.append(self._topics.setdefault(letter.topic, len(self._topics)))
            partitions.append(letter.partition)
            offsets.append(letter.offset)
            indexes.append(letter.index)
            yield letter

    def table(self) -> pa.Table:
        """Return `topic`, `partition`, `offset` and `index` of the letters that have passed."""
        ids, partitions, indexes = (pa.array(self._columns[place], pa.int32()) for place in (0, 1, 3))
        topics = pa.DictionaryArray.from_arrays(ids, pa.array([*self._topics], pa.string())).cast(pa.string())
        offsets = pa.array(self._columns[2], pa.int64())
        return pa.table({"topic": topics, "partition": partitions, "offset": offsets, "index": indexes})


def committed_letters(settings: Settings, unreadable: Callable[[str], None]) -> Callable[[], Iterator[DeadLetter]]:
    """Return what reads the dead letters that commits have counted as of now, as often as it is called.

    Others may be cut back at the next start of the job, which reads their messages again.

    Raises:
        NoTableError: the table `trades`, which names the lines that count, does not exist.
    """
    positions = DEAD_LETTER_POSITIONS.read_all(existing_table(settings, "trades").metadata.properties)
    return lambda: committed_dead_letters(dead_letter_folder(settings), positions, unreadable)


@retry_if_files_gone
def count_replays(
    settings: Settings, letters: LetterPlaces, unreadable: Callable[[str], None], *, pool: EnginePool | None = None
) -> ReplayCounts:
    """Count all letters that have passed `letters` by their replay; `unreadable` is called with bad journal files.

    Letters of a batch without an outcome count as waiting: the next replay finds out what was published.

    Raises:
        NoTableError: letters were replayed, and the table `trades` does not exist.
        UnreachableError: the object store or the catalog does not answer.
    """
    entries = [one for one in replay_journal(settings).entries(unreadable) if one.is_settled]
    places = letters.table()
    if not entries:
        return ReplayCounts(len(_distinct(places)), 0, 0, 0, 0, 0, 0)
    trades = existing_table(settings, "trades", pool)
    replays = _replays(entries)
    with open_engine(settings, pool) as engine:
        ranges = spans(offset for entry in entries for one in entry.batch.partitions for offset in one.offsets)
        engine.register("trades", trades, row_filter=offset_ranges(ranges))
        register_corrections(engine, settings, trades, None, pool)
        engine.register_arrow("letters", places)
        engine.register_arrow("replays", replays)
        ends = [(where.topic, where.partition, offset) for where, offset in next_offsets(trades, settings).items()]
        engine.register_arrow("ends", table_of(_ENDS, ends))
        (row,) = engine.query(_COUNTS)
    return ReplayCounts(**row)


def spans(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Return at most 16 ranges that contain all offsets, with the widest holes between them left out.

    >>> spans([7, 5, 6, 100])
    [(5, 7), (100, 100)]
    """
    ordered = sorted(offsets)
    holes = sorted(pairwise(ordered), key=lambda pair: pair[0] - pair[1])[: SPANS_MAX - 1]
    edges = sorted(pair for pair in holes if pair[1] - pair[0] > 1)
    firsts = [*ordered[:1], *(after for _, after in edges)]
    return [*zip(firsts, [*(before for before, _ in edges), *ordered[-1:]], strict=True)]


def _distinct(places: pa.Table) -> pa.Table:
    return places.group_by(places.column_names).aggregate([])


def _replays(entries: Sequence[JournalEntry]) -> pa.Table:
    """Return a row for each replayed letter: where it is, and `new_offset`, that of its message."""
    parts = [one for entry in entries for one in entry.batch.partitions]
    rows = [(one, letter, offset) for one in parts for letter, offset in zip(one.letters, one.offsets, strict=True)]
    return pa.table(
        {
            "topic": pa.array([one.topic for one, _, _ in rows], pa.string()),
            "partition": pa.array([one.partition for one, _, _ in rows], pa.int32()),
            "offset": pa.array([letter[0] for _, letter, _ in rows], pa.int64()),
            "index": pa.array([letter[1] for _, letter, _ in rows], pa.int32()),
            "new_offset": pa.array([offset for _, _, offset in rows], pa.int64()),
        }
    )


_END_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("next_offset", pa.int64()),
]
_ENDS: Final = pa.schema(_END_FIELDS)
_COUNTS: Final = """
    WITH places AS (SELECT DISTINCT topic, partition, "offset", "index" FROM letters),
    known AS (
        SELECT DISTINCT topic, partition, new_offset AS "offset" FROM replays
        SEMI JOIN places USING (topic, partition, "offset", "index")
    ),
    stored AS (SELECT DISTINCT topic, partition, "offset", true AS is_stored FROM trades SEMI JOIN known
        USING (topic, partition, "offset")),
    rejected AS (SELECT DISTINCT topic, partition, "offset", true AS is_rejected FROM places),
    corrected AS (SELECT DISTINCT topic, partition, "offset", true AS is_correction FROM corrections),
    outcomes AS (
        SELECT CASE
            WHEN is_stored THEN 'stored'
            WHEN is_rejected THEN 'rejected_again'
            WHEN is_correction THEN 'corrections'
            WHEN "offset" >= coalesce(next_offset, 0) THEN 'unread'
            ELSE 'other'
        END AS outcome
        FROM known
        LEFT JOIN stored USING (topic, partition, "offset")
        LEFT JOIN rejected USING (topic, partition, "offset")
        LEFT JOIN corrected USING (topic, partition, "offset")
        LEFT JOIN ends USING (topic, partition)
    )
    SELECT (SELECT count(*) FROM places) - count(*) AS waiting, count(*) AS replayed,
        count(*) FILTER (outcome = 'stored') AS stored,
        count(*) FILTER (outcome = 'rejected_again') AS rejected_again,
        count(*) FILTER (outcome = 'corrections') AS corrections,
        count(*) FILTER (outcome = 'unread') AS unread,
        count(*) FILTER (outcome = 'other') AS other
    FROM outcomes
"""
