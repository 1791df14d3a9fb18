"""`k2 gaps`: list sequence numbers that are missing, and those that arrived late or were accepted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from heapq import nlargest
from typing import Annotated, Final

import typer

from k2.cli.console import Json, print_json
from k2.cli.gap_export import PlanFormat, export_gaps
from k2.cli.gaps_accept import accept
from k2.cli.name_hints import did_you_mean, quote_names
from k2.cli.options import Exchange, Symbol, parse_as_of
from k2.cli.result_output import Output, check_output, write_report
from k2.cli.table_output import Identifier, format_duration, format_time, print_table
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import Settings, read_settings
from k2.query.connection_gaps import ConnectionGap, connection_gaps
from k2.query.gap_causes import explained
from k2.query.gap_incidents import CauseSum, Incident, incidents_of, sums_by_cause
from k2.query.gaps import Gap, GapFilter, has_ledger_events, largest_gaps
from k2.query.gaps import gaps as find_gaps
from k2.query.parameters import LIMIT_MAX, AsOf
from k2.query.pool import Pool

__all__ = ["app"]


class Grouping(StrEnum):
    """By what gaps are summed."""

    CAUSE = "cause"


app = typer.Typer(help="List sequence numbers that are missing or arrived late, and accept those that will not come.")
app.command()(accept)


@app.callback(invoke_without_command=True)
def gaps(
    context: typer.Context,
    *,
    exchange: Exchange = None,
    symbol: Symbol = None,
    as_of: Annotated[str | None, typer.Option(help="Report the gaps as of a time or a commit's snapshot id.")] = None,
    filled: Annotated[bool, typer.Option("--filled", help="List only gaps that late trades filled.")] = False,
    accepted: Annotated[
        bool, typer.Option("--accepted", help="List only gaps that were accepted, with the reason.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="List open, filled and accepted gaps.")] = False,
    connections: Annotated[
        bool, typer.Option("--connections", help="List messages of connections that were lost before Kafka instead.")
    ] = False,
    incidents: Annotated[
        bool, typer.Option("--incidents", help="List incidents instead: gaps of one cause found within a minute.")
    ] = False,
    by: Annotated[Grouping | None, typer.Option(help="Sum the gaps by their cause instead.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=LIMIT_MAX, help="Maximum number of gaps; the largest are listed first.")
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Print the requests of the venues that give what is missing instead.")
    ] = False,
    plan_format: Annotated[
        PlanFormat | None, typer.Option("--format", help="Format of --export; json by default.")
    ] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List the ranges of sequence numbers that are missing, now or as of a time, and how long each has been open.

    Times are by the job's clock: a gap opens with the commit that records it, and is filled with a later one. The cause
    is named as far as there is evidence, and fillable says until when the venue has the trades; see docs/gaps.md.
    """
    if context.invoked_subcommand is not None:
        return
    settings = read_settings()
    which = _filter(filled=filled, accepted=accepted, everything=everything)
    check_output(output)
    if incidents and by is not None:
        raise SettingsError("--incidents and --by cannot be used together; choose one")
    if export:
        is_listing = which is not GapFilter.OPEN or connections or incidents or by is not None
        if is_listing or limit is not None or output is not None:
            raise SettingsError("--export takes only --exchange, --symbol, --as-of and --format; leave out the others")
        export_gaps(settings, exchange, symbol, None if as_of is None else parse_as_of(as_of), plan_format or "json")
        return
    if plan_format is not None:
        raise SettingsError(f"--format {plan_format} is of a plan; add --export, or leave it out")
    if connections:
        if which is not GapFilter.OPEN or symbol is not None or incidents or by is not None:
            raise SettingsError(
                "--connections cannot be used together with --symbol, --filled, --accepted, --all, --incidents or --by"
            )
        lost = connection_gaps(settings, exchange, None if as_of is None else parse_as_of(as_of))
        _print_lost(lost, limit, output, as_json=as_json)
        return
    filters = (exchange, symbol, None if as_of is None else parse_as_of(as_of))
    with Pool(settings, connections=1) as pool:
        found = explained(settings, find_gaps(settings, *filters, which, pool=pool), pool=pool)
    if by is not None or incidents:
        _print_sums(found, output, limit, as_json=as_json, is_by_cause=by is not None)
        return
    _list(found, which, limit, output, as_json=as_json)
    if not found and not has_ledger_events(settings, *filters):
        typer.echo(_empty_reason(settings, *filters), err=True)


def _list(found: Sequence[Gap], which: GapFilter, limit: int | None, output: Output, *, as_json: bool) -> None:
    rows = found if limit is None else largest_gaps(found, limit)
    if output is not None:
        write_report(Gap, rows, output)
    elif as_json:
        print_json(rows)
    else:
        _print_gaps(rows, which)
    if not as_json and output is None:
        _print_totals(found, which)
    _print_limit(len(rows), len(found), "ranges")


def _filter(*, filled: bool, accepted: bool, everything: bool) -> GapFilter:
    chosen = {"--filled": filled, "--accepted": accepted, "--all": everything}
    given = [option for option, is_given in chosen.items() if is_given]
    if len(given) > 1:
        raise SettingsError(f"{' and '.join(given)} cannot be used together; choose one")
    by_option = {"--filled": GapFilter.FILLED, "--accepted": GapFilter.ACCEPTED, "--all": GapFilter.ALL}
    return by_option[given[0]] if given else GapFilter.OPEN


def _empty_reason(settings: Settings, exchange: str | None, symbol: str | None, as_of: AsOf | None) -> str:
    names = quote_names(exchange, symbol)
    when = "was known by then" if as_of else "is known"
    reason = f"no contiguous numbering{' of ' if names else ''}{names} {when}, so no number can be missing"
    return reason + did_you_mean(settings, exchange, symbol)


def _print_sums(found: Sequence[Gap], output: Output, limit: int | None, *, as_json: bool, is_by_cause: bool) -> None:
    kind: type[Incident | CauseSum] = CauseSum if is_by_cause else Incident
    every = sums_by_cause(found) if is_by_cause else incidents_of(found)
    rows = every[:limit]
    if output is not None:
        write_report(kind, rows, output)
    elif as_json:
        print_json(rows)
    else:
        columns = _SUMS if is_by_cause else _INCIDENTS
        title = "Causes" if is_by_cause else "Incidents"
        print_table(title, columns, [[_sum_cell(row, name) for name in columns] for row in rows])
        missing = format_count(sum(row.missing for row in every), "number")
        typer.echo(f"{missing} in {format_count(sum(row.gaps for row in every), 'range')}", err=True)
    _print_limit(len(rows), len(every), "causes" if is_by_cause else "incidents")


def _sum_cell(row: Incident | CauseSum, name: str) -> object:
    value = getattr(row, name)
    if isinstance(value, datetime):
        return format_time(value, "minutes")
    return "" if value is None else value


def _print_gaps(rows: Sequence[Gap], which: GapFilter) -> None:
    title, columns = _TABLES[which]
    columns = tuple(name for name in columns if name != "fillable" or any(map(_fillable, rows)))
    print_table(title, columns, [[_cell(row, name) for name in columns] for row in rows])


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
    _print_limit(len(rows), len(found), "ranges")


def _print_limit(listed: int, found: int, what: str) -> None:
    """Say that a limit has left some out, if it has."""
    if listed < found:
        typer.echo(f"the largest {listed:,} of {found:,} {what} are listed; use a higher --limit", err=True)


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
    sums = {
        GapFilter.OPEN: ("missing", [row.missing for row in rows if row.is_open]),
        GapFilter.FILLED: ("filled", [row.missing for row in rows if row.filled_at is not None]),
        GapFilter.ACCEPTED: ("accepted", [row.missing for row in rows if row.accepted_at is not None]),
    }
    for kind, (word, numbers) in sums.items():
        if which is kind or (which is GapFilter.ALL and (numbers or kind is not GapFilter.ACCEPTED)):
            typer.echo(f"{sum(numbers):,} {word} in {format_count(len(numbers), 'range')}", err=True)


_OPEN: Final = ("exchange", "symbol", "session", "first", "last", "missing", "open_for", "cause", "fillable")
_SUMS: Final = ("cause", "exchanges", "symbols", "gaps", "missing", "fillable_until")
_INCIDENTS: Final = ("cause", "exchanges", "symbols", "gaps", "missing", "first_at", "last_at", "fillable_until")
# Without the last number, so that a row fits a terminal of 80 columns.
_FILLED: Final = ("exchange", "symbol", "session", "first", "missing", "open_for", "filled_at")
_ACCEPTED: Final = ("exchange", "symbol", "session", "first", "last", "missing", "accepted_at", "decided_by", "reason")
_TABLES: Final = {
    GapFilter.OPEN: ("Missing", _OPEN),
    GapFilter.FILLED: ("Filled", _FILLED),
    GapFilter.ACCEPTED: ("Accepted", _ACCEPTED),
    GapFilter.ALL: ("Missing and filled", _FILLED),
}


def _cell(row: Gap, name: str) -> object:
    match name:
        case "first":
            return Identifier(row.first_sequence)
        case "last":
            return Identifier(row.last_sequence)
        case "open_for":
            return format_duration(row.open_seconds)
        case "filled_at":
            return "open" if row.is_open else _end(row)
        case "fillable":
            return _fillable(row)
        case "accepted_at":
            return "" if row.accepted_at is None else format_time(row.accepted_at, "minutes")
        case _:
            return getattr(row, name)


def _fillable(row: Gap) -> str:
    """Return until when a gap can be filled: a time, a number of newer trades, or that it is too late."""
    if row.fillable_numbers is not None:
        return f"{row.fillable_numbers:,} numbers" if row.fillable_numbers else "no more"
    if row.fillable_until is None:
        return ""
    return format_time(row.fillable_until, "minutes") if row.fillable_until > datetime.now(UTC) else "no more"


def _end(row: Gap) -> str:
    at = row.filled_at or row.accepted_at
    assert at is not None, "an open gap has no end"
    return f"{'' if row.accepted_at is None or row.filled_at else 'accepted '}{format_time(at, 'minutes')}"
