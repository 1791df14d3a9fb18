"""Completeness by feed: what each of several feeds brought and lost of a day, and how late it was.

A feed brought a trade that is stored, of its own message or as a copy that was dropped, unless the ledger has its
number as passed over by the feed. What it passed over is lost alone if the trade is stored from another feed, and lost
by all if the number is missing from the table, or was filled from elsewhere; a number of a non-market trade or of a
conflict is neither. A number that is missing belongs to the day of the trade after it that the feed brought.

The property `k2.feeds.N` says where a feed's account of the newest two sessions of a symbol begins and ends. Older
sessions count as a whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.table import Table

from k2.model.feeds import FeedKey, FeedRange, lag_seconds
from k2.model.state_source import Ranges, SessionKey
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryError
from k2.query.feed_gaps import missing_of_feeds, register_feed_events
from k2.query.gaps import missing_ranges
from k2.query.parameters import QueryParameters
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.sequencing.feed_states import FeedStates, FeedSum
from k2.sequencing.ranges import intersection
from k2.storage.table_properties import FEEDS

__all__ = ["FeedDay", "by_feed"]

_EPOCH: Final = date(1970, 1, 1)
_COLUMNS: Final = ("exchange", "symbol", "session", "sequence", "timestamp", "topic")


@dataclass(frozen=True, slots=True)
class FeedDay:
    """One feed's part of one symbol on one day (UTC, by venue time), or of all symbols of the exchange."""

    exchange: str
    symbol: str | None
    """None: the sum of all symbols. Only such a row compares times."""
    day: date
    feed: str
    topic: str
    stored: int
    """Trades whose stored row is of this feed's message. It depends on the order of reading, not on who was first."""
    brought: int
    """Trades that it brought, stored or dropped as copies."""
    lost_alone: int
    """Stored trades whose number it passed over; the row is of another feed's message."""
    lost_by_all: int
    """Numbers that it passed over and that are missing from the table, or were filled from elsewhere."""
    compared: int | None
    """Trades that all feeds brought and whose Kafka timestamps were compared; None for a symbol, as what follows."""
    first: int | None
    """Those of them that this feed brought before all others."""
    lag_p50_seconds: float | None
    """Median of how much later than the first feed it brought the compared trades, within 10 percent. None if no trade
    was compared."""
    lag_p90_seconds: float | None
    lag_p99_seconds: float | None


class _Counts(NamedTuple):
    stored: int = 0
    brought: int = 0
    lost_alone: int = 0
    lost_by_all: int = 0

    def plus(self, other: "_Counts") -> "_Counts":
        return _Counts(*(one + more for one, more in zip(self, other, strict=True)))


_Symbol = tuple[str, str, str]
"""Exchange, symbol and topic."""
_Key = tuple[str, str, int, str]
"""Exchange, symbol, day since the epoch, and topic."""


@retry_if_files_gone
def by_feed(
    settings: Settings, parameters: QueryParameters | None = None, *, pool: EnginePool | None = None
) -> list[FeedDay]:
    """Return what each feed brought and lost, by exchange, day and symbol, the sum of an exchange's symbols first.

    The sums are left out if a symbol is selected. Without feeds, or before their first commit, nothing is returned.

    Raises:
        NoTableError: the table `trades` does not exist.
        TableError: it was not created by the job.
        QueryError: `as_of` is set.
    """
    parameters = parameters or QueryParameters()
    if parameters.as_of is not None:
        raise QueryError("as of an earlier time: what feeds have reached is only known now; leave it out")
    table = existing_table(settings, "trades", pool)
    check_columns(table, _COLUMNS)
    states = FEEDS.read_all(table.metadata.properties)
    feeds = {topic: feed for state in states for topic, feed in state.feeds.items()}
    if not feeds:
        return []
    ranges = [one for state in states for one in state.ranges() if _is_selected(one, parameters)]
    ledger = find_job_table(settings, "sequence_events", pool)
    with open_engine(settings, pool) as engine:
        counts = _counts(engine, table, ledger, ranges, parameters)
    sums = {} if parameters.symbol else _sums(states, parameters)
    return sorted(_rows(counts, sums, feeds, with_sums=parameters.symbol is None), key=_order)


def _counts(
    engine: Engine, trades: Table, ledger: Table | None, ranges: list[FeedRange], parameters: QueryParameters
) -> dict[_Key, _Counts]:
    engine.register("trades", trades, row_filter=parameters.row_filter)
    reached = {one.key: ((one.first, one.last),) for one in ranges}
    accounts = _accounts(ranges)
    lost: Mapping[FeedKey, Ranges] = {}
    lost_by_all: Mapping[FeedKey, Ranges] = {}
    if ledger is not None:
        register_feed_events(engine, ledger, parameters.exchange, parameters.symbol)
        of_all = missing_ranges(engine)
        lost = {key: _of_account(key, one, reached, accounts) for key, one in missing_of_feeds(engine).items()}
        lost_by_all = {key: intersection(one, of_all.get(SessionKey(*key[:3]), ())) for key, one in lost.items()}
    engine.register_arrow("reached", _as_arrow(reached))
    engine.register_arrow("accounts", _accounts_as_arrow(accounts))
    engine.register_arrow("lost", _as_arrow(lost))
    engine.register_arrow("lost_by_all", _as_arrow(lost_by_all))
    found: dict[_Key, _Counts] = {}
    for query in [_STORED, _LOST, _LOST_BY_ALL] if ledger is not None else [_STORED]:
        for row in engine.query(query.format(selected=parameters.sql_condition), parameters.sql_parameters):
            key = row["exchange"], row["symbol"], row["day"], row["topic"]
            counts = _Counts(row["stored"], row["brought"], row["lost_alone"], int(row["lost_by_all"]))
            found[key] = found.get(key, _Counts()).plus(counts)
    return found


def _rows(
    counts: Mapping[_Key, _Counts],
    sums: Mapping[tuple[str, int, str], FeedSum],
    feeds: Mapping[str, str],
    *,
    with_sums: bool,
) -> Iterator[FeedDay]:
    of_exchange: dict[tuple[str, int, str], _Counts] = {}
    for (exchange, symbol, day, topic), one in counts.items():
        if topic in feeds:
            yield FeedDay(exchange, symbol, _date(day), feeds[topic], topic, *one, None, None, None, None, None)
            of_exchange[exchange, day, topic] = of_exchange.get((exchange, day, topic), _Counts()).plus(one)
    if not with_sums:
        return
    for exchange, day, topic in {**of_exchange, **sums}:
        if topic in feeds:
            one, times = of_exchange.get((exchange, day, topic), _Counts()), sums.get((exchange, day, topic))
            first, lags = (0, np.zeros(1, dtype=np.int64)) if times is None else times
            quantiles = (_quantile(lags, at) for at in (0.5, 0.9, 0.99))
            yield FeedDay(exchange, None, _date(day), feeds[topic], topic, *one, int(lags.sum()), first, *quantiles)


def _sums(states: Iterable[FeedStates], parameters: QueryParameters) -> dict[tuple[str, int, str], FeedSum]:
    """Return the compared trades of all writers in the selected days, by exchange, day and topic."""
    found: dict[tuple[str, int, str], FeedSum] = {}
    for state in states:
        for key, one in state.sums().items():
            exchange, day, _ = key
            if parameters.exchange in {None, exchange} and _is_in_span(day, parameters.start, parameters.end):
                known = found.get(key)
                found[key] = one if known is None else FeedSum(known.first + one.first, known.lags + one.lags)
    return found


def _is_in_span(day: int, start: datetime | None, end: datetime | None) -> bool:
    """Return whether any part of a day is in the span: lags are not known by hour."""
    return not (start and _date(day) < start.date()) and not (end and _date(day) > (end - timedelta.resolution).date())


def _is_selected(one: FeedRange, parameters: QueryParameters) -> bool:
    return parameters.exchange in {None, one.key.exchange} and parameters.symbol in {None, one.key.symbol}


def _quantile(lags: NDArray[np.int64], at: float) -> float | None:
    sums = np.cumsum(lags)
    if not sums[-1]:
        return None
    return round(lag_seconds(int(np.searchsorted(sums, at * sums[-1]))), 6)


def _as_arrow(ranges: Mapping[FeedKey, Ranges]) -> pa.Table:
    rows = [(*key, first, last) for key, found in ranges.items() for first, last in found]
    return pa.Table.from_pylist([dict(zip(_RANGES.names, row, strict=True)) for row in rows], schema=_RANGES)


def _of_account(
    key: FeedKey, missing: Ranges, reached: Mapping[FeedKey, Ranges], accounts: Mapping[_Symbol, tuple[int, int]]
) -> Ranges:
    """Return the part of what a feed passed over that is in its account: an account may have begun again since."""
    if key in reached:
        return intersection(missing, reached[key])
    since, oldest = accounts.get((key.exchange, key.symbol, key.topic), (0, 0))
    return missing if since <= key.session < oldest else ()


def _accounts(ranges: Iterable[FeedRange]) -> dict[_Symbol, tuple[int, int]]:
    """Return the session in which the account of each symbol's feed began, and the oldest one that is in the state."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for one in ranges:
        exchange, symbol, session, topic = one.key
        _, oldest = found.get((exchange, symbol, topic), (0, session))
        found[exchange, symbol, topic] = one.since, min(oldest, session)
    return found


def _accounts_as_arrow(found: Mapping[_Symbol, tuple[int, int]]) -> pa.Table:
    rows = [dict(zip(_ACCOUNTS.names, (*key, *one), strict=True)) for key, one in found.items()]
    return pa.Table.from_pylist(rows, schema=_ACCOUNTS)


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def _order(row: FeedDay) -> tuple[Any, ...]:
    return row.exchange, row.day, row.symbol is not None, row.symbol or "", row.feed, row.topic


_RANGE_FIELDS: "Final[list[pa.Field[Any]]]" = [
    *(pa.field(name, pa.string()) for name in ("exchange", "symbol")),
    pa.field("session", pa.int32()),
    pa.field("topic", pa.string()),
    *(pa.field(name, pa.int64()) for name in ("first", "last")),
]
_RANGES: Final = pa.schema(_RANGE_FIELDS)
_ACCOUNT_FIELDS: "Final[list[pa.Field[Any]]]" = [
    *(pa.field(name, pa.string()) for name in ("exchange", "symbol", "topic")),
    *(pa.field(name, pa.int32()) for name in ("since", "oldest")),
]
_ACCOUNTS: Final = pa.schema(_ACCOUNT_FIELDS)
# `{selected}` is a condition on the columns that trades and events share.
_STORED: Final = """
    WITH selected AS (
        SELECT exchange, symbol, session, sequence, topic, origin, epoch_us("timestamp") // 86400000000 AS day
        FROM trades WHERE session > 0 AND {selected}
    )
    SELECT selected.exchange, selected.symbol, day, accounts.topic,
           count(*) FILTER (selected.topic = accounts.topic AND origin IS NULL) AS stored, count(*) AS brought,
           0 AS lost_alone, 0 AS lost_by_all
    FROM selected JOIN accounts USING (exchange, symbol)
    LEFT JOIN reached ON reached.exchange = selected.exchange AND reached.symbol = selected.symbol
      AND reached.session = selected.session AND reached.topic = accounts.topic
    WHERE sequence BETWEEN first AND last OR (selected.session >= since AND selected.session < oldest)
    GROUP BY ALL
"""
# Ranges of a feed do not overlap, so a trade is compared with the last one that begins at or below its number.
_LOST: Final = """
    WITH selected AS (
        SELECT exchange, symbol, session, sequence, origin, epoch_us("timestamp") // 86400000000 AS day
        FROM trades WHERE session > 0 AND {selected}
    ), of_feeds AS (
        SELECT selected.*, topic
        FROM selected JOIN (SELECT DISTINCT exchange, symbol, topic FROM lost) USING (exchange, symbol)
    ), counted AS (
        SELECT of_feeds.exchange, of_feeds.symbol, day, of_feeds.topic, count(*) AS trades,
               count(origin) AS fills
        FROM of_feeds ASOF JOIN lost
        ON of_feeds.exchange = lost.exchange AND of_feeds.symbol = lost.symbol AND of_feeds.session = lost.session
          AND of_feeds.topic = lost.topic AND of_feeds.sequence >= lost.first
        WHERE sequence <= last
        GROUP BY ALL
    )
    SELECT exchange, symbol, day, topic, 0 AS stored, -trades AS brought, trades - fills AS lost_alone,
           fills AS lost_by_all
    FROM counted
"""
_LOST_BY_ALL: Final = """
    WITH passed_over AS (
        SELECT DISTINCT exchange, symbol, session, topic, first_sequence, last_sequence, "timestamp"
        FROM sequence_events
        WHERE event = 'feed_gap' AND {selected}
    )
    SELECT exchange, symbol, epoch_us("timestamp") // 86400000000 AS day, topic, 0 AS stored, 0 AS brought,
           0 AS lost_alone,
           sum(least(last, last_sequence)::HUGEINT - greatest(first, first_sequence) + 1) AS lost_by_all
    FROM passed_over JOIN lost_by_all USING (exchange, symbol, session, topic)
    WHERE first <= last_sequence AND first_sequence <= last
    GROUP BY ALL
"""
