"""Conflicts: committed dead letters with reason `conflict`, counted by symbol and span of venue time."""

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
from k2.storage.dead_letter_files import committed_lines

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


class _Letter(msgspec.Struct, frozen=True):
    """The fields of a dead letter that are counted by."""

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


_DECODER: Final = msgspec.json.Decoder(_Letter)


def conflicts_by_span(
    settings: Settings, table: Table, asked: QueryParameters, span: timedelta, then: Progress | None = None
) -> pa.Table:
    """Return the number of conflicts by exchange, symbol and span; spans count from the year 1.

    Only letters that a commit of `table` has counted are read, and with `then` only those of messages below that
    progress. Letters without exchange, symbol or timestamp, as earlier versions wrote them, are left out.
    """
    keys = (_key(letter, asked, span) for letter in _conflicts(settings, table, then))
    found = Counter(key for key in keys if key is not None)
    return table_of(CONFLICTS, [(*key, count) for key, count in sorted(found.items())])


def _conflicts(settings: Settings, table: Table, then: Progress | None) -> Iterator[_Letter]:
    properties = table.metadata.properties
    for writer in Progress.in_properties(properties).writers:
        for line in committed_lines(settings.dead_letter_folder, properties, [writer]):
            # Most letters have other reasons; parsing them all would take several times as long.
            if b"conflict" not in line.text:
                continue
            try:
                letter = _DECODER.decode(line.text)
            except ValueError as error:
                log.warning("dead letter cannot be read", line=f"{line}: {error}")
                continue
            if letter.reason == Reason.CONFLICT and (then is None or _is_below(letter, writer, then)):
                yield letter


def _is_below(letter: _Letter, writer: str, then: Progress) -> bool:
    entry = then.of(writer).get(TopicPartition(letter.topic, letter.partition))
    return entry is not None and letter.offset < entry.offset


def _key(letter: _Letter, asked: QueryParameters, span: timedelta) -> _Key | None:
    """Return where a letter counts; None if it does not say, or is not asked for."""
    exchange, symbol, timestamp = letter.exchange, letter.symbol, letter.timestamp
    if exchange is None or symbol is None or timestamp is None:
        return None
    time = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp
    is_named = asked.exchange in {None, exchange} and asked.symbol in {None, symbol}
    is_within = (asked.start is None or time >= asked.start) and (asked.end is None or time < asked.end)
    return _Key(exchange, symbol, (time - _YEAR_1) // span) if is_named and is_within else None
