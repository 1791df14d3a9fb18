"""Rows of a report as people read them."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

__all__ = ["Name", "print_table", "printable", "spell_count", "spell_seconds", "spell_time"]

_TEXT_WIDTH_MIN: Final = 16
"""A longer text may be folded to so many characters, and to no fewer."""


_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Name(int):
    """A number that only names something: shown without commas, as other tools want it."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to stdout, numbers to the right; data is shown as it is, never as markup.

    Where it does not fit the terminal's width a row is printed as its fields, one below the other; a file has no width.
    """
    shown = [list(row) for row in rows]
    names = [column.replace("_", " ") for column in columns]
    console = Console(markup=False, highlight=False)
    table = _table(names, shown)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _width(table)
    if _width(_table(names, [[_folded(value) for value in row] for row in shown])) <= console.width:
        console.print(title, style="table.title", soft_wrap=True)
        console.print(table)
    else:
        _print_fields(title, names, shown)


def _width(table: Table) -> int:
    """Return the width at which nothing is folded."""
    endless = Console(width=sys.maxsize)
    return Measurement.get(endless, endless.options, table).maximum


def _folded(value: object) -> object:
    return value if isinstance(value, int | float) else str(value or "")[:_TEXT_WIDTH_MIN]


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, name in enumerate(names):
        numeric = all(isinstance(row[place], int | float) and not isinstance(row[place], bool) for row in rows)
        width = max(map(len, name.split()))
        table.add_column(
            name, justify="right" if numeric else "left", overflow="fold", min_width=width, no_wrap=numeric
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _print_fields(title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    width = max(map(len, names))
    typer.echo(title)
    for row in rows:
        typer.echo("")
        for name, value in zip(names, row, strict=True):
            typer.echo(f"{name:<{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return printable(str("" if value is None else value))


def printable(text: str) -> str:
    """Return a text that came in a message, so that it does not steer the terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def spell_count(count: int, one: str) -> str:
    """Return so many of what is named.

    >>> [spell_count(count, "range") for count in (0, 1, 1_000)]
    ['0 ranges', '1 range', '1,000 ranges']
    """
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def spell_seconds(seconds: float) -> str:
    """Return a length of time in few characters.

    >>> [spell_seconds(seconds) for seconds in (0, 0.25, 59, 90, 5400, 200_000)]
    ['0 s', '0.2 s', '59 s', '1.5 min', '1.5 h', '2.3 d']
    """
    for unit_seconds, unit in _UNITS:
        if seconds >= unit_seconds:
            return f"{seconds / unit_seconds:.1f} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def spell_time(time: datetime, unit: str = "seconds") -> str:
    """Return a time to the second, or another unit of ISO 8601, UTC.

    >>> spell_time(datetime(2024, 8, 9, 12, 0, 1, tzinfo=UTC), "minutes")
    '2024-08-09 12:00'
    """
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", unit)
