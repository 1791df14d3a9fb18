"""The commands that ask for trades: rows, symbols, bars, average prices, and free SQL."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from k2.cli.console import Json
from k2.cli.options import given_text
from k2.cli.result_output import Output, say_rows, shown_limit
from k2.ops.settings import read_settings
from k2.query import query_builders
from k2.query.market import open_market
from k2.query.parameters import as_of_in
from k2.query.query_builders import Question

__all__ = ["latest", "ohlcv", "sql", "symbols", "trades", "twap", "vwap"]

Exchange = Annotated[str | None, typer.Option(parser=given_text, help="Only of an exchange.")]
Symbol = Annotated[str | None, typer.Option(parser=given_text, help="Only of a symbol.")]
Start = Annotated[str | None, typer.Option(help="Venue times from this on: RFC 3339, or a day.")]
End = Annotated[str | None, typer.Option(help="Venue times before this.")]
Limit = Annotated[int | None, typer.Option(min=1, help="So many rows at the most; a table shows 100 by default.")]
AsOf = Annotated[str | None, typer.Option(help="The table as of then: a time, or the id of a snapshot.")]
Bar = Annotated[str, typer.Option(help="Length of a bar: 500ms, 1s, 5m, 1h, 1d, 1w.")]
Interval = Annotated[str | None, typer.Option(help="By intervals: 500ms, 1s, 5m, 1h, 1d, 1w; all together by default.")]

Ask = Callable[..., Question]
_OF_A_TRADE: Final = ("exchange", "symbol", "timestamp", "sequence", "side", "price", "quantity")
"""What people look for; a file or JSON has all columns."""


def _rows(title: str, question: Ask, what: str, columns: Sequence[str] | None = None) -> Callable[..., None]:
    """Make a command that asks for rows; `what` is its help."""

    def command(
        *,
        exchange: Exchange = None,
        symbol: Symbol = None,
        start: Start = None,
        end: End = None,
        limit: Limit = None,
        as_of: AsOf = None,
        output: Output = None,
        as_json: Json = False,
    ) -> None:
        asked = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        _answer(title, question, asked, limit, output, as_json=as_json, columns=columns)

    command.__doc__ = what
    return command


def _prices(title: str, question: Ask, what: str) -> Callable[..., None]:
    """Make a command that asks for average prices; `what` is its help."""

    def command(
        *,
        exchange: Exchange = None,
        symbol: Symbol = None,
        start: Start = None,
        end: End = None,
        interval: Interval = None,
        limit: Limit = None,
        as_of: AsOf = None,
        output: Output = None,
        as_json: Json = False,
    ) -> None:
        asked = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        _answer(title, question, {**asked, "interval": interval}, limit, output, as_json=as_json)

    command.__doc__ = what
    return command


def ohlcv(
    *,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    interval: Bar = "1m",
    limit: Limit = None,
    as_of: AsOf = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Show bars: open, high, low, close, volume and average price. One without trades is left out."""
    asked = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of, "interval": interval}
    _answer(f"Bars of {interval}", query_builders.ohlcv, asked, limit, output, as_json=as_json)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, in DuckDB's SQL.")],
    *,
    limit: Limit = None,
    as_of: AsOf = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Answer a SELECT over the tables trades, sequence_events, commits and dead_letters; nothing else can be read."""
    shown_limit(limit, output, as_json=as_json)
    then = None if as_of is None else as_of_in(as_of)
    with open_market(read_settings()) as market, market.sql(query, then) as rows:
        say_rows("Answer", rows if limit is None else rows.first(limit), limit, output, as_json=as_json)


def _answer(
    title: str,
    question: Ask,
    asked: dict[str, Any],
    limit: int | None,
    output: Path | None,
    *,
    as_json: bool,
    columns: Sequence[str] | None = None,
) -> None:
    asked_for = question(**asked, limit=shown_limit(limit, output, as_json=as_json))
    with open_market(read_settings()) as market, market.rows(asked_for) as rows:
        say_rows(title, rows, limit, output, as_json=as_json, columns=columns)


symbols = _rows("Symbols", query_builders.symbols, "List each exchange and symbol, with the number of its trades.")
trades = _rows("Trades", query_builders.trades, "List trades, the oldest first by venue time.", _OF_A_TRADE)
latest = _rows(
    "Latest trades", query_builders.latest, "Show the latest trade of each symbol, by venue time.", _OF_A_TRADE
)
vwap = _prices(
    "Prices weighted by quantity", query_builders.vwap, "Show each symbol's average price, weighted by quantity."
)
twap = _prices(
    "Prices weighted by time",
    query_builders.twap,
    "Show each symbol's average price, weighted by how long it held: to the next trade, or to --end.",
)
