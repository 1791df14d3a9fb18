"""`k2 plot`: draw candles, completeness, gaps and latency as PNG or SVG files."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from k2.analysis.market_data import open_market_data
from k2.analysis.plots.picture import Picture
from k2.cli.console import Json, print_json
from k2.cli.name_hints import no_trades_reason
from k2.cli.options import End, Exchange, Start, Symbol, parse_path
from k2.cli.result_output import atomic_file
from k2.model.errors import SettingsError
from k2.query.parameters import LIMIT_MAX

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Draw trades and reports as pictures, with times in UTC.")

AsOf = Annotated[str | None, typer.Option(help="Draw the table as of a time or a snapshot id.")]
Interval = Annotated[str | None, typer.Option(help="Set the length of an interval, such as 1s, 5m, 1h or 1d.")]
Worst = Annotated[
    int | None,
    typer.Option(
        min=1, max=LIMIT_MAX, help="Draw this many symbols, those with the most missing numbers (default 50)."
    ),
]
Output = Annotated[Path, typer.Option("--output", parser=parse_path, help="Write to this .png or .svg file.")]


@app.command()
def candles(
    *,
    output: Output,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    interval: Interval = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Draw candles of one symbol, with the volume below.

    Without --interval, it is one that gives up to 150 candles.
    """
    fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
    _draw("candles", output, {**fields, "interval": interval}, as_json=as_json)


@app.command()
def completeness(
    *,
    output: Output,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    by: Annotated[
        Literal["day", "hour"] | None,
        typer.Option(help="Draw a column by day or by hour (default: hour, up to 7 days)."),
    ] = None,
    worst: Worst = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Draw a heat map of completeness by symbol and time.

    It is the stored share of the expected trades.
    """
    fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
    _draw("completeness", output, {**fields, "by": by, "worst": worst}, as_json=as_json)


@app.command()
def gaps(
    *,
    output: Output,
    exchange: Exchange = None,
    symbol: Symbol = None,
    worst: Worst = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Draw a timeline of the gaps of each symbol.

    It has those that are open and those that late trades filled.

    Times are by the job's clock, as in k2 gaps.
    """
    fields = {"exchange": exchange, "symbol": symbol, "worst": worst, "as_of": as_of}
    _draw("gaps", output, fields, as_json=as_json)


@app.command()
def latency(
    *,
    output: Output,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    interval: Interval = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Draw the latency of feeds by exchange.

    It is the time from a trade's venue time until it was in Kafka, and until it was received.
    """
    fields = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
    _draw("latency", output, {**fields, "interval": interval}, as_json=as_json)


def _draw(name: str, output: Path, fields: dict[str, Any], *, as_json: bool) -> None:
    form = _picture_format(output)
    with open_market_data() as market:
        picture: Picture = getattr(market.plot, name)(**fields)
        with atomic_file(output) as stream:
            picture.write(stream, form)
        if picture.note is not None:
            reason = no_trades_reason(market.settings, fields["exchange"], fields["symbol"])
            typer.echo(reason or picture.note, err=True)
    if as_json:
        print_json({"output": output, "title": picture.title, "empty": picture.note is not None})
    typer.echo(f"{picture.title} in {output}", err=True)


def _picture_format(output: Path) -> Literal["png", "svg"]:
    match output.suffix.lower():
        case ".png":
            return "png"
        case ".svg":
            return "svg"
        case _:
            raise SettingsError(f"--output {output}: its name must end with .png or .svg")
