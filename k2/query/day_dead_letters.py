"""Dead letters of a symbol's day: those that conflict, those with its key, and those that name no symbol.

A conflict has a venue time. The others have none that can be read: they belong to the days of the stored rows before
and after them in their topic partition, which is right for a live capture and for one that is published later. Without
a row nearby their Kafka timestamp decides.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import msgspec
import pyarrow as pa
import structlog
from pyiceberg.table import Table

from k2.model.dead_letter import Coordinates
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.offset_bounds import next_offsets, table_of
from k2.storage.dead_letters.files import committed_lines
from k2.storage.dead_letters.folders import dead_letter_folder, replay_journal
from k2.storage.dead_letters.replay_journal import replayed_letters
from k2.storage.table_properties import DEAD_LETTER_POSITIONS

__all__ = ["DayDeadLetters", "SymbolDay", "day_dead_letters"]

SymbolDay = tuple[str, str, date]
"""Exchange, symbol and day (UTC)."""
BLOCK_OFFSETS: Final = 1_024
"""Rows within this many offsets of a dead letter say to which day it belongs."""
_log = structlog.get_logger()


class _DeadLetter(msgspec.Struct, frozen=True):
    """The fields of a dead letter by which it is counted."""

    topic: str
    partition: int
    offset: int
    reason: str
    index: int = 0
    kafka_timestamp: datetime | None = None
    dead_lettered_at: datetime | None = None
    key: str | None = None
    exchange: str | None = None
    symbol: str | None = None
    timestamp: datetime | None = None


@dataclass
class DayDeadLetters:
    """Numbers of dead letters by day; one between the rows of two days counts on both."""

    conflicts: Counter[SymbolDay] = field(default_factory=Counter)
    keyed: Counter[SymbolDay] = field(default_factory=Counter)
    """Of other reasons, whose key is `exchange|symbol` of a symbol that is stored."""
    unnamed: Counter[tuple[TopicPartition, date]] = field(default_factory=Counter)


_DECODER: Final = msgspec.json.Decoder(_DeadLetter)


def day_dead_letters(settings: Settings, engine: Engine, table: Table) -> DayDeadLetters:
    """Return the dead letters that commits of `table` count, without those whose replay the job has read.

    A replay that was rejected again is a dead letter of its own. All rows of `table` are registered in the engine as
    `trades`. Lines that cannot be read are logged.
    """
    replayed = Counter({row["place"]: row["trades"] for row in engine.query(_REPLAYED)})
    read_again = _read_again(settings, table)
    found, others = DayDeadLetters(), list[_DeadLetter]()
    for letter in _committed(settings, table):
        place = f"{letter.topic}:{letter.partition}:{letter.offset}"
        if Coordinates(letter.topic, letter.partition, letter.offset, letter.index) in read_again:
            continue
        if replayed[place] > 0:
            replayed[place] -= 1
        elif letter.exchange is not None and letter.symbol is not None and letter.timestamp is not None:
            by_reason = found.conflicts if letter.reason == Reason.CONFLICT else found.keyed
            by_reason[letter.exchange, letter.symbol, letter.timestamp.date()] += 1
        else:
            others.append(letter)
    by_key = _symbols_by_key(engine, others)
    for letter, days in zip(others, _days(engine, others), strict=True):
        named = by_key.get(letter.key or "")
        for day in days:
            if named is not None:
                found.keyed[(*named, day)] += 1
            else:
                found.unnamed[TopicPartition(letter.topic, letter.partition), day] += 1
    return found


def _symbols_by_key(engine: Engine, letters: Sequence[_DeadLetter]) -> dict[str, tuple[str, str]]:
    """Return the symbols that are stored on any day, by the key of their messages; none if no letter has a key."""
    if not any(letter.key for letter in letters):
        return {}
    rows = engine.query("SELECT DISTINCT exchange, symbol FROM trades")
    return {f"{row['exchange']}|{row['symbol']}": (row["exchange"], row["symbol"]) for row in rows}


def _read_again(settings: Settings, table: Table) -> set[Coordinates]:
    """Return the letters that the journal has as replayed, and whose messages the job has read."""
    entries = replay_journal(settings).entries(lambda text: _log.warning("replay_journal_unreadable", file=text))
    ends = next_offsets(table, settings)
    return {
        letter
        for letter, offset in replayed_letters(entries).items()
        if offset < ends.get(TopicPartition(letter.topic, letter.partition), 0)
    }


def _committed(settings: Settings, table: Table) -> Iterator[_DeadLetter]:
    positions = DEAD_LETTER_POSITIONS.read_all(table.metadata.properties)
    for line in committed_lines(dead_letter_folder(settings), positions):
        try:
            yield _DECODER.decode(line.text)
        except ValueError as error:
            _log.warning("dead_letter_unreadable", line=f"{line}: {error}")


def _days(engine: Engine, letters: Sequence[_DeadLetter]) -> Iterator[set[date]]:
    """Yield the days to which each dead letter may belong."""
    if not letters:
        return
    rows = [(idx, letter.topic, letter.partition, letter.offset) for idx, letter in enumerate(letters)]
    engine.register_arrow("letters", table_of(_LETTERS, rows))
    for letter, row in zip(letters, engine.query(_NEIGHBOURS), strict=True):
        time = letter.kafka_timestamp or letter.dead_lettered_at
        near = {day for day in (row["day_before"], row["day_after"]) if day is not None}
        yield near or ({time.date()} if time is not None else set())


_LETTER_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("letter_idx", pa.int64()),
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
]
_LETTERS: Final = pa.schema(_LETTER_FIELDS)
_REPLAYED: Final = """
    SELECT origin[8:] AS place, count(*) AS trades FROM trades WHERE starts_with(origin, 'replay ') GROUP BY ALL
"""
# Only rows of the blocks around a dead letter are compared: all others need not be sorted.
_NEIGHBOURS: Final = f"""
    WITH blocks AS (
        SELECT DISTINCT topic, partition, "offset" // {BLOCK_OFFSETS} + unnest([-1, 0, 1]) AS block FROM letters
    ), near AS (
        SELECT topic, partition, "offset", max("timestamp")::DATE AS day
        FROM (SELECT *, "offset" // {BLOCK_OFFSETS} AS block FROM trades)
        SEMI JOIN blocks USING (topic, partition, block)
        GROUP BY topic, partition, "offset"
    )
    SELECT letter_idx,
           CASE WHEN letters."offset" - before."offset" <= {BLOCK_OFFSETS} THEN before.day END AS day_before,
           CASE WHEN following."offset" - letters."offset" <= {BLOCK_OFFSETS} THEN following.day END AS day_after
    FROM letters
        ASOF LEFT JOIN near AS before
            ON before.topic = letters.topic AND before.partition = letters.partition
            AND before."offset" <= letters."offset"
        ASOF LEFT JOIN near AS following
            ON following.topic = letters.topic AND following.partition = letters.partition
            AND following."offset" >= letters."offset"
    ORDER BY letter_idx
"""
