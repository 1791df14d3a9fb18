"""Stored and missing trades of each symbol and span of time, counted from the rows of the table.

The sequence numbers of a venue determine the expected trades: every number from a session's lowest stored number to its
highest. These counts come from the rows of the table alone, so that the ledger can be checked against them.

Rows belong to a span by their venue time. A missing number has no time, so one is interpolated: the numbers missing
between two stored ones are spread evenly over the time between those two (the k-th of m at k/(m+1) of the way, in whole
microseconds). So each missing number belongs to one day, an outage over midnight counts on both days, an outage of a
week on all of its days, and stored + missing = expected holds for the numbers of each row and of all together.

Numbers that a venue gave to non-market trades are neither expected nor missing; the table stores them next to its
progress. Nor are numbers that were accepted as missing: they are counted apart, and those between two stored numbers
are spread over the time between the two by the same rule. Numbers above the last stored one that the venue has named
are missing too, and spread over the time until they were named. Other numbers after a session's last stored one, and
those before its first, are unknown.

A row without a gapless number (no number, or of a venue whose numbers are not contiguous: session 0 or null) is stored
and nothing else. A span is numbered if it has a number, stored or missing; or if it has no row at all, unless no row of
its symbol is numbered.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.canary import LEFT_OUT_EVERY
from k2.model.state_source import StoredSession
from k2.ops.settings import Settings
from k2.query.announced import register_announced_now, register_announced_then
from k2.query.audit import progress_as_of
from k2.query.conflicts import CONFLICTS, conflicts_by_span
from k2.query.decisions import register_accepted_of
from k2.query.engine import Engine
from k2.query.offset_bounds import BELOW_OFFSET_BOUNDS, register_offset_bounds, table_of
from k2.query.parameters import CompletenessParameters
from k2.query.pool import EnginePool, open_engine
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.query.where_clauses import equal
from k2.sequencing.non_market import joined
from k2.storage.removed_rows import read_removed_numbers
from k2.storage.table_properties import NON_MARKET_NUMBERS, REMOVED_ROWS

__all__ = [
    "COLUMNS",
    "SOURCES",
    "SpanCounts",
    "count_spans",
    "open_span_counts",
    "register_marks",
    "register_non_market",
]

COLUMNS: Final = ("exchange", "symbol", "session", "sequence", "timestamp", "topic", "partition", "offset")
"""Columns of `trades` that the counts need."""
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)


class Sources(NamedTuple):
    """SQL of the selected trades, and of the sessions started."""

    seen: str
    started: str


@dataclass(frozen=True)
class SpanCounts:
    """Counts of all selected symbols and spans, registered in an engine as `spans`."""

    engine: Engine
    parameters: CompletenessParameters
    span_us: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the spans of the symbols that `worst`, `containing` and `in_doubt` select, by symbol and time.

        `span` counts from the year 1. `expected` and `missing` are None in a span that is not numbered.
        """
        selection = {
            "span": self.span_us,
            "containing": self.parameters.containing,
            "in_doubt": self.parameters.in_doubt,
            "worst": self.parameters.worst,
        }
        for row in self.engine.query(f"WITH {_SYMBOLS} {_SELECTED}", selection):
            yield _to_integers(row)

    def totals(self) -> dict[str, Any]:
        """Return the sums of all symbols; `expected` and `missing` are None if no symbol is numbered.

        The counts of days are by the marks of the spans: a span of an hour has them only if `in_doubt` is set.
        """
        (sums,) = self.engine.query(f"WITH {_SYMBOLS} {_TOTALS}", {"span": self.span_us})
        return _to_integers(sums)


def _to_integers(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with integers instead of decimals: the number of missing trades may exceed 64 bits."""
    return {name: int(value) if isinstance(value, Decimal) else value for name, value in row.items()}


@contextmanager
def open_span_counts(
    settings: Settings,
    parameters: CompletenessParameters,
    span: timedelta,
    pool: EnginePool | None = None,
    *,
    of_all: bool = False,
) -> Iterator[SpanCounts]:
    """Count by spans of a day or an hour, and yield the counts.

    `of_all` counts the symbols that `containing` and `in_doubt` leave out as well, so that the totals are those of all.
    """
    span_us = span // _MICROSECOND
    with _open(settings, parameters, span, pool) as (engine, sources):
        yield count_spans(engine, sources, parameters, span_us, settings.canary_exchange, of_all=of_all)


def count_spans(
    engine: Engine,
    sources: Sources,
    parameters: CompletenessParameters,
    span_us: int,
    canary_exchange: str | None = None,
    *,
    of_all: bool = False,
) -> SpanCounts:
    """Count the trades of an engine's tables by spans of this many microseconds.

    Numbers that the canary leaves out are neither expected nor missing.
    """
    filters = {
        "exchange": parameters.exchange,
        "symbol": parameters.symbol,
        "start": _since_year_1(parameters.start),
        "end": _since_year_1(parameters.end),
        "span": span_us,
        "containing": None if of_all else parameters.containing,
        "canary_exchange": canary_exchange,
    }
    seen = f"{sources.seen} {_OF_CANDIDATES}" if parameters.in_doubt and not of_all else sources.seen
    spans = engine.table(f"WITH started AS ({sources.started}), {_MARKS}, seen AS ({seen}) {_SPANS}", filters)
    engine.register_arrow("spans", spans)
    return SpanCounts(engine, parameters, span_us)


def _since_year_1(time: datetime | None) -> int | None:
    return None if time is None else (time - _YEAR_1) // _MICROSECOND


@contextmanager
def _open(
    settings: Settings, parameters: CompletenessParameters, span: timedelta, pool: EnginePool | None
) -> Iterator[tuple[Engine, Sources]]:
    """Yield an engine with the selected tables registered, and the SQL of their sources."""
    table = existing_table(settings, "trades", pool)
    check_columns(table, COLUMNS)
    as_of = None if parameters.as_of is None else progress_as_of(settings, table, parameters.as_of, pool=pool)
    then = None if as_of is None else as_of.progress
    is_marked = span == _DAY or parameters.in_doubt
    ledger = find_job_table(settings, "sequence_events", pool)
    found = conflicts_by_span(settings, table, parameters, span, then) if is_marked else CONFLICTS.empty_table()
    with open_engine(settings, pool) as engine:
        engine.register("trades", table, row_filter=equal(exchange=parameters.exchange, symbol=parameters.symbol))
        properties = table.metadata.properties
        non_market = [one for numbers in NON_MARKET_NUMBERS.read_all(properties) for one in numbers.sessions()]
        removed = read_removed_numbers(table, REMOVED_ROWS.read(properties))
        register_non_market(engine, [*non_market, *removed])
        register_marks(engine, ledger if is_marked else None, found, parameters)
        until = None if as_of is None else as_of.time
        if then is None:
            register_announced_now(engine, properties)
        register_accepted_of(engine, ledger, parameters.exchange, parameters.symbol, until)
        if then is not None:
            register_offset_bounds(engine, table, then)
            register_announced_then(engine, ledger, parameters.exchange, parameters.symbol)
        yield engine, SOURCES if then is None else _SOURCES_THEN


def register_marks(engine: Engine, ledger: Table | None, found: pa.Table, parameters: CompletenessParameters) -> None:
    """Register the conflicts and the ledger; a ledger that does not exist has no events."""
    engine.register_arrow("conflicts", found)
    if ledger is None:
        engine.register_arrow("sequence_events", _EVENTS.empty_table())
        return
    check_columns(ledger, _EVENTS.names)
    engine.register("sequence_events", ledger, row_filter=equal(exchange=parameters.exchange, symbol=parameters.symbol))


def register_non_market(engine: Engine, stored: Iterable[StoredSession]) -> None:
    """Register the ranges of numbers that no row has, and that are not missing: of non-market and removed trades."""
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
_CONTAINING: Final = "contains(lower(exchange || ' ' || symbol), lower(coalesce($containing, '')))"
_NAMED: Final = f"""
    exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol) AND {_CONTAINING}
"""
_IS_NUMBERED: Final = "coalesce(session, 0) > 0 AND last IS NOT NULL"
_SINCE_YEAR_1: Final = 'epoch_us("timestamp") + 62135596800000000'
_SEEN: Final = f"""
    SELECT exchange, symbol, session, coalesce(first_sequence, sequence) AS first, sequence AS last,
           {_SINCE_YEAR_1} AS seen_at
    FROM trades
"""
_STARTED: Final = f"SELECT exchange, symbol, session, min({_SINCE_YEAR_1}) AS seen_at FROM sequence_events"
# A duplicate event in the ledger is one session.
_EACH_SESSION: Final = f"event = 'session_started' AND {_NAMED} GROUP BY exchange, symbol, session"
SOURCES: Final = Sources(f"{_SEEN} WHERE {_NAMED}", f"{_STARTED} WHERE {_EACH_SESSION}")
_SOURCES_THEN: Final = Sources(
    f"{_SEEN} {BELOW_OFFSET_BOUNDS} AND {_NAMED}", f"{_STARTED} {BELOW_OFFSET_BOUNDS} AND {_EACH_SESSION}"
)
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


def _before(edge: str, numbers: str) -> str:
    """Return SQL for how many of a gap's m numbers are before a time: k with low + (high - low) * k / (m + 1) < edge.

    `numbers` is the column of m.
    """
    return f"""
        CASE WHEN {edge} <= low THEN 0
             WHEN {edge} > high THEN {numbers}
             ELSE (({edge} - low)::HUGEINT * ({numbers} + 1) + (high - low) - 1) // (high - low) - 1 END
    """


def _within(edge_columns: tuple[str, str], numbers: str) -> str:
    """Return SQL for how many of a gap's numbers are between two times."""
    first, until = edge_columns
    return f"({_before(until, numbers)}) - ({_before(first, numbers)})"


def _left_out(first: str, last: str) -> str:
    """Return SQL for how many numbers of a range the canary leaves out; 0 of other exchanges."""
    return (
        f"CASE WHEN exchange = $canary_exchange THEN {last} // {LEFT_OUT_EVERY} - ({first} - 1) // {LEFT_OUT_EVERY} "
        "ELSE 0 END"
    )


# A trade counts once for each number that it stands for; a number that is stored twice counts once.
_SPANS: Final = f"""
    , numbered AS (
        SELECT *, max(last) OVER (numbers ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached,
               lag(seen_at) OVER numbers AS seen_before
        FROM seen WHERE {_IS_NUMBERED}
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY first, last, seen_at)
    ), topmost AS (
        SELECT exchange, symbol, session, max(last) AS highest, arg_max(seen_at, last) AS highest_at
        FROM numbered GROUP BY ALL
    ), rows_there AS (
        SELECT exchange, symbol, seen_at, true AS is_numbered,
               last::HUGEINT - greatest(first::HUGEINT, reached::HUGEINT + 1) + 1 AS numbers
        FROM numbered WHERE last > reached IS DISTINCT FROM false
        UNION ALL
        SELECT exchange, symbol, seen_at, false, 1 FROM seen WHERE NOT ({_IS_NUMBERED})
    ), never_numbered AS (
        SELECT exchange, symbol FROM rows_there GROUP BY ALL HAVING NOT bool_or(is_numbered)
    ), stored AS (
        SELECT exchange, symbol, seen_at // $span AS span, sum(numbers)::BIGINT AS stored,
               count(*) FILTER (NOT is_numbered) AS not_numbered, 0::HUGEINT AS missing, 0::HUGEINT AS accepted
        FROM rows_there WHERE seen_at >= coalesce($start, seen_at) AND seen_at < coalesce($end, seen_at + 1)
        GROUP BY ALL
    ), between AS (
        SELECT exchange, symbol, session, reached::HUGEINT + 1 AS first, first::HUGEINT - 1 AS last,
               least(seen_at, seen_before) AS low, greatest(seen_at, seen_before) AS high
        FROM numbered WHERE first > reached::HUGEINT + 1
        UNION ALL
        SELECT exchange, symbol, session, highest::HUGEINT + 1, number::HUGEINT,
               least(highest_at, named_at + 62135596800000000), greatest(highest_at, named_at + 62135596800000000)
        FROM announced JOIN topmost USING (exchange, symbol, session) WHERE number > highest
    ), accepted_between AS (
        -- An accepted number that is a non-market one, or one that the canary leaves out, counts as that.
        SELECT exchange, symbol, session, between.first AS gap_first,
               greatest(accepted.first, between.first) AS first, least(accepted.last, between.last) AS last
        FROM accepted JOIN between USING (exchange, symbol, session)
        WHERE accepted.first <= between.last AND accepted.last >= between.first
    ), accepted_of_gaps AS (
        SELECT exchange, symbol, session, gap_first AS first, sum(last - first + 1 - coalesce((
                   SELECT sum(least(non_market.last, one.last) - greatest(non_market.first, one.first) + 1)
                   FROM non_market
                   WHERE non_market.exchange = one.exchange AND non_market.symbol = one.symbol
                     AND non_market.session = one.session
                     AND non_market.first <= one.last AND non_market.last >= one.first
               ), 0) - {_left_out("first", "last")}) AS accepted
        FROM accepted_between AS one GROUP BY ALL
    ), all_gaps AS (
        SELECT exchange, symbol, session, low, high, first, last - first + 1 - coalesce((
                   SELECT sum(least(non_market.last, between.last) - greatest(non_market.first, between.first) + 1)
                   FROM non_market
                   WHERE non_market.exchange = between.exchange AND non_market.symbol = between.symbol
                     AND non_market.session = between.session
                     AND non_market.first <= between.last AND non_market.last >= between.first
               ), 0) - {_left_out("first", "last")} AS lacking
        FROM between
    ), gaps AS (
        SELECT exchange, symbol, low, high, coalesce(accepted, 0) AS accepted,
               lacking - coalesce(accepted, 0) AS missing
        FROM all_gaps LEFT JOIN accepted_of_gaps USING (exchange, symbol, session, first)
    ), parts AS (
        SELECT exchange, symbol, missing, accepted, low, high,
               unnest(range(greatest(low, coalesce($start, low)) // $span,
                            least(high, coalesce($end - 1, high)) // $span + 1)) AS span
        FROM gaps WHERE missing > 0 OR accepted > 0
    ), bounds AS (
        SELECT *, greatest(span * $span, coalesce($start, 0)) AS first,
               least((span + 1) * $span, coalesce($end, (span + 1) * $span)) AS until
        FROM parts
    ), missing AS (
        SELECT exchange, symbol, span, 0 AS stored, 0 AS not_numbered,
               {_within(("first", "until"), "missing")} AS missing,
               {_within(("first", "until"), "accepted")} AS accepted
        FROM bounds
    ), counted AS (
        SELECT exchange, symbol, span, sum(stored)::BIGINT AS stored, sum(not_numbered)::BIGINT AS not_numbered,
               sum(missing) AS missing, sum(accepted) AS accepted, sum(conflicts)::BIGINT AS conflicts,
               sum(sessions)::BIGINT AS sessions
        FROM (
            SELECT *, 0 AS conflicts, 0 AS sessions FROM stored
            UNION ALL
            SELECT *, 0, 0 FROM missing WHERE missing > 0 OR accepted > 0
            UNION ALL
            SELECT exchange, symbol, span, 0, 0, 0, 0, conflicts, sessions FROM marks
        ) GROUP BY exchange, symbol, span
    )
    SELECT * REPLACE (CASE WHEN stored > not_numbered OR missing > 0
                             OR (stored = 0 AND (exchange, symbol) NOT IN (FROM never_numbered))
                           THEN missing END AS missing)
    FROM counted
"""
_SYMBOLS: Final = f"""
    days AS (
        SELECT exchange, symbol, sum(stored) AS stored, sum(not_numbered) AS not_numbered, sum(missing) AS missing,
               sum(accepted) AS accepted, sum(conflicts) AS conflicts, sum(sessions) AS sessions,
               sum(conflicts) > 0 OR sum(sessions) > 1 AS in_doubt
        FROM spans GROUP BY exchange, symbol, span * $span // {_DAY // _MICROSECOND}
    ), by_symbol AS (
        SELECT exchange, symbol, sum(stored) AS stored, sum(not_numbered) AS not_numbered, sum(missing) AS missing,
               sum(accepted) AS accepted,
               bool_or(in_doubt) OR sum(sessions) > greatest(1, count(*) FILTER (stored > 0)) AS symbol_in_doubt,
               count(missing) AS days, count(*) FILTER (missing = 0 AND NOT in_doubt) AS days_complete,
               count(*) FILTER (in_doubt) AS days_in_doubt
        FROM days GROUP BY exchange, symbol
    )
"""
_SELECTED: Final = f"""
    , selected AS (
        SELECT exchange, symbol, symbol_in_doubt FROM by_symbol
        WHERE (symbol_in_doubt OR NOT $in_doubt) AND {_CONTAINING}
        ORDER BY missing DESC NULLS LAST, stored DESC, exchange, symbol
        LIMIT coalesce($worst, 9223372036854775807)
    )
    SELECT *, stored - not_numbered + missing AS expected, conflicts > 0 OR sessions > 1 AS in_doubt
    FROM spans JOIN selected USING (exchange, symbol) ORDER BY exchange, symbol, span
"""
_TOTALS: Final = """
    SELECT count(*) AS symbols, count(*) - count(missing) AS symbols_not_numbered,
           coalesce(sum(stored), 0) AS stored, coalesce(sum(not_numbered), 0) AS not_numbered,
           sum(missing) AS missing, coalesce(sum(accepted), 0) AS accepted,
           sum(stored - not_numbered) + sum(missing) AS expected,
           count(*) FILTER (symbol_in_doubt) AS symbols_in_doubt, coalesce(sum(days), 0) AS days,
           coalesce(sum(days_complete), 0) AS days_complete, coalesce(sum(days_in_doubt), 0) AS days_in_doubt
    FROM by_symbol
"""
