"""Conflicts: committed dead letters with reason `conflict`, counted by symbol and venue-time span."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import structlog
from pyiceberg.table import Table

from k2.model.progress import Progress, TopicPartition
from k2.model.reasons import Reason
from k2.ops.settings import Settings
from k2.query.offset_bounds import table_of
from k2.query.parameters import QueryParameters
from k2.storage.dead_letters.files import committed_lines
from k2.storage.dead_letters.folders import dead_letter_folder
from k2.storage.table_properties import DEAD_LETTER_POSITIONS, PROGRESS

__all__ = ["CONFLICTS", "conflicts_by_span"]

log = structlog.get_logger()

_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)
_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("span", pa.int64()),
    pa.field("conflicts", pa.int64()),
]
CONFLICTS: Final = pa.schema(_FIELDS)


class _DeadLetter(msgspec.Struct, frozen=True):
    """The fields of a dead letter by which conflicts are counted."""

    topic: str
    partition: int
    offset: int
    reason: str
    exchange: str | None = None
    symbol: str | None = None
    timestamp: datetime | None = None


class _Key(NamedTuple):
    exchange: str
    symbol: str
    span: int


_DECODER: Final = msgspec.json.Decoder(_DeadLetter)


def conflicts_by_span(
    settings: Settings, table: Table, parameters: QueryParameters, span: timedelta, then: Progress | None = None
) -> pa.Table:
    """Return the number of conflicts by exchange, symbol and span; spans count from the year 1.

    Only dead letters counted by a commit of `table` are read; with `then`, only those of messages below that progress.
    Dead letters without exchange, symbol or timestamp, written by earlier versions, are left out.
    """
    keys = (_key(dead_letter, parameters, span) for dead_letter in _conflicts(settings, table, then))
    found = Counter(key for key in keys if key is not None)
    return table_of(CONFLICTS, [(*key, count) for key, count in sorted(found.items())])


def _conflicts(settings: Settings, table: Table, then: Progress | None) -> Iterator[_DeadLetter]:
    properties, folder = table.metadata.properties, dead_letter_folder(settings)
    for writer in PROGRESS.read(properties).writers:
        for line in committed_lines(folder, [DEAD_LETTER_POSITIONS.read(properties, writer)]):
            # Most dead letters have other reasons; parsing them all would take several times as long.
            if b"conflict" not in line.text:
                continue
            try:
                dead_letter = _DECODER.decode(line.text)
            except ValueError as error:
                log.warning("dead_letter_unreadable", line=f"{line}: {error}")
                continue
            if dead_letter.reason == Reason.CONFLICT and (then is None or _is_below(dead_letter, writer, then)):
                yield dead_letter


def _is_below(dead_letter: _DeadLetter, writer: str, then: Progress) -> bool:
    entry = then.of(writer).get(TopicPartition(dead_letter.topic, dead_letter.partition))
    return entry is not None and dead_letter.offset < entry.offset


def _key(dead_letter: _DeadLetter, parameters: QueryParameters, span: timedelta) -> _Key | None:
    """Return the key that a dead letter counts for; None if a field is missing or the parameters exclude it."""
    exchange, symbol, timestamp = dead_letter.exchange, dead_letter.symbol, dead_letter.timestamp
    if exchange is None or symbol is None or timestamp is None:
        return None
    time = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp
    is_named = parameters.exchange in {None, exchange} and parameters.symbol in {None, symbol}
    is_within = (parameters.start is None or time >= parameters.start) and (
        parameters.end is None or time < parameters.end
    )
    return _Key(exchange, symbol, (time - _YEAR_1) // span) if is_named and is_within else None
