"""`k2 completeness`: of each symbol and day, what is expected, stored and missing."""

from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final

import typer

from cli.answers import Output, check_output, save_records
from cli.arguments import given_as_of, given_span, given_text
from cli.console import Json, say_json
from cli.heat import print_heat
from cli.rows import print_table
from query.completeness import Asked, Day, Hour, by_day, by_hour, is_stored
from runtime.settings import Settings, read_settings

__all__ = ["completeness"]

HEAT_DAYS_MAX: Final = 7
"""Of so many of the newest days the strip is shown where no others are asked for."""


def completeness(
    *,
    exchange: Annotated[str | None, typer.Option(parser=given_text, help="Only of an exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(parser=given_text, help="Only of a symbol.")] = None,
    start: Annotated[str | None, typer.Option(help="Venue times from this on: RFC 3339, or a day.")] = None,
    end: Annotated[str | None, typer.Option(help="Venue times before this.")] = None,
    as_of: Annotated[str | None, typer.Option(help="What was in the table then: a time, or a commit's id.")] = None,
    heat: Annotated[bool, typer.Option("--heat", help="Show a strip by symbol and hour.")] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Hold, of each symbol and day (UTC), the trades stored against those that the venue's numbers tell of.

    A missing number counts for the time between its stored neighbours; see docs/tables.md.
    """
    settings = read_settings()
    check_output(output)
    first, until = given_span(start, end)
    then = None if as_of is None else given_as_of(as_of)
    asked = Asked(exchange=exchange, symbol=symbol, start=first, end=until, as_of=then)
    days = by_day(settings, asked)
    rows: Sequence[Day | Hour] = by_hour(settings, _shown(asked, days)) if heat and days else days
    if output is not None:
        save_records(Hour if heat else Day, rows, output)
    elif as_json:
        say_json(rows)
    elif heat:
        print_heat([row for row in rows if isinstance(row, Hour)])
    else:
        print_table("Completeness", [field.name for field in fields(Day)], [_cells(row) for row in days])
    typer.echo(_sum(days) if days else _why_none(settings, asked), err=True)
    known = {row.day for row in days}
    if heat and asked.start is None and len(known) > HEAT_DAYS_MAX:
        typer.echo(f"the newest {HEAT_DAYS_MAX} of {len(known):,} days by hour; --start asks for more", err=True)


def _shown(asked: Asked, days: Sequence[Day]) -> Asked:
    """Give what is asked for with the days that the strip is of."""
    newest = sorted({row.day for row in days})[-HEAT_DAYS_MAX:]
    first, until = (datetime.combine(day, time(), UTC) for day in (newest[0], newest[-1]))
    days_of = {"start": asked.start or first, "end": asked.end or until + timedelta(days=1)}
    return asked.model_copy(update=days_of)


def _cells(row: Day) -> list[object]:
    # As wide as 100, so that the points stand below one another.
    return [f"{cell:8.4f}" if isinstance(cell, float) else cell for cell in astuple(row)]


def _sum(days: Sequence[Day]) -> str:
    expected, missing = (sum(getattr(row, name) for row in days) for name in ("expected", "missing"))
    complete = sum(not row.missing for row in days)
    return (
        f"{expected - missing:,} stored of {expected:,} expected, {missing:,} missing; "
        f"{complete:,} of {len(days):,} rows complete"
    )


def _why_none(settings: Settings, asked: Asked) -> str:
    if not is_stored(settings):
        return "nothing is stored yet, so nothing is expected"
    names = [name for name in (asked.exchange, asked.symbol) if name]
    if names and not is_stored(settings, asked.exchange, asked.symbol):
        return f"no trade of {' and '.join(map(repr, names))} was ever stored"
    return "no trade was in the table by then" if asked.as_of else "no trade lies in that time"
