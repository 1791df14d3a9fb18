"""Completeness: expected, stored and missing trades of each symbol and day.

A day also says whether its numbering can be trusted: `conflicts` counts its dead letters with reason `conflict`, by
venue time, and `sessions` counts its events `session_started` in the ledger. A conflict, or a second session on one
day, puts the numbering in doubt: trades may be dead letters, or stored twice, although no number is missing.

Only gapless numbers say which trades exist. A row without one (`session` 0 or null, or no number) is stored, but
neither expected nor missing: `not_numbered` counts these rows, and expected = stored - not_numbered + missing. A day
whose rows all lack a gapless number is not numbered: what it expects and misses is unknown (None).

Numbers that were accepted as missing are neither expected nor missing, but counted apart: `accepted`.

`k2.query.span_counts` has the rules of counting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from k2.ops.settings import Settings
from k2.query.parameters import CompletenessParameters
from k2.query.pool import EnginePool, open_engine, retry_if_files_gone
from k2.query.span_counts import COLUMNS, SpanCounts, open_span_counts
from k2.query.tables import check_columns, existing_table
from k2.query.where_clauses import equal

__all__ = [
    "CompletenessParameters",
    "Day",
    "DaySummary",
    "DayTotals",
    "Hour",
    "HourSummary",
    "Totals",
    "by_day",
    "by_hour",
    "is_stored",
    "summary_by_day",
    "summary_by_hour",
]

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Day:
    """One symbol on one day (UTC)."""

    exchange: str
    symbol: str
    day: date
    expected: int | None
    """stored - not_numbered + missing. None if the day is not numbered."""
    stored: int
    missing: int | None
    """None if the day is not numbered."""
    percent: float | None
    """Stored in percent of expected, truncated, so that 100 means complete. None if nothing is expected, or if the day
    is not numbered. Rows without a gapless number do not count."""
    not_numbered: int
    """Stored rows without a gapless number."""
    conflicts: int
    """Dead letters with reason `conflict` whose venue time is on this day."""
    sessions: int
    """Sessions of the ledger that started on this day, the symbol's first included."""
    numbering_in_doubt: bool
    """A conflict, or more than one session started on this day."""
    symbol_in_doubt: bool
    """A day of the symbol is in doubt, or more sessions started in the selected days than days have trades.
    A single session is never in doubt."""
    accepted: int = 0
    """Numbers that were accepted as missing; neither expected nor missing."""


@dataclass(frozen=True, slots=True)
class Hour:
    """One symbol in one hour (UTC)."""

    exchange: str
    symbol: str
    hour: datetime
    """Start of the hour."""
    expected: int | None
    """stored - not_numbered + missing. None if the hour is not numbered."""
    stored: int
    missing: int | None
    """None if the hour is not numbered."""
    not_numbered: int
    """Stored rows without a gapless number."""
    accepted: int = 0
    """Numbers that were accepted as missing; neither expected nor missing."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of all symbols, including those that `worst`, `containing` and `in_doubt` leave out."""

    symbols: int
    symbols_not_numbered: int
    """Symbols that are not numbered in the selected time: they do not count in `expected`, `missing` and `percent`."""
    expected: int | None
    """stored - not_numbered + missing. None if no symbol is numbered."""
    stored: int
    missing: int | None
    percent: float | None
    not_numbered: int
    """Stored rows without a gapless number."""
    accepted: int
    """Numbers that were accepted as missing; neither expected nor missing."""


@dataclass(frozen=True, slots=True)
class DayTotals(Totals):
    """Sums of all symbols and days."""

    symbols_in_doubt: int
    days: int
    """Days of a symbol that are numbered."""
    days_complete: int
    """Those of `days` with nothing missing whose numbering is not in doubt."""
    days_in_doubt: int
    """Days of a symbol whose numbering is in doubt."""


@dataclass(frozen=True, slots=True)
class DaySummary:
    """The totals, and the selected rows by day."""

    totals: DayTotals
    rows: list[Day]


@dataclass(frozen=True, slots=True)
class HourSummary:
    """The totals, and the selected rows by hour."""

    totals: Totals
    rows: list[Hour]


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
    with open_span_counts(settings, parameters or CompletenessParameters(), _DAY, pool) as counts:
        return _days(counts)


@retry_if_files_gone
def by_hour(settings: Settings, parameters: CompletenessParameters, *, pool: EnginePool | None = None) -> list[Hour]:
    """Return completeness by exchange, symbol and hour. Raises as `by_day`."""
    with open_span_counts(settings, parameters, _HOUR, pool) as counts:
        return _hours(counts)


@retry_if_files_gone
def summary_by_day(
    settings: Settings, parameters: CompletenessParameters, *, pool: EnginePool | None = None
) -> DaySummary:
    """Return completeness by day with the totals of all symbols, at the cost of one report. Raises as `by_day`."""
    with open_span_counts(settings, parameters, _DAY, pool, of_all=True) as counts:
        sums = counts.totals()
        totals = DayTotals(
            **_totals(sums),
            **{name: sums[name] for name in ("symbols_in_doubt", "days", "days_complete", "days_in_doubt")},
        )
        return DaySummary(totals, _days(counts))


@retry_if_files_gone
def summary_by_hour(
    settings: Settings, parameters: CompletenessParameters, *, pool: EnginePool | None = None
) -> HourSummary:
    """Return completeness by hour with the totals of all symbols, at the cost of one report. Raises as `by_day`."""
    with open_span_counts(settings, parameters, _HOUR, pool, of_all=True) as counts:
        return HourSummary(Totals(**_totals(counts.totals())), _hours(counts))


@retry_if_files_gone
def is_stored(settings: Settings, exchange: str | None = None, symbol: str | None = None) -> bool:
    """Return whether the table has any trade of an exchange or symbol."""
    table = existing_table(settings, "trades")
    check_columns(table, COLUMNS)
    with open_engine(settings) as engine:
        engine.register("trades", table, row_filter=equal(exchange=exchange, symbol=symbol))
        return bool(engine.query(_ANY, {"exchange": exchange, "symbol": symbol}))


def _days(counts: SpanCounts) -> list[Day]:
    return [
        Day(
            row["exchange"],
            row["symbol"],
            (_YEAR_1 + row["span"] * _DAY).date(),
            row["expected"],
            row["stored"],
            row["missing"],
            _percent(row),
            row["not_numbered"],
            row["conflicts"],
            row["sessions"],
            numbering_in_doubt=row["in_doubt"],
            symbol_in_doubt=row["symbol_in_doubt"],
            accepted=row["accepted"],
        )
        for row in counts.rows()
    ]


def _hours(counts: SpanCounts) -> list[Hour]:
    return [
        Hour(
            row["exchange"],
            row["symbol"],
            _YEAR_1 + row["span"] * _HOUR,
            row["expected"],
            row["stored"],
            row["missing"],
            row["not_numbered"],
            row["accepted"],
        )
        for row in counts.rows()
        if row["stored"] or row["missing"] or row["accepted"]
    ]


def _totals(sums: Mapping[str, Any]) -> dict[str, Any]:
    names = ("symbols", "symbols_not_numbered", "expected", "stored", "missing", "not_numbered", "accepted")
    return {**{name: sums[name] for name in names}, "percent": _percent(sums)}


def _percent(counts: Mapping[str, Any]) -> float | None:
    expected = counts["expected"]
    return 1_000_000 * (expected - counts["missing"]) // expected / 10_000 if expected else None


_ANY: Final = """
    SELECT 1 FROM trades
    WHERE exchange = coalesce($exchange, exchange) AND symbol = coalesce($symbol, symbol) LIMIT 1
"""
