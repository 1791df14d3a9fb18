"""`k2 completeness`: report expected, stored and missing trades per symbol and day, and numberings in doubt."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final

import typer

from k2.cli.console import Json, print_json
from k2.cli.heat_map import print_heat_map
from k2.cli.name_hints import no_trades_reason
from k2.cli.options import parse_as_of, parse_name, parse_span
from k2.cli.result_output import Output, check_output, write_report
from k2.cli.table_output import format_count, print_table, printable
from k2.ops.settings import Settings, read_settings
from k2.query.completeness import CompletenessParameters, Day, Hour, by_day, by_hour, is_stored
from k2.query.parameters import LIMIT_MAX

__all__ = ["completeness"]

HEAT_DAYS_MAX: Final = 7
"""Number of newest days that the heat map shows by default."""
NAMED_MAX: Final = 5
"""Maximum number of symbols in doubt that are listed by name."""
COLUMNS: Final = ("exchange", "symbol", "day", "stored", "missing", "percent", "conflicts", "sessions")
"""Without `expected` (stored + missing), so that a row fits a terminal of 80 columns."""
IN_DOUBT: Final = "?"


def completeness(
    *,
    exchange: Annotated[str | None, typer.Option(parser=parse_name, help="Filter by exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(parser=parse_name, help="Filter by symbol.")] = None,
    start: Annotated[str | None, typer.Option(help="Start of the venue times, inclusive: RFC 3339 or a day.")] = None,
    end: Annotated[str | None, typer.Option(help="End of the venue times, exclusive.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Report the table as of a time or a commit's snapshot id.")] = None,
    worst: Annotated[
        int | None,
        typer.Option(min=1, max=LIMIT_MAX, help="Report only this many symbols: those with the most missing numbers."),
    ] = None,
    heat: Annotated[bool, typer.Option("--heat", help="Print a heat map by symbol and hour.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Compare the stored trades of each symbol and day (UTC) with those that the venue's numbers imply.

    A missing number counts for the time between its stored neighbours; see docs/tables.md. Conflicts are dead letters
    whose number is stored with other content; sessions are the numberings that started on the day. A row marked ? has
    conflicts or more than one session, so its numbering is in doubt.
    """
    settings = read_settings()
    check_output(output)
    first, until = parse_span(start, end)
    version = None if as_of is None else parse_as_of(as_of)
    filters = CompletenessParameters(
        exchange=exchange, symbol=symbol, start=first, end=until, as_of=version, worst=worst
    )
    days = by_day(settings, filters)
    rows: Sequence[Day | Hour] = _hours(settings, filters, days) if heat and days else days
    if output is not None:
        write_report(Hour if heat else Day, rows, output)
    elif as_json:
        print_json(rows)
    elif heat:
        print_heat_map([row for row in rows if isinstance(row, Hour)], in_doubt=_in_doubt(days))
    else:
        print_table("Completeness", COLUMNS, [_cells(row) for row in days])
    for sentence in _summary(days) if days else [_empty_reason(settings, filters)]:
        typer.echo(sentence, err=True)
    dates = {row.day for row in days}
    if heat and filters.start is None and len(dates) > HEAT_DAYS_MAX:
        typer.echo(f"showing the newest {HEAT_DAYS_MAX} of {len(dates):,} days; use --start for more", err=True)


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


def _cells(row: Day) -> list[object]:
    # Padded to the width of 100, so that the decimal points and the marks are aligned.
    percent = "" if row.percent is None else f"{row.percent:8.4f}"
    sessions = f"{row.sessions:>6,} {IN_DOUBT if row.numbering_in_doubt else ' '}"
    return [row.exchange, row.symbol, row.day, row.stored, row.missing, percent, row.conflicts, sessions]


def _in_doubt(days: Sequence[Day]) -> Mapping[tuple[str, str], list[Day]]:
    """Return the rows of each symbol in doubt, by exchange and symbol."""
    found: dict[tuple[str, str], list[Day]] = {}
    for row in days:
        if row.symbol_in_doubt:
            found.setdefault((row.exchange, row.symbol), []).append(row)
    return found


def _summary(days: Sequence[Day]) -> Iterator[str]:
    expected, missing = (sum(getattr(row, name) for row in days) for name in ("expected", "missing"))
    complete = sum(not row.missing and not row.numbering_in_doubt for row in days)
    doubtful = sum(row.numbering_in_doubt for row in days)
    yield (
        f"{expected - missing:,} stored of {expected:,} expected, {missing:,} missing; "
        f"{complete:,} of {len(days):,} rows complete" + (f", {doubtful:,} in doubt ({IN_DOUBT})" if doubtful else "")
    )
    symbols = _in_doubt(days)
    if symbols:
        named = [_describe_doubt(*name, rows) for name, rows in symbols.items()][:NAMED_MAX]
        more = f"; and {len(symbols) - NAMED_MAX:,} more" if len(symbols) > NAMED_MAX else ""
        yield (
            f"the numbering of {format_count(len(symbols), 'symbol')} is in doubt: {'; '.join(named)}{more}. "
            "Their trades may be set aside or stored twice although no number is missing: look at "
            "k2 dlq list --reason conflict and k2 gaps --all"
        )


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
