"""`k2 check`: compare the trades of a symbol with the venue's own candles."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.certify import parse_day
from k2.cli.console import Json, print_json
from k2.cli.options import parse_name, parse_path
from k2.cli.table_output import format_decimal, format_time, print_table, printable
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.query.candle_check import CandleCheck, CandleDifference, check_candles
from k2.query.candle_files import read_candles
from k2.query.parameters import BarsParameters, make_parameters

__all__ = ["check"]

LISTED_MAX: Final = 100
_COLUMNS: Final = ("start", "value", "venue", "stored")


def check(
    *,
    exchange: Annotated[str, typer.Option(parser=parse_name, help="Exchange of the trades.")],
    against: Annotated[
        Path, typer.Option(parser=parse_path, help="The venue's candles: CSV, zip, or the JSON of its REST interface.")
    ],
    symbol: Annotated[
        str | None, typer.Option(parser=parse_name, help="Symbol; needed if the exchange has several.")
    ] = None,
    day: Annotated[str | None, typer.Option(help="Compare the candles of this day (UTC) only.")] = None,
    interval: Annotated[
        str | None, typer.Option(help="Interval of the candles, such as 1m or 1h; by default as in the file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare trades, volume, high, low, open and close with the venue's candles; exit with code 1 if any differ.

    There is no tolerance. Intervals that contain the first or last stored trade of the symbol, or lie beyond, are left
    out. docs/candles.md lists the forms of candles.
    """
    settings = read_settings()
    bars = make_parameters(BarsParameters, interval=interval) if interval is not None else None
    found = check_candles(
        settings,
        exchange,
        read_candles(against),
        symbol=symbol,
        day=None if day is None else parse_day(day),
        interval=None if bars is None else bars.interval,
    )
    if as_json:
        print_json({**asdict(found), "holds": found.holds})
    else:
        _print(found)
    if not found.holds:
        raise typer.Exit(1)


def _print(found: CandleCheck) -> None:
    if found.differences:
        rows = [[_cell(one, name) for name in _COLUMNS] for one in found.differences[:LISTED_MAX]]
        print_table("Differences", _COLUMNS, rows)
    if len(found.differences) > LISTED_MAX:
        typer.echo(f"{LISTED_MAX} of {len(found.differences):,} are listed; --json lists all", err=True)
    name = f"{printable(found.exchange)} {printable(found.symbol)}"
    intervals = format_count(found.compared, "interval")
    typer.echo(f"{name}: {found.differing:,} of {intervals} of {found.interval_seconds:g} s differ", err=True)
    if not found.compared:
        typer.echo("no interval could be compared; name candles of a day on which trades were stored all day", err=True)
    if found.left_out:
        first, last = (format_time(time) for time in (found.left_out[0], found.left_out[-1]))
        typer.echo(
            f"{format_count(len(found.left_out), 'candle')} at or beyond the first and last stored trade left out, "
            f"from {first} to {last}",
            err=True,
        )


def _cell(one: CandleDifference, name: str) -> object:
    if name == "start":
        return format_time(one.start)
    value = getattr(one, name)
    if value is None:
        return "none"
    return value if isinstance(value, int | str) else format_decimal(value)
