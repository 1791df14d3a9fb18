"""Dead letters of a symbol's day: those that conflict, those with its key, and those that name no symbol."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import msgspec
import structlog
from pyiceberg.table import Table

from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.storage.dead_letters.files import committed_lines
from k2.storage.dead_letters.folders import dead_letter_folder
from k2.storage.table_properties import DEAD_LETTER_POSITIONS

__all__ = ["DayDeadLetters", "SymbolDay", "day_dead_letters"]

SymbolDay = tuple[str, str, date]
"""Exchange, symbol and day (UTC)."""
_log = structlog.get_logger()


class _DeadLetter(msgspec.Struct, frozen=True):
    """The fields of a dead letter by which it is counted."""

    topic: str
    partition: int
    offset: int
    reason: str
    kafka_timestamp: datetime | None = None
    dead_lettered_at: datetime | None = None
    key: str | None = None
    exchange: str | None = None
    symbol: str | None = None
    timestamp: datetime | None = None


@dataclass
class DayDeadLetters:
    """Numbers of dead letters by day: of the venue time if they have one, otherwise of the Kafka timestamp."""

    conflicts: Counter[SymbolDay] = field(default_factory=Counter)
    keyed: Counter[SymbolDay] = field(default_factory=Counter)
    """Of other reasons, whose key is `exchange|symbol` of a symbol that is stored."""
    unnamed: Counter[tuple[TopicPartition, date]] = field(default_factory=Counter)


_DECODER: Final = msgspec.json.Decoder(_DeadLetter)


def day_dead_letters(
    settings: Settings, table: Table, symbols: Collection[tuple[str, str]], replayed: Mapping[str, int]
) -> DayDeadLetters:
    """Return the dead letters that commits of `table` count, without those that were replayed.

    `replayed` is the number of stored rows by the coordinates (`topic:partition:offset`) of the dead letter that they
    are the replay of. Lines that cannot be read are logged.
    """
    by_key = {f"{exchange}|{symbol}": (exchange, symbol) for exchange, symbol in symbols}
    found, left = DayDeadLetters(), Counter(replayed)
    for line in committed_lines(
        dead_letter_folder(settings), DEAD_LETTER_POSITIONS.read_all(table.metadata.properties)
    ):
        try:
            letter = _DECODER.decode(line.text)
        except ValueError as error:
            _log.warning("dead_letter_unreadable", line=f"{line}: {error}")
            continue
        place = f"{letter.topic}:{letter.partition}:{letter.offset}"
        if left[place] > 0:
            left[place] -= 1
            continue
        _count(found, letter, by_key)
    return found


def _count(found: DayDeadLetters, letter: _DeadLetter, by_key: Mapping[str, tuple[str, str]]) -> None:
    time = letter.timestamp or letter.kafka_timestamp or letter.dead_lettered_at
    if time is None:
        return
    named = by_key.get(letter.key or "")
    if letter.reason == Reason.CONFLICT and letter.exchange is not None and letter.symbol is not None:
        found.conflicts[letter.exchange, letter.symbol, time.date()] += 1
    elif named is not None:
        found.keyed[(*named, time.date())] += 1
    else:
        found.unnamed[TopicPartition(letter.topic, letter.partition), time.date()] += 1
