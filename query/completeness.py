"""Completeness: of each symbol and day, how many trades there should be, how many are there, how many are missing.

A venue that numbers its trades says by that which there were: every number from a session's lowest stored to its
highest. All of it is counted from the rows of the table alone, so the ledger can be held against it.

Rows fall on a day by their venue time. A missing number has none, so it gets one: the numbers missing between two that
are stored are taken as spread evenly over the time between those two (the k-th of m at k/(m+1) of the way, in whole
microseconds). So each missing number falls on one day, an outage over midnight falls on both days, one of a week on all
of its days, and stored + missing = expected holds in each row and in all.

Numbers that a venue gave to what is no market trade are neither expected nor missing; the table keeps them beside its
progress. Numbers before the first stored one of a session, and after the last, are not known of. Rows without a number,
or of a venue whose numbers have holes by nature (session 0), are stored and expected alike.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

import pyarrow as pa
from pydantic import Field

from query.asked import LIMIT_MAX, Name
from query.asked import Asked as TradesAsked
from query.audit import moment_of
from query.engine import Engine
from query.filters import equal
from query.floors import BELOW_FLOORS, show_floors, table_of
from query.pool import Engines, begun_anew, open_engine
from query.tables import check_columns, existing_table
from runtime.settings import Settings
from trades.history import SeenSession
from trades.off_book import joined, off_book_in

__all__ = ["Asked", "Day", "Hour", "by_day", "by_hour", "is_stored"]

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)
_COLUMNS: Final = ("exchange", "symbol", "session", "sequence", "timestamp", "topic", "partition", "offset")


class Asked(TradesAsked):
    """Which trades, and of which symbols. `as_of` counts the job's commits; rows of other writers are left out."""

    containing: Name | None = None
    """Part of an exchange's and symbol's names, with a space between them; small letters and capitals are alike."""
    worst: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    """So many symbols at the most: those that lack the most numbers, then those with the most trades."""


@dataclass(frozen=True, slots=True)
class Day:
    """One symbol on one day (UTC)."""

    exchange: str
    symbol: str
    day: date
    expected: int
    """stored + missing."""
    stored: int
    missing: int
    percent: float
    """Of what is expected; cut off, so that 100 is said of nothing less."""
    sessions: int
    """How many numberings the day has a number of."""


@dataclass(frozen=True, slots=True)
class Hour:
    """One symbol in one hour (UTC)."""

    exchange: str
    symbol: str
    hour: datetime
    """Its begin."""
    expected: int
    stored: int
    missing: int


@begun_anew
def by_day(settings: Settings, asked: Asked | None = None, *, pool: Engines | None = None) -> list[Day]:
    """Give completeness by exchange, symbol and day; a day on which nothing was to be expected has no row.

    Raises:
        NoTableError: there is no table `trades` where the settings say.
        NoSnapshotError: it never had the snapshot that `as_of` names.
        TableError: it is not the job's.
    """
    return [
        Day(
            row["exchange"],
            row["symbol"],
            (_YEAR_1 + timedelta(days=row["span"])).date(),
            row["stored"] + row["missing"],
            row["stored"],
            row["missing"],
            _percent(row["stored"], row["stored"] + row["missing"]),
            row["sessions"],
        )
        for row in _spans(settings, asked or Asked(), DAY_US, pool)
    ]


@begun_anew
def by_hour(settings: Settings, asked: Asked, *, pool: Engines | None = None) -> list[Hour]:
    """Give the same by exchange, symbol and hour.

    Raises:
        NoTableError: there is no table `trades` where the settings say.
        NoSnapshotError: it never had the snapshot that `as_of` names.
        TableError: it is not the job's.
    """
    return [
        Hour(
            row["exchange"],
            row["symbol"],
            _YEAR_1 + timedelta(hours=row["span"]),
            row["stored"] + row["missing"],
            row["stored"],
            row["missing"],
        )
        for row in _spans(settings, asked, HOUR_US, pool)
    ]


@begun_anew
def is_stored(settings: Settings, exchange: str | None = None, symbol: str | None = None) -> bool:
    """Tell whether there is any trade of an exchange or symbol in the table."""
    with _trades(settings, Asked(exchange=exchange, symbol=symbol)) as (engine, _):
        return bool(engine.query(_ANY, {"exchange": exchange, "symbol": symbol, "containing": None}))


def _percent(stored: int, expected: int) -> float:
    return 1_000_000 * stored // expected / 10_000


def _spans(settings: Settings, asked: Asked, span_us: int, pool: Engines | None) -> Iterator[dict[str, Any]]:
    with _trades(settings, asked, pool) as (engine, seen):
        yield from _counted(engine, seen, asked, span_us)


def _counted(engine: Engine, seen: str, asked: Asked, span_us: int) -> Iterator[dict[str, Any]]:
    parameters = {
        "exchange": asked.exchange,
        "symbol": asked.symbol,
        "start": _since_year_1(asked.start),
        "end": _since_year_1(asked.end),
        "span": span_us,
        "containing": asked.containing,
        "worst": asked.worst,
    }
    for row in engine.query(f"WITH seen AS ({seen}) {_SPANS}", parameters):
        # 64 bits may not hold what is missing, so DuckDB gives decimals.
        yield {**row, "missing": int(row["missing"]), "stored": int(row["stored"])}


def _since_year_1(time: datetime | None) -> int | None:
    return None if time is None else (time - _YEAR_1) // timedelta(microseconds=1)


@contextmanager
def _trades(settings: Settings, asked: Asked, pool: Engines | None = None) -> Iterator[tuple[Engine, str]]:
    """Give an engine, and the query by which it tells of the trades asked for."""
    table = existing_table(settings, "trades", pool)
    check_columns(table, _COLUMNS)
    then = None if asked.as_of is None else moment_of(settings, table, asked.as_of, pool=pool)
    with open_engine(settings, pool) as engine:
        engine.show("trades", table, where=equal(exchange=asked.exchange, symbol=asked.symbol))
        _show_off_book(engine, off_book_in(table.metadata.properties))
        if then is not None:
            show_floors(engine, table, then.progress)
        yield engine, _SEEN if then is None else _SEEN_THEN


def _show_off_book(engine: Engine, seen: Iterable[SeenSession]) -> None:
    """Show the ranges of numbers that no market trade bears."""
    rows = [(*one.key, first, last) for one in joined(seen) for first, last in one.ranges]
    engine.show_arrow("off_book", table_of(_OFF_BOOK, rows))


_OFF_BOOK_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
    pa.field("first", pa.int64()),
    pa.field("last", pa.int64()),
]
_OFF_BOOK: Final = pa.schema(_OFF_BOOK_FIELDS)

# Times count from the year 1, so that division of none of them goes towards the epoch.
_NAMED: Final = """
    exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)
    AND contains(lower(exchange || ' ' || symbol), lower(coalesce($containing, '')))
"""
_SEEN: Final = f"""
    SELECT exchange, symbol, session, sequence, epoch_us("timestamp") + 62135596800000000 AS seen_at FROM trades
    WHERE {_NAMED}
"""
_ANY: Final = f"{_SEEN} LIMIT 1"
_SEEN_THEN: Final = f"""
    SELECT exchange, symbol, session, sequence, epoch_us("timestamp") + 62135596800000000 AS seen_at
    FROM trades {BELOW_FLOORS} AND {_NAMED}
"""


def _before(edge: str) -> str:
    """Word how many of a hole's numbers lie before a time: those k with low + (high - low) * k / (m + 1) < edge."""
    return f"""
        CASE WHEN {edge} <= low THEN 0
             WHEN {edge} > high THEN missing
             ELSE (({edge} - low)::HUGEINT * (missing + 1) + (high - low) - 1) // (high - low) - 1 END
    """


# A number that is there twice is one.
_SPANS: Final = f"""
    , numbered AS (
        SELECT *, sequence::HUGEINT - lag(sequence) OVER numbers AS step, lag(seen_at) OVER numbers AS seen_before
        FROM seen WHERE session > 0
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY sequence, seen_at)
    ), rows_there AS (
        SELECT exchange, symbol, session, seen_at FROM numbered WHERE step IS DISTINCT FROM 0
        UNION ALL
        SELECT exchange, symbol, 0, seen_at FROM seen WHERE coalesce(session, 0) <= 0
    ), stored AS (
        SELECT exchange, symbol, session, seen_at // $span AS span, count(*) AS stored, 0::HUGEINT AS missing
        FROM rows_there WHERE seen_at >= coalesce($start, seen_at) AND seen_at < coalesce($end, seen_at + 1)
        GROUP BY ALL
    ), between AS (
        SELECT exchange, symbol, session, sequence::HUGEINT - step + 1 AS first, sequence::HUGEINT - 1 AS last,
               least(seen_at, seen_before) AS low, greatest(seen_at, seen_before) AS high
        FROM numbered WHERE step > 1
    ), holes AS (
        SELECT exchange, symbol, session, low, high, last - first + 1 - coalesce((
                   SELECT sum(least(off_book.last, between.last) - greatest(off_book.first, between.first) + 1)
                   FROM off_book
                   WHERE off_book.exchange = between.exchange AND off_book.symbol = between.symbol
                     AND off_book.session = between.session
                     AND off_book.first <= between.last AND off_book.last >= between.first
               ), 0) AS missing
        FROM between
    ), parts AS (
        SELECT exchange, symbol, session, missing, low, high,
               unnest(range(greatest(low, coalesce($start, low)) // $span,
                            least(high, coalesce($end - 1, high)) // $span + 1)) AS span
        FROM holes WHERE missing > 0
    ), bounds AS (
        SELECT *, greatest(span * $span, coalesce($start, 0)) AS first,
               least((span + 1) * $span, coalesce($end, (span + 1) * $span)) AS until
        FROM parts
    ), missing AS (
        SELECT exchange, symbol, session, span, 0 AS stored,
               ({_before("until")}) - ({_before("first")}) AS missing
        FROM bounds
    ), both_kinds AS (
        SELECT exchange, symbol, session, span, sum(stored) AS stored, sum(missing) AS missing
        FROM (SELECT * FROM stored UNION ALL SELECT * FROM missing WHERE missing > 0) GROUP BY ALL
    ), chosen AS (
        SELECT exchange, symbol FROM both_kinds GROUP BY exchange, symbol
        ORDER BY sum(missing) DESC, sum(stored) DESC, exchange, symbol
        LIMIT coalesce($worst, 9223372036854775807)
    )
    SELECT exchange, symbol, span, sum(stored) AS stored, sum(missing) AS missing,
           count(*) FILTER (session > 0) AS sessions
    FROM both_kinds SEMI JOIN chosen USING (exchange, symbol)
    GROUP BY exchange, symbol, span ORDER BY exchange, symbol, span
"""
