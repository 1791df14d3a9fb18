"""`k2 completeness`: of each symbol and day, what is expected, stored and missing, and which numbering is in doubt."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final

import typer

from k2.cli.console import Json, say_json
from k2.cli.heat_map import print_heat
from k2.cli.options import given_as_of, given_span, given_text
from k2.cli.result_output import Output, check_output, save_records
from k2.cli.table_output import print_table, printable, spell_count
from k2.ops.settings import Settings, read_settings
from k2.query.completeness import Asked, Day, Hour, by_day, by_hour, is_stored

__all__ = ["completeness"]

HEAT_DAYS_MAX: Final = 7
"""Of so many of the newest days the strip is shown where no others are asked for."""
NAMED_MAX: Final = 5
"""Number of symbols in doubt that are listed by name."""
COLUMNS: Final = ("exchange", "symbol", "day", "stored", "missing", "percent", "conflicts", "sessions")
"""What is expected is stored + missing, and would be one column too many for a terminal."""
IN_DOUBT: Final = "?"


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

    A missing number counts for the time between its stored neighbours; see docs/tables.md. Conflicts are dead letters
    whose number is stored with other content; sessions are the numberings that started on the day. A row marked ? has
    conflicts or more than one session, so that its numbering is in doubt.
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
        print_heat([row for row in rows if isinstance(row, Hour)], in_doubt=_in_doubt(days))
    else:
        print_table("Completeness", COLUMNS, [_cells(row) for row in days])
    for sentence in _summary(days) if days else [_why_none(settings, asked)]:
        typer.echo(sentence, err=True)
    known = {row.day for row in days}
    if heat and asked.start is None and len(known) > HEAT_DAYS_MAX:
        typer.echo(f"the newest {HEAT_DAYS_MAX} of {len(known):,} days by hour; --start asks for more", err=True)


def _shown(asked: Asked, days: Sequence[Day]) -> Asked:
    """Return what is asked for with the days that the strip is of."""
    newest = sorted({row.day for row in days})[-HEAT_DAYS_MAX:]
    first, until = (datetime.combine(day, time(), UTC) for day in (newest[0], newest[-1]))
    days_of = {"start": asked.start or first, "end": asked.end or until + timedelta(days=1)}
    return asked.model_copy(update=days_of)


def _cells(row: Day) -> list[object]:
    # As wide as 100, so that the points stand below one another; and the marks do.
    percent = "" if row.percent is None else f"{row.percent:8.4f}"
    sessions = f"{row.sessions:>6,} {IN_DOUBT if row.numbering_in_doubt else ' '}"
    return [row.exchange, row.symbol, row.day, row.stored, row.missing, percent, row.conflicts, sessions]


def _in_doubt(days: Sequence[Day]) -> Mapping[tuple[str, str], list[Day]]:
    """Return the days of each symbol in doubt."""
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
        named = [_doubt(*name, rows) for name, rows in symbols.items()][:NAMED_MAX]
        more = f"; and {len(symbols) - NAMED_MAX:,} more" if len(symbols) > NAMED_MAX else ""
        yield (
            f"the numbering of {spell_count(len(symbols), 'symbol')} is in doubt: {'; '.join(named)}{more}. "
            "Their trades may be set aside or stored twice although no number is missing: look at "
            "k2 dlq list --reason conflict and k2 gaps --all"
        )


def _doubt(exchange: str, symbol: str, rows: Sequence[Day]) -> str:
    conflicts = spell_count(sum(row.conflicts for row in rows), "conflict")
    sessions = spell_count(sum(row.sessions for row in rows), "session")
    days = spell_count(sum(row.stored > 0 for row in rows), "day")
    return f"{printable(exchange)} {printable(symbol)} ({conflicts}, {sessions} in {days} with trades)"


def _why_none(settings: Settings, asked: Asked) -> str:
    if not is_stored(settings):
        return "nothing is stored yet, so nothing is expected"
    names = [name for name in (asked.exchange, asked.symbol) if name]
    if names and not is_stored(settings, asked.exchange, asked.symbol):
        return f"no trade of {' and '.join(map(repr, names))} was ever stored"
    return "no trade was in the table by then" if asked.as_of else "no trade lies in that time"
