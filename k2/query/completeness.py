"""Completeness: expected, stored and missing trades of each symbol and day.

A day also says whether its numbering can be trusted: `conflicts` counts its dead letters with reason `conflict`, by
venue time, and `sessions` counts its events `session_started` in the ledger. A conflict, or a second session on one
day, puts the numbering in doubt: trades may be dead letters, or stored twice, although no number is missing.

The sequence numbers of a venue determine the expected trades: every number from a session's lowest stored number to its
highest. All counts come from the rows of the table alone, so that the ledger can be checked against them.

Rows belong to a day by their venue time. A missing number has no time, so one is interpolated: the numbers missing
between two stored ones are spread evenly over the time between those two (the k-th of m at k/(m+1) of the way, in whole
microseconds). So each missing number belongs to one day, an outage over midnight counts on both days, an outage of a
week on all of its days, and stored + missing = expected holds in each row and in total.

Numbers that a venue gave to non-market trades are neither expected nor missing; the table stores them next to its
progress. Numbers before a session's first stored one, and after its last, are unknown. Rows without a number, or of a
venue whose numbers are not contiguous (session 0), count as stored and expected.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

import pyarrow as pa
from pydantic import Field
from pyiceberg.table import Table

from k2.model.state_source import StoredSession
from k2.ops.settings import Settings
from k2.query.audit import progress_as_of
from k2.query.conflicts import CONFLICTS, conflicts_by_span
from k2.query.engine import Engine
from k2.query.offset_bounds import BELOW_OFFSET_BOUNDS, register_offset_bounds, table_of
from k2.query.parameters import LIMIT_MAX, Name, QueryParameters
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.query.where_clauses import equal
from k2.sequencing.non_market import joined
from k2.storage.table_properties import NON_MARKET_NUMBERS

__all__ = ["CompletenessParameters", "Day", "Hour", "by_day", "by_hour", "is_stored"]

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)
_COLUMNS: Final = ("exchange", "symbol", "session", "sequence", "timestamp", "topic", "partition", "offset")


class CompletenessParameters(QueryParameters):
    """Selects trades and symbols. `as_of` counts the job's commits only; rows of other writers are left out."""

    containing: Name | None = None
    """Substring of "EXCHANGE SYMBOL", case-insensitive."""
    worst: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    """Maximum number of symbols: those with the most missing numbers, then those with the most trades."""
    in_doubt: bool = False
    """Only symbols whose numbering is in doubt, each with all of its days or hours."""


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
    percent: float | None
    """Stored in percent of expected, truncated, so that 100 means complete. None if nothing is expected."""
    conflicts: int
    """Dead letters with reason `conflict` whose venue time is on this day."""
    sessions: int
    """Sessions of the ledger that started on this day, the symbol's first included."""
    numbering_in_doubt: bool
    """A conflict, or more than one session started on this day."""
    symbol_in_doubt: bool
    """A day of the symbol is in doubt, or more sessions started in the selected days than days have trades.
    A single session is never in doubt."""


@dataclass(frozen=True, slots=True)
class Hour:
    """One symbol in one hour (UTC)."""

    exchange: str
    symbol: str
    hour: datetime
    """Start of the hour."""
    expected: int
    stored: int
    missing: int


@retry_if_files_gone
def by_day(
    settings: Settings, parameters: CompletenessParameters | None = None, *, pool: EnginePool | None = None
) -> list[Day]:
    """Return completeness by exchange, symbol and day; a day without numbers, conflicts and sessions has no row.

    Raises:
        NoTableError: the table `trades` does not exist.
        NoSnapshotError: the table never had the snapshot `as_of`.
        TableError: it was not created by the job.
    """
    return [_day(row) for row in _spans(settings, parameters or CompletenessParameters(), DAY_US, pool)]


def _day(row: dict[str, Any]) -> Day:
    stored, missing = row["stored"], row["missing"]
    return Day(
        row["exchange"],
        row["symbol"],
        (_YEAR_1 + timedelta(days=row["span"])).date(),
        stored + missing,
        stored,
        missing,
        _percent(stored, stored + missing),
        row["conflicts"],
        row["sessions"],
        numbering_in_doubt=row["conflicts"] > 0 or row["sessions"] > 1,
        symbol_in_doubt=row["symbol_in_doubt"],
    )


@retry_if_files_gone
def by_hour(settings: Settings, parameters: CompletenessParameters, *, pool: EnginePool | None = None) -> list[Hour]:
    """Return completeness by exchange, symbol and hour.

    Raises:
        NoTableError: the table `trades` does not exist.
        NoSnapshotError: the table never had the snapshot `as_of`.
        TableError: it was not created by the job.
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
        for row in _spans(settings, parameters, HOUR_US, pool)
        if row["stored"] or row["missing"]
    ]


@retry_if_files_gone
def is_stored(settings: Settings, exchange: str | None = None, symbol: str | None = None) -> bool:
    """Return whether the table has any trade of an exchange or symbol."""
    table = existing_table(settings, "trades")
    check_columns(table, _COLUMNS)
    with open_engine(settings) as engine:
        engine.register("trades", table, row_filter=equal(exchange=exchange, symbol=symbol))
        return bool(engine.query(_ANY, {"exchange": exchange, "symbol": symbol, "containing": None}))


def _percent(stored: int, expected: int) -> float | None:
    return 1_000_000 * stored // expected / 10_000 if expected else None


class _Sources(NamedTuple):
    """SQL of the selected trades, and of the sessions started."""

    seen: str
    started: str


def _spans(
    settings: Settings, parameters: CompletenessParameters, span_us: int, pool: EnginePool | None
) -> Iterator[dict[str, Any]]:
    with _open(settings, parameters, span_us, pool) as (engine, sources):
        yield from _counted(engine, sources, parameters, span_us)


def _counted(
    engine: Engine, sources: _Sources, parameters: CompletenessParameters, span_us: int
) -> Iterator[dict[str, Any]]:
    sql_parameters = {
        "exchange": parameters.exchange,
        "symbol": parameters.symbol,
        "start": _since_year_1(parameters.start),
        "end": _since_year_1(parameters.end),
        "span": span_us,
        "containing": parameters.containing,
        "worst": parameters.worst,
        "in_doubt": parameters.in_doubt,
    }
    seen = f"{sources.seen} {_OF_CANDIDATES}" if parameters.in_doubt else sources.seen
    for row in engine.query(
        f"WITH started AS ({sources.started}), {_MARKS}, seen AS ({seen}) {_SPANS}", sql_parameters
    ):
        # The number of missing trades may exceed 64 bits, so DuckDB returns decimals.
        yield {**row, **{name: int(row[name]) for name in ("missing", "stored", "conflicts", "sessions")}}


def _since_year_1(time: datetime | None) -> int | None:
    return None if time is None else (time - _YEAR_1) // timedelta(microseconds=1)


@contextmanager
def _open(
    settings: Settings, parameters: CompletenessParameters, span_us: int, pool: EnginePool | None
) -> Iterator[tuple[Engine, _Sources]]:
    """Yield an engine with the selected tables registered, and the SQL of their sources."""
    table = existing_table(settings, "trades", pool)
    check_columns(table, _COLUMNS)
    then = None if parameters.as_of is None else progress_as_of(settings, table, parameters.as_of, pool=pool).progress
    is_marked = span_us == DAY_US or parameters.in_doubt
    ledger = find_job_table(settings, "sequence_events", pool) if is_marked else None
    found = CONFLICTS.empty_table()
    if is_marked:
        found = conflicts_by_span(settings, table, parameters, timedelta(microseconds=span_us), then)
    with open_engine(settings, pool) as engine:
        engine.register("trades", table, row_filter=equal(exchange=parameters.exchange, symbol=parameters.symbol))
        non_market = NON_MARKET_NUMBERS.read_all(table.metadata.properties)
        _register_non_market(engine, [session for numbers in non_market for session in numbers.sessions()])
        _register_marks(engine, ledger, found, parameters)
        if then is not None:
            register_offset_bounds(engine, table, then)
        yield engine, _SOURCES if then is None else _SOURCES_THEN


def _register_marks(engine: Engine, ledger: Table | None, found: pa.Table, parameters: CompletenessParameters) -> None:
    """Register the conflicts and the ledger; a ledger that does not exist has no events."""
    engine.register_arrow("conflicts", found)
    if ledger is None:
        engine.register_arrow("sequence_events", _EVENTS.empty_table())
        return
    check_columns(ledger, _EVENTS.names)
    engine.register("sequence_events", ledger, row_filter=equal(exchange=parameters.exchange, symbol=parameters.symbol))


def _register_non_market(engine: Engine, stored: Iterable[StoredSession]) -> None:
    """Register the ranges of numbers of non-market trades."""
    rows = [(*one.key, first, last) for one in joined(stored) for first, last in one.ranges]
    engine.register_arrow("non_market", table_of(_NON_MARKET, rows))


_NON_MARKET_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
    pa.field("first", pa.int64()),
    pa.field("last", pa.int64()),
]
_NON_MARKET: Final = pa.schema(_NON_MARKET_FIELDS)

_EVENT_FIELDS: "Final[list[pa.Field[Any]]]" = [
    pa.field("exchange", pa.string()),
    pa.field("symbol", pa.string()),
    pa.field("session", pa.int32()),
    pa.field("event", pa.string()),
    pa.field("timestamp", pa.timestamp("us", tz="UTC")),
    pa.field("topic", pa.string()),
    pa.field("partition", pa.int32()),
    pa.field("offset", pa.int64()),
]
_EVENTS: Final = pa.schema(_EVENT_FIELDS)

# Times count from the year 1, so that no time is negative and integer division always rounds down.
_NAMED: Final = """
    exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol)
    AND contains(lower(exchange || ' ' || symbol), lower(coalesce($containing, '')))
"""
_SINCE_YEAR_1: Final = 'epoch_us("timestamp") + 62135596800000000'
_SEEN: Final = f"SELECT exchange, symbol, session, sequence, {_SINCE_YEAR_1} AS seen_at FROM trades"
_STARTED: Final = f"SELECT exchange, symbol, session, min({_SINCE_YEAR_1}) AS seen_at FROM sequence_events"
# A duplicate event in the ledger is one session.
_EACH_SESSION: Final = f"event = 'session_started' AND {_NAMED} GROUP BY exchange, symbol, session"
_SOURCES: Final = _Sources(f"{_SEEN} WHERE {_NAMED}", f"{_STARTED} WHERE {_EACH_SESSION}")
_SOURCES_THEN: Final = _Sources(
    f"{_SEEN} {BELOW_OFFSET_BOUNDS} AND {_NAMED}", f"{_STARTED} {BELOW_OFFSET_BOUNDS} AND {_EACH_SESSION}"
)
_ANY: Final = f"{_SOURCES.seen} LIMIT 1"
_MARKS: Final = f"""
    marks AS (
        SELECT exchange, symbol, span, conflicts, 0 AS sessions FROM conflicts WHERE {_NAMED}
        UNION ALL
        SELECT exchange, symbol, seen_at // $span AS span, 0, count(*) FROM started
        WHERE seen_at >= coalesce($start, seen_at) AND seen_at < coalesce($end, seen_at + 1)
        GROUP BY ALL
    )
"""
# Only these symbols can be in doubt; for the others the trades need not be sorted.
_OF_CANDIDATES: Final = """
    AND (exchange, symbol) IN (
        SELECT (exchange, symbol) FROM marks
        GROUP BY exchange, symbol HAVING sum(conflicts) > 0 OR sum(sessions) > 1
    )
"""


def _before(edge: str) -> str:
    """Return SQL for the number of a gap's numbers before a time: k with low + (high - low) * k / (m + 1) < edge."""
    return f"""
        CASE WHEN {edge} <= low THEN 0
             WHEN {edge} > high THEN missing
             ELSE (({edge} - low)::HUGEINT * (missing + 1) + (high - low) - 1) // (high - low) - 1 END
    """


# A number that is stored twice counts once.
_SPANS: Final = f"""
    , numbered AS (
        SELECT *, sequence::HUGEINT - lag(sequence) OVER numbers AS step, lag(seen_at) OVER numbers AS seen_before
        FROM seen WHERE session > 0
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY sequence, seen_at)
    ), rows_there AS (
        SELECT exchange, symbol, seen_at FROM numbered WHERE step IS DISTINCT FROM 0
        UNION ALL
        SELECT exchange, symbol, seen_at FROM seen WHERE coalesce(session, 0) <= 0
    ), stored AS (
        SELECT exchange, symbol, seen_at // $span AS span, count(*) AS stored, 0::HUGEINT AS missing
        FROM rows_there WHERE seen_at >= coalesce($start, seen_at) AND seen_at < coalesce($end, seen_at + 1)
        GROUP BY ALL
    ), between AS (
        SELECT exchange, symbol, session, sequence::HUGEINT - step + 1 AS first, sequence::HUGEINT - 1 AS last,
               least(seen_at, seen_before) AS low, greatest(seen_at, seen_before) AS high
        FROM numbered WHERE step > 1
    ), gaps AS (
        SELECT exchange, symbol, low, high, last - first + 1 - coalesce((
                   SELECT sum(least(non_market.last, between.last) - greatest(non_market.first, between.first) + 1)
                   FROM non_market
                   WHERE non_market.exchange = between.exchange AND non_market.symbol = between.symbol
                     AND non_market.session = between.session
                     AND non_market.first <= between.last AND non_market.last >= between.first
               ), 0) AS missing
        FROM between
    ), parts AS (
        SELECT exchange, symbol, missing, low, high,
               unnest(range(greatest(low, coalesce($start, low)) // $span,
                            least(high, coalesce($end - 1, high)) // $span + 1)) AS span
        FROM gaps WHERE missing > 0
    ), bounds AS (
        SELECT *, greatest(span * $span, coalesce($start, 0)) AS first,
               least((span + 1) * $span, coalesce($end, (span + 1) * $span)) AS until
        FROM parts
    ), missing AS (
        SELECT exchange, symbol, span, 0 AS stored,
               ({_before("until")}) - ({_before("first")}) AS missing
        FROM bounds
    ), spans AS (
        SELECT exchange, symbol, span, sum(stored) AS stored, sum(missing) AS missing,
               sum(conflicts) AS conflicts, sum(sessions) AS sessions
        FROM (
            SELECT *, 0 AS conflicts, 0 AS sessions FROM stored
            UNION ALL
            SELECT *, 0, 0 FROM missing WHERE missing > 0
            UNION ALL
            SELECT exchange, symbol, span, 0, 0, conflicts, sessions FROM marks
        ) GROUP BY exchange, symbol, span
    ), days AS (
        SELECT exchange, symbol, sum(stored) AS stored, sum(missing) AS missing,
               sum(conflicts) AS conflicts, sum(sessions) AS sessions
        FROM spans GROUP BY exchange, symbol, span * $span // {DAY_US}
    ), symbols AS (
        SELECT exchange, symbol, sum(stored) AS stored, sum(missing) AS missing,
               bool_or(conflicts > 0 OR sessions > 1)
               OR sum(sessions) > greatest(1, count(*) FILTER (stored > 0)) AS symbol_in_doubt
        FROM days GROUP BY exchange, symbol
    ), chosen AS (
        SELECT exchange, symbol, symbol_in_doubt FROM symbols WHERE symbol_in_doubt OR NOT $in_doubt
        ORDER BY missing DESC, stored DESC, exchange, symbol
        LIMIT coalesce($worst, 9223372036854775807)
    )
    SELECT * FROM spans JOIN chosen USING (exchange, symbol) ORDER BY exchange, symbol, span
"""
