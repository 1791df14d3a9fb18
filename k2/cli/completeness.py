"""`k2 completeness`: report expected, stored and missing trades per symbol and day, and numberings in doubt."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final, Literal

import typer

from k2.cli.completeness_by_feed import report_feeds
from k2.cli.console import Json, print_json
from k2.cli.heat_map import print_heat_map
from k2.cli.name_hints import no_trades_reason
from k2.cli.options import End, Exchange, Start, Symbol, parse_as_of, parse_span
from k2.cli.result_output import Output, check_output, write_report
from k2.cli.table_output import print_table, printable
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import Settings, read_settings
from k2.query.completeness import CompletenessParameters, Day, DayTotals, Hour, by_hour, is_stored, summary_by_day
from k2.query.connection_gaps import ConnectionLoss, connection_gaps, losses
from k2.query.parameters import LIMIT_MAX, QueryParameters
from k2.query.tables import NoTableError

__all__ = ["completeness"]

HEAT_DAYS_MAX: Final = 7
"""Number of newest days that the heat map shows by default."""
NAMED_MAX: Final = 5
"""Maximum number of symbols in doubt that are listed by name."""
COLUMNS: Final = ("exchange", "symbol", "day", "stored", "missing", "accepted", "percent", "conflicts", "sessions")
"""Without `expected` (stored + missing), so that a row fits 80 columns."""
RARE: Final = {"accepted", "conflicts"}
"""Columns that are left out if all their values are 0."""
IN_DOUBT: Final = "?"
NOT_NUMBERED: Final = "not numbered"


def completeness(
    *,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    as_of: Annotated[str | None, typer.Option(help="Report the table as of a time or a commit's snapshot id.")] = None,
    worst: Annotated[
        int | None,
        typer.Option(min=1, max=LIMIT_MAX, help="Report only this many symbols: those with the most missing numbers."),
    ] = None,
    by: Annotated[
        Literal["feed"] | None, typer.Option(help="Report what each feed of K2_FEEDS brought and lost.")
    ] = None,
    heat: Annotated[bool, typer.Option("--heat", help="Print a heat map by symbol and hour.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Compare the stored trades of each symbol and day (UTC) with those that the venue's numbers imply.

    A missing number counts for the time between its stored neighbours; see docs/tables.md. Conflicts are dead letters
    whose number is stored with other content; sessions are the numberings that started on the day. Accepted numbers are
    missing for good, and not expected. A row marked ? has conflicts or more than one session, so its numbering is in
    doubt. Without gapless numbers a row is not numbered: it is unknown what is missing, and the row does not count in
    the sum. The sum is of all symbols, also with --worst.

    With --by feed, each day is compared by the feeds that brought it; see docs/feeds.md.
    """
    settings = read_settings()
    check_output(output)
    first, until = parse_span(start, end)
    if by is not None:
        if as_of is not None or worst is not None or heat:
            raise SettingsError("--by feed goes with neither --as-of, --worst nor --heat; leave them out")
        selected = QueryParameters(exchange=exchange, symbol=symbol, start=first, end=until)
        report_feeds(settings, selected, output, as_json=as_json)
        return
    version = None if as_of is None else parse_as_of(as_of)
    filters = CompletenessParameters(
        exchange=exchange, symbol=symbol, start=first, end=until, as_of=version, worst=worst
    )
    found = summary_by_day(settings, filters)
    days = found.rows
    rows: Sequence[Day | Hour] = _hours(settings, filters, days) if heat and days else days
    if output is not None:
        write_report(Hour if heat else Day, rows, output)
    elif as_json:
        print_json(rows)
    elif heat:
        print_heat_map([row for row in rows if isinstance(row, Hour)], in_doubt=_in_doubt(days))
    else:
        columns = [name for name in COLUMNS if name not in RARE or any(getattr(row, name) for row in days)]
        print_table("Completeness", columns, [[_cell(row, name) for name in columns] for row in days])
    for sentence in _summary(found.totals, days) if days else [_empty_reason(settings, filters)]:
        typer.echo(sentence, err=True)
    for loss in _losses(settings, filters):
        typer.echo(printable(loss.sentence), err=True)
    dates = {row.day for row in days}
    if heat and filters.start is None and len(dates) > HEAT_DAYS_MAX:
        typer.echo(f"showing the newest {HEAT_DAYS_MAX} of {len(dates):,} days; use --start for more", err=True)


def _losses(settings: Settings, filters: CompletenessParameters) -> list[ConnectionLoss]:
    """Return the messages lost before Kafka in the selected time; they are of no symbol, and in no row."""
    if isinstance(filters.as_of, int):
        return []
    try:
        found = connection_gaps(settings, filters.exchange, filters.as_of)
    except NoTableError:
        return []
    start, end = filters.start, filters.end
    return losses(gap for gap in found if (not start or start <= gap.timestamp) and (not end or gap.timestamp < end))


def _hours(settings: Settings, filters: CompletenessParameters, days: Sequence[Day]) -> list[Hour]:
    """Return the hours of the heat map, of the symbols that the days have: their order by hours may be another one."""
    symbols = {(day.exchange, day.symbol) for day in days}
    hours = by_hour(settings, _heat_map_filters(filters, days))
    return [hour for hour in hours if (hour.exchange, hour.symbol) in symbols]


def _heat_map_filters(filters: CompletenessParameters, days: Sequence[Day]) -> CompletenessParameters:
    """Return the filters, limited to the days that the heat map shows."""
    newest = sorted({row.day for row in days})[-HEAT_DAYS_MAX:]
    first, until = (datetime.combine(day, time(), UTC) for day in (newest[0], newest[-1]))
    span = {"start": filters.start or first, "end": filters.end or until + timedelta(days=1)}
    return filters.model_copy(update={**span, "worst": None})


def _cell(row: Day, name: str) -> object:
    match name:
        case "percent" if row.expected is None:
            return NOT_NUMBERED
        case "percent":
            # Padded to the width of 100, so that the decimal points are aligned.
            return "" if row.percent is None else f"{row.percent:8.4f}"
        case "sessions":
            return f"{row.sessions:>6,} {IN_DOUBT if row.numbering_in_doubt else ' '}"
        case _:
            return getattr(row, name)


def _in_doubt(days: Sequence[Day]) -> Mapping[tuple[str, str], list[Day]]:
    """Return the rows of each symbol in doubt, by exchange and symbol."""
    found: dict[tuple[str, str], list[Day]] = {}
    for row in days:
        if row.symbol_in_doubt:
            found.setdefault((row.exchange, row.symbol), []).append(row)
    return found


def _summary(totals: DayTotals, days: Sequence[Day]) -> Iterator[str]:
    """Yield the sum of all symbols, how many are listed, and the symbols in doubt."""
    yield f"{_sum(totals)}; of {_symbols(totals)}"
    listed = len({(row.exchange, row.symbol) for row in days})
    if listed < totals.symbols:
        yield f"the worst {listed:,} of {totals.symbols:,} symbols are listed; --worst {totals.symbols} lists all"
    if totals.symbols_in_doubt:
        named = [_describe_doubt(*name, rows) for name, rows in _in_doubt(days).items()][:NAMED_MAX]
        rest = totals.symbols_in_doubt - len(named)
        names = "; ".join([*named, *([f"and {rest:,} more" if named else "not listed here"] if rest else [])])
        yield (
            f"the numbering of {format_count(totals.symbols_in_doubt, 'symbol')} is in doubt: {names}. "
            "Trades may be set aside or stored twice although no number is missing: look at "
            "k2 dlq list --reason conflict and k2 gaps --all"
        )


def _sum(totals: DayTotals) -> str:
    if totals.expected is None or totals.missing is None:
        return f"{totals.stored:,} stored, and it is unknown how many are missing"
    accepted = f", {totals.accepted:,} accepted as missing" if totals.accepted else ""
    doubtful = f", {totals.days_in_doubt:,} in doubt ({IN_DOUBT})" if totals.days_in_doubt else ""
    return (
        f"{totals.expected - totals.missing:,} stored of {totals.expected:,} expected, "
        f"{totals.missing:,} missing{accepted}; "
        f"{totals.days_complete:,} of {totals.days:,} rows complete{doubtful}"
    )


def _symbols(totals: DayTotals) -> str:
    symbols = format_count(totals.symbols, "symbol")
    if not totals.not_numbered:
        return symbols
    without = f"{format_count(totals.not_numbered, 'trade')} without gapless numbers"
    return f"{symbols}, {totals.symbols_not_numbered:,} {NOT_NUMBERED} ({without})"


def _describe_doubt(exchange: str, symbol: str, rows: Sequence[Day]) -> str:
    conflicts = format_count(sum(row.conflicts for row in rows), "conflict")
    sessions = format_count(sum(row.sessions for row in rows), "session")
    days = format_count(sum(row.stored > 0 for row in rows), "day")
    return f"{printable(exchange)} {printable(symbol)} ({conflicts}, {sessions} in {days} with trades)"


def _empty_reason(settings: Settings, filters: CompletenessParameters) -> str:
    if not is_stored(settings):
        return "nothing is stored yet, so nothing is expected"
    if reason := no_trades_reason(settings, filters.exchange, filters.symbol):
        return reason
    return "no trade was in the table by then" if filters.as_of else "no trade is in that time range"
