"""Query commands: trades, symbols, bars, average prices, and free SQL."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from k2.cli.console import Json
from k2.cli.name_hints import no_trades_reason
from k2.cli.options import End, Exchange, Start, Symbol
from k2.cli.result_output import Output, output_rows, query_limit
from k2.ops.settings import read_settings
from k2.query import query_builders
from k2.query.market import open_market
from k2.query.parameters import as_of_from_text
from k2.query.query_builders import TradesQuery

__all__ = ["latest", "ohlcv", "sql", "symbols", "trades", "twap", "vwap"]

Limit = Annotated[int | None, typer.Option(min=1, help="Maximum rows; a table shows 100 by default.")]
AsOf = Annotated[str | None, typer.Option(help="Query the table as of a time or a snapshot id.")]
Bar = Annotated[str, typer.Option(help="Set the length of a bar: 500ms, 1s, 5m, 1h, 1d, 1w.")]
Interval = Annotated[
    str | None, typer.Option(help="Group by interval: 500ms, 1s, 5m, 1h, 1d, 1w; by default all together.")
]

QueryBuilder = Callable[..., TradesQuery]
_TRADE_COLUMNS: Final = ("exchange", "symbol", "timestamp", "sequence", "side", "price", "quantity")
"""Columns of the tables for people; a file or JSON has all columns."""


def _rows_command(
    title: str, build_query: QueryBuilder, help_text: str, columns: Sequence[str] | None = None
) -> Callable[..., None]:
    """Make a command that queries rows, with this help text."""

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
        parameters = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        _run(title, build_query, parameters, limit, output, as_json=as_json, columns=columns)

    command.__doc__ = help_text
    return command


def _prices_command(title: str, build_query: QueryBuilder, help_text: str) -> Callable[..., None]:
    """Make a command that queries average prices, with this help text."""

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
        parameters = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
        _run(title, build_query, {**parameters, "interval": interval}, limit, output, as_json=as_json)

    command.__doc__ = help_text
    return command


def trades(
    *,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    limit: Limit = None,
    as_of: AsOf = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Leave out cancelled trades, and put corrected values in place.")
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List trades, oldest first by venue time."""
    parameters = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "as_of": as_of}
    columns = (*_TRADE_COLUMNS, "correction") if corrected else _TRADE_COLUMNS
    build = partial(query_builders.trades, corrected=corrected)
    _run(
        "Corrected trades" if corrected else "Trades",
        build,
        parameters,
        limit,
        output,
        as_json=as_json,
        columns=columns,
    )


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
    """Show bars with open, high, low, close, volume and average price; bars without trades are left out."""
    parameters = {
        "exchange": exchange,
        "symbol": symbol,
        "start": start,
        "end": end,
        "as_of": as_of,
        "interval": interval,
    }
    _run(f"Bars of {interval}", query_builders.ohlcv, parameters, limit, output, as_json=as_json)


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT statement in DuckDB's SQL.")],
    *,
    limit: Limit = None,
    as_of: AsOf = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Run a SELECT over trades, sequence_events, commits, corrections and dead_letters; nothing else can be read."""
    query_limit(limit, output, as_json=as_json)
    version = None if as_of is None else as_of_from_text(as_of)
    with open_market(read_settings()) as market, market.sql(query, version) as rows:
        output_rows("Result", rows if limit is None else rows.first(limit), limit, output, as_json=as_json)


def _run(
    title: str,
    build_query: QueryBuilder,
    parameters: dict[str, Any],
    limit: int | None,
    output: Path | None,
    *,
    as_json: bool,
    columns: Sequence[str] | None = None,
) -> None:
    query = build_query(**parameters, limit=query_limit(limit, output, as_json=as_json))
    settings = read_settings()
    with open_market(settings) as market, market.rows(query) as rows:
        count = output_rows(title, rows, limit, output, as_json=as_json, columns=columns)
    if not count and (reason := no_trades_reason(settings, parameters["exchange"], parameters["symbol"])):
        typer.echo(reason, err=True)


symbols = _rows_command(
    "Symbols", query_builders.symbols, "List exchanges and symbols with the number of their trades."
)
latest = _rows_command(
    "Latest trades", query_builders.latest, "Show the latest trade of each symbol, by venue time.", _TRADE_COLUMNS
)
vwap = _prices_command(
    "Prices weighted by quantity", query_builders.vwap, "Show each symbol's average price, weighted by quantity."
)
twap = _prices_command(
    "Prices weighted by time",
    query_builders.twap,
    "Show each symbol's average price, weighted by how long it held, up to the next trade or --end.",
)
