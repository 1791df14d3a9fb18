"""`k2 corrections`: list the corrections and cancels of trades, and which of them name no stored trade."""

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from k2.cli.console import Json, print_json
from k2.cli.options import End, Exchange, Start, Symbol, parse_span
from k2.cli.result_output import Output, check_output, write_report
from k2.cli.table_output import format_decimal, format_time, print_table
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.query.corrections import ReportedCorrection
from k2.query.corrections import corrections as find_corrections

__all__ = ["corrections"]

_COLUMNS: Final = ("timestamp", "what", "exchange", "symbol", "trade_id", "old_price", "new_price", "trade")


def corrections(
    *,
    exchange: Exchange = None,
    symbol: Symbol = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum rows: the newest corrections.")] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List corrections and cancels of trades, oldest first by venue time.

    A correction may name a trade that is not stored: one that comes later, or that the capture does not have.
    """
    check_output(output)
    found = find_corrections(read_settings(), exchange, symbol, *parse_span(start, end), limit)
    if output is not None:
        write_report(ReportedCorrection, found, output)
    elif as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: Sequence[ReportedCorrection]) -> None:
    rows = [
        [
            format_time(one.timestamp, "microseconds"),
            one.what,
            one.exchange,
            one.symbol,
            one.trade_id,
            *("" if price is None else format_decimal(price) for price in (one.old_price, one.new_price)),
            "stored" if one.names_trade else "not stored",
        ]
        for one in found
    ]
    print_table("Corrections", _COLUMNS, rows)
    unnamed = sum(not one.names_trade for one in found)
    verb = "names" if unnamed == 1 else "name"
    typer.echo(f"{format_count(len(found), 'correction')}, of which {unnamed:,} {verb} no stored trade", err=True)
