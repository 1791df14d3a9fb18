"""`k2 completeness --by feed`: report what each feed brought and lost per symbol and day, and how late it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from k2.cli.console import print_json
from k2.cli.result_output import write_report
from k2.cli.table_output import print_table
from k2.ops.settings import Settings
from k2.query.feeds import FeedDay, by_feed
from k2.query.parameters import QueryParameters

__all__ = ["report_feeds"]

_SUMS: Final = ("exchange", "day", "feed", "brought", "lost_alone", "lost_by_all", "first", "p50", "p90", "p99")
_SYMBOLS: Final = ("exchange", "symbol", "day", "feed", "stored", "brought", "lost_alone", "lost_by_all")


def report_feeds(settings: Settings, parameters: QueryParameters, output: Path | None, *, as_json: bool) -> None:
    """Print one table of the exchanges with the lags of their feeds, and one of the symbols; or write the rows."""
    rows = by_feed(settings, parameters)
    if output is not None:
        write_report(FeedDay, rows, output)
    elif as_json:
        print_json(rows)
    elif rows:
        _print("Feeds", _SUMS, [row for row in rows if row.symbol is None])
        _print("Feeds by symbol", _SYMBOLS, [row for row in rows if row.symbol is not None])
    for sentence in _summary(rows):
        typer.echo(sentence, err=True)


def _print(title: str, columns: Sequence[str], rows: Sequence[FeedDay]) -> None:
    if rows:
        print_table(title, columns, [[_cell(row, name) for name in columns] for row in rows])


def _cell(row: FeedDay, name: str) -> object:
    match name:
        case "first":
            return f"{row.first or 0:,} of {row.compared or 0:,}"
        case "p50" | "p90" | "p99":
            lag = getattr(row, f"lag_{name}_seconds")
            return "" if lag is None else f"{1_000 * lag:,.1f} ms"
        case _:
            return getattr(row, name)


def _summary(rows: Sequence[FeedDay]) -> list[str]:
    if not rows:
        return ["no feed has brought a trade in that selection; K2_FEEDS names the feeds of the job"]
    sums = [row for row in rows if row.symbol is None] or rows
    found = []
    for feed in sorted({row.feed for row in sums}):
        of_feed = [row for row in sums if row.feed == feed]
        brought, alone, by_all = (sum(getattr(row, name) for row in of_feed) for name in _LOSSES)
        found.append(f"feed {feed}: {brought:,} brought, {alone:,} lost that another has, {by_all:,} lost by all")
    return found


_LOSSES: Final = ("brought", "lost_alone", "lost_by_all")
