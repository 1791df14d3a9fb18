"""`k2 gaps`: list sequence numbers that are missing, and those that arrived late."""

from collections.abc import Sequence
from heapq import nlargest
from typing import Annotated, Final

import typer

from k2.cli.console import Json, print_json
from k2.cli.gap_export import PlanFormat, export_gaps
from k2.cli.name_hints import did_you_mean, quote_names
from k2.cli.options import Exchange, Symbol, parse_as_of
from k2.cli.result_output import Output, check_output, write_report
from k2.cli.table_output import Identifier, format_duration, format_time, print_table
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import Settings, read_settings
from k2.query.connection_gaps import ConnectionGap, connection_gaps
from k2.query.gaps import Gap, GapFilter, has_ledger_events, largest_gaps
from k2.query.gaps import gaps as find_gaps
from k2.query.parameters import LIMIT_MAX, AsOf

__all__ = ["gaps"]


def gaps(
    *,
    exchange: Exchange = None,
    symbol: Symbol = None,
    as_of: Annotated[str | None, typer.Option(help="Report the gaps as of a time or a commit's snapshot id.")] = None,
    filled: Annotated[bool, typer.Option("--filled", help="List only gaps that late trades filled.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List open and filled gaps.")] = False,
    connections: Annotated[
        bool, typer.Option("--connections", help="List messages of connections that were lost before Kafka instead.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, max=LIMIT_MAX, help="Maximum number of gaps; the largest are listed first.")
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Print the requests of the venues that give what is missing instead.")
    ] = False,
    plan_format: Annotated[PlanFormat, typer.Option("--format", help="Format of --export.")] = "json",
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List the ranges of sequence numbers that are missing, now or as of a time, and how long each has been open.

    Times are by the job's clock: a gap opens with the commit that records it, and is filled with a later one.
    """
    settings = read_settings()
    if filled and everything:
        raise SettingsError("--filled and --all cannot be used together")
    check_output(output)
    if export:
        if filled or everything or connections or limit is not None or output is not None:
            raise SettingsError("--export takes only --exchange, --symbol, --as-of and --format; leave out the others")
        export_gaps(settings, exchange, symbol, None if as_of is None else parse_as_of(as_of), plan_format)
        return
    if connections:
        if filled or everything or symbol is not None:
            raise SettingsError("--connections cannot be used together with --symbol, --filled or --all")
        lost = connection_gaps(settings, exchange, None if as_of is None else parse_as_of(as_of))
        _print_lost(lost, limit, output, as_json=as_json)
        return
    which = GapFilter.ALL if everything else GapFilter.FILLED if filled else GapFilter.OPEN
    filters = (exchange, symbol, None if as_of is None else parse_as_of(as_of))
    found = find_gaps(settings, *filters, which)
    rows = found if limit is None else largest_gaps(found, limit)
    if output is not None:
        write_report(Gap, rows, output)
    elif as_json:
        print_json(rows)
    else:
        _print_gaps(rows, which)
    if not as_json and output is None:
        _print_totals(found, which)
    _print_limit(len(rows), len(found))
    if not found and not has_ledger_events(settings, *filters):
        typer.echo(_empty_reason(settings, *filters), err=True)


def _empty_reason(settings: Settings, exchange: str | None, symbol: str | None, as_of: AsOf | None) -> str:
    names = quote_names(exchange, symbol)
    when = "was known by then" if as_of else "is known"
    reason = f"no contiguous numbering{' of ' if names else ''}{names} {when}, so no number can be missing"
    return reason + did_you_mean(settings, exchange, symbol)


def _print_gaps(rows: Sequence[Gap], which: GapFilter) -> None:
    if which is GapFilter.OPEN:
        print_table("Missing", _OPEN, [[_cell(row, name) for name in _OPEN] for row in rows])
    else:
        title = "Filled" if which is GapFilter.FILLED else "Missing and filled"
        print_table(title, _FILLED, [[_cell(row, name) for name in _FILLED] for row in rows])


def _print_lost(found: Sequence[ConnectionGap], limit: int | None, output: Output, *, as_json: bool) -> None:
    rows = found if limit is None else nlargest(limit, found, key=lambda gap: gap.missing)
    if output is not None:
        write_report(ConnectionGap, rows, output)
    elif as_json:
        print_json(rows)
    else:
        print_table("Lost before Kafka", _LOST, [[_lost_cell(row, name) for name in _LOST] for row in rows])
        lost = sum(row.missing for row in found)
        typer.echo(
            f"{format_count(lost, 'message')} of unknown content in {format_count(len(found), 'range')}", err=True
        )
    _print_limit(len(rows), len(found))


def _print_limit(listed: int, found: int) -> None:
    """Say that a limit has left ranges out, if it has."""
    if listed < found:
        typer.echo(f"the largest {listed:,} of {found:,} ranges are listed; use a higher --limit", err=True)


_LOST: Final = ("exchange", "connection", "session", "first", "missing", "next_message", "at")


def _lost_cell(row: ConnectionGap, name: str) -> object:
    match name:
        case "first":
            return Identifier(row.first_number)
        case "next_message":
            return f"{row.topic}:{row.partition}:{row.offset}"
        case "at":
            return format_time(row.timestamp, "minutes")
        case _:
            return getattr(row, name)


def _print_totals(rows: Sequence[Gap], which: GapFilter) -> None:
    missing = [row.missing for row in rows if row.filled_at is None]
    late = [row.missing for row in rows if row.filled_at is not None]
    if which is not GapFilter.FILLED:
        typer.echo(f"{sum(missing):,} missing in {format_count(len(missing), 'range')}", err=True)
    if which is not GapFilter.OPEN:
        typer.echo(f"{sum(late):,} filled in {format_count(len(late), 'range')}", err=True)


_OPEN: Final = ("exchange", "symbol", "session", "first", "last", "missing", "open_for")
# Without the last number, so that a row fits a terminal of 80 columns.
_FILLED: Final = ("exchange", "symbol", "session", "first", "missing", "open_for", "filled_at")


def _cell(row: Gap, name: str) -> object:
    match name:
        case "first":
            return Identifier(row.first_sequence)
        case "last":
            return Identifier(row.last_sequence)
        case "open_for":
            return format_duration(row.open_seconds)
        case "filled_at":
            return "open" if row.filled_at is None else format_time(row.filled_at, "minutes")
        case _:
            return getattr(row, name)
