"""Stored and missing trades of each symbol and span of time, counted from the rows of the table.

The sequence numbers of a venue determine the expected trades: every number from a session's lowest stored number to its
highest. These counts come from the rows of the table, so that the ledger can be checked against them. The ledger only
says which numbers were accepted, and which were named at an earlier time.

Rows belong to a span by their venue time. A missing number has no time, so one is interpolated: the numbers missing
between two stored ones are spread evenly over the time between those two (the k-th of m at k/(m+1) of the way, in whole
microseconds). So each missing number belongs to one day, an outage over midnight counts on both days, an outage of a
week on all of its days, and stored + missing = expected holds for the numbers of each row and of all together.

Numbers that a venue gave to non-market trades are neither expected nor missing; the table stores them next to its
progress. Nor are numbers that were accepted as missing: they are counted apart, and those between two stored numbers
are spread over the time between the two by the same rule. Numbers above the last stored one that the venue has named
are missing too, and spread over the time from that trade until they were named: as long as between the Kafka timestamps
of both messages, because a capture may be published long after its trades. Other numbers after a session's last stored
one, and those before its first, are unknown.

A row without a gapless number (no number, or of a venue whose numbers are not contiguous: session 0 or null) is stored
and nothing else. A span is numbered if it has a number, stored or missing; or if it has no row at all, unless no row of
its symbol is numbered.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
from pyiceberg.table import Table

from k2.model.state_source import StoredSession
from k2.ops.settings import Settings
from k2.query.announced import register_announced_now, register_announced_then
from k2.query.audit import progress_as_of
from k2.query.conflicts import CONFLICTS, conflicts_by_span
from k2.query.decisions import register_accepted_of
from k2.query.engine import Engine
from k2.query.offset_bounds import register_offset_bounds, table_of
from k2.query.parameters import CompletenessParameters
from k2.query.pool import EnginePool, open_engine
from k2.query.span_sql import (
    MARKS,
    OF_CANDIDATES,
    SELECTED,
    SOURCES,
    SOURCES_THEN,
    SPANS,
    SYMBOLS,
    TOTALS,
    Sources,
)
from k2.query.tables import check_columns, existing_table, find_job_table
from k2.query.where_clauses import equal
from k2.sequencing.non_market import joined
from k2.storage.removed_rows import read_removed_numbers
from k2.storage.table_properties import NON_MARKET_NUMBERS, REMOVED_ROWS

__all__ = [
    "COLUMNS",
    "SpanCounts",
    "count_spans",
    "open_span_counts",
    "register_marks",
    "register_non_market",
]

COLUMNS: Final = (
    "exchange",
    "symbol",
    "session",
    "sequence",
    "timestamp",
    "topic",
    "partition",
    "offset",
    "kafka_timestamp",
)
"""Columns of `trades` that the counts need."""
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)


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
        for row in self.engine.query(f"WITH {SYMBOLS} {SELECTED}", selection):
            yield _to_integers(row)

    def totals(self) -> dict[str, Any]:
        """Return the sums of all symbols; `expected` and `missing` are None if no symbol is numbered.

        The counts of days are by the marks of the spans: a span of an hour has them only if `in_doubt` is set.
        """
        (sums,) = self.engine.query(f"WITH {SYMBOLS} {TOTALS}", {"span": self.span_us})
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
    seen = f"{sources.seen} {OF_CANDIDATES}" if parameters.in_doubt and not of_all else sources.seen
    spans = engine.table(f"WITH started AS ({sources.started}), {MARKS}, seen AS ({seen}) {SPANS}", filters)
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
        yield engine, SOURCES if then is None else SOURCES_THEN


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
