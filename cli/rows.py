"""Rows of a report as people read them."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = ["print_table"]


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to stdout, numbers to the right; data is shown as it is, never as markup."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = all(isinstance(row[place], int | float) and not isinstance(row[place], bool) for row in shown)
        header = column.replace("_", " ")
        width = max(map(len, header.split()))
        table.add_column(
            header, justify="right" if numeric else "left", overflow="fold", min_width=width, no_wrap=numeric
        )
    for row in shown:
        table.add_row(*map(_cell, row))
    Console(markup=False, highlight=False).print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    # what came in a message must not steer the terminal
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(value or ""))
