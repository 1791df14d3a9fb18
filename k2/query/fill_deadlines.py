"""Until when gaps can be filled: by what the tables of the venues say about how long a trade can be had."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.state_source import SessionKey
from k2.ops.settings import Settings
from k2.query.gaps import Gap
from k2.query.offset_bounds import table_of
from k2.query.pool import EnginePool, open_engine
from k2.query.where_clauses import equal
from k2.storage.row_filters import any_of
from k2.venues import VENUES
from k2.venues.table_fill import Fill

__all__ = ["Newest", "deadline", "earliest_deadlines", "with_deadlines"]


class Newest(NamedTuple):
    """The newest number of a session, and the venue time of its trade."""

    number: int
    at: datetime


def deadline(gap: Gap, fill: Fill, newest: Newest | None) -> tuple[datetime | None, int | None]:
    """Return until when the venue has the trades of an open gap, and how many newer numbers there may be until then.

    By days, the time counts from the trade that showed the gap: the oldest numbers of the gap may be gone earlier. By
    newest trades, the count is of the first number of the gap, 0 if it is gone, and the time is an estimate by the rate
    of the numbers since the gap; None without any.
    """
    if gap.timestamp is None:
        return None, None
    until = None if fill.days is None else gap.timestamp + timedelta(days=fill.days)
    if fill.trades is None or newest is None:
        return until, None
    left = max(0, gap.first_sequence + fill.trades - 1 - newest.number)
    seconds, numbers = (newest.at - gap.timestamp).total_seconds(), newest.number - gap.last_sequence
    estimate = newest.at + timedelta(seconds=seconds * left / numbers) if seconds > 0 and numbers > 0 else None
    known = [one for one in (until, estimate) if one is not None]
    return min(known, default=None), left


def with_deadlines(
    settings: Settings,
    found: Sequence[Gap],
    topics: Sequence[str | None],
    trades: Table | None,
    pool: EnginePool | None = None,
) -> list[Gap]:
    """Return gaps with their deadlines; `topics` has the topic of each.

    The venue is that of the topic in `K2_TOPICS`, or else a built-in one of the exchange.
    """
    venues = dict(settings.topics)
    fill_of = cache(VENUES.fill_of)
    fills = [
        fill_of(gap.exchange, None if topic is None else venues.get(topic)) if gap.is_open else None
        for gap, topic in zip(found, topics, strict=True)
    ]
    sessions = {_key(gap) for gap, fill in zip(found, fills, strict=True) if fill is not None and fill.trades}
    newest = {} if trades is None or not sessions else _newest(settings, trades, sessions, pool)
    rows: list[Gap] = []
    for gap, fill in zip(found, fills, strict=True):
        until, left = (None, None) if fill is None else deadline(gap, fill, newest.get(_key(gap)))
        rows.append(replace(gap, fillable_until=until, fillable_numbers=left))
    return rows


def earliest_deadlines(found: Sequence[Gap], now: datetime | None = None) -> Mapping[str, datetime]:
    """Return the earliest deadline of each exchange that has not passed, in the order of the exchanges."""
    now = now or datetime.now(UTC)
    earliest: dict[str, datetime] = {}
    for gap in found:
        until = gap.fillable_until
        if until is not None and until > now and (gap.exchange not in earliest or until < earliest[gap.exchange]):
            earliest[gap.exchange] = until
    return dict(sorted(earliest.items()))


def _newest(
    settings: Settings, trades: Table, sessions: set[SessionKey], pool: EnginePool | None
) -> Mapping[SessionKey, Newest]:
    exchanges = sorted({key.exchange for key in sessions})
    with open_engine(settings, pool) as engine:
        engine.register("trades", trades, row_filter=any_of(equal(exchange=exchange) for exchange in exchanges))
        engine.register_arrow("wanted", table_of(_SESSIONS, sorted(sessions)))
        rows = engine.query(_NEWEST)
    return {
        SessionKey(row["exchange"], row["symbol"], row["session"]): Newest(row["number"], row["at"]) for row in rows
    }


def _key(gap: Gap) -> SessionKey:
    return SessionKey(gap.exchange, gap.symbol, gap.session)


_SESSION_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
]
_SESSIONS: Final = pa.schema(_SESSION_FIELDS)
_NEWEST: Final = """
    SELECT exchange, symbol, session, max(sequence) AS number, arg_max("timestamp", sequence) AS at
    FROM wanted JOIN trades USING (exchange, symbol, session) WHERE sequence IS NOT NULL
    GROUP BY exchange, symbol, session
"""
