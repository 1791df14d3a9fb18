"""`k2 gaps`: sequence numbers that are missing, and those that came late."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from k2.cli.console import Json, say_json
from k2.cli.options import given_as_of, given_text
from k2.cli.result_output import Output, check_output, save_records
from k2.cli.table_output import Name, print_table, spell_count, spell_seconds, spell_time
from k2.model.errors import SettingsError
from k2.ops.settings import read_settings
from k2.query.gaps import Gap, Which, is_known
from k2.query.gaps import gaps as find_gaps
from k2.query.parameters import AsOf

__all__ = ["gaps"]


def gaps(
    *,
    exchange: Annotated[str | None, typer.Option(parser=given_text, help="Only of an exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(parser=given_text, help="Only of a symbol.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="What was known then: a time such as 2024-08-09T12:00:00Z, or a commit's id.")
    ] = None,
    filled: Annotated[bool, typer.Option("--filled", help="Those that late trades filled, not those open.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Open and filled ones.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List each range of sequence numbers that is missing now, or was at a time, and how long each has been open.

    Times are those at which the job saw it: a gap opens with the commit that tells of it, and is filled with another.
    """
    settings = read_settings()
    if filled and everything:
        raise SettingsError("--filled and --all: say one of the two")
    check_output(output)
    which = Which.ALL if everything else Which.FILLED if filled else Which.OPEN
    asked = (exchange, symbol, None if as_of is None else given_as_of(as_of))
    rows = find_gaps(settings, *asked, which)
    if output is not None:
        save_records(Gap, rows, output)
    elif as_json:
        say_json(rows)
    else:
        _show(rows, which)
    if not rows and not is_known(settings, *asked):
        typer.echo(_why_none(*asked), err=True)


def _why_none(exchange: str | None, symbol: str | None, as_of: AsOf | None) -> str:
    names = " and ".join(repr(name) for name in (exchange, symbol) if name)
    when = "was known by then" if as_of else "is known"
    return f"no numbering without holes{' of ' if names else ''}{names} {when}, so no number can be missing"


def _show(rows: Sequence[Gap], which: Which) -> None:
    if which is Which.OPEN:
        print_table("Missing", _OPEN, [[_cell(row, name) for name in _OPEN] for row in rows])
    else:
        title = "Filled" if which is Which.FILLED else "Missing and filled"
        print_table(title, _FILLED, [[_cell(row, name) for name in _FILLED] for row in rows])
    missing = [row.missing for row in rows if row.filled_at is None]
    late = [row.missing for row in rows if row.filled_at is not None]
    if which is not Which.FILLED:
        typer.echo(f"{sum(missing):,} missing in {spell_count(len(missing), 'range')}", err=True)
    if which is not Which.OPEN:
        typer.echo(f"{sum(late):,} filled in {spell_count(len(late), 'range')}", err=True)


_OPEN: Final = ("exchange", "symbol", "session", "first", "last", "missing", "open_for")
# The last number would be one column too many for a terminal.
_FILLED: Final = ("exchange", "symbol", "session", "first", "missing", "open_for", "filled_at")


def _cell(row: Gap, name: str) -> object:
    match name:
        case "first":
            return Name(row.first_sequence)
        case "last":
            return Name(row.last_sequence)
        case "open_for":
            return spell_seconds(row.open_seconds)
        case "filled_at":
            return "open" if row.filled_at is None else spell_time(row.filled_at, "minutes")
        case _:
            return getattr(row, name)
