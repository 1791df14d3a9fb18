"""Tables, numbers and times in the form that people read."""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import MAX_PREC, Context, Decimal
from typing import Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

__all__ = ["Identifier", "format_decimal", "format_duration", "format_time", "print_table", "printable"]

_TEXT_WIDTH_MIN: Final = 16
"""Characters to which a longer text may be folded."""
_EXACT: Final = Context(prec=MAX_PREC)
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Identifier(int):
    """Number that is an identifier: shown without commas, so that it can be pasted into other tools."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to stdout, with numbers right-aligned and without interpreting data as markup.

    If the table does not fit the width of the terminal, print each row as one field per line. A file has no width.
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
    unlimited = Console(width=sys.maxsize)
    return Measurement.get(unlimited, unlimited.options, table).maximum


def _folded(value: object) -> object:
    return value if isinstance(value, int | float) else str(value or "")[:_TEXT_WIDTH_MIN]


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column_idx, name in enumerate(names):
        values = [row[column_idx] for row in rows]
        numeric = all(
            value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
        )
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
    if isinstance(value, Identifier):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return printable(str("" if value is None else value))


def printable(text: str) -> str:
    """Return a text from a message with its control characters replaced, so that it cannot control the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def format_decimal(value: Decimal) -> str:
    """Return all digits of a decimal, without an exponent and without trailing zeros.

    >>> format_decimal(Decimal("12345678901234567890.123456789012345670"))
    '12345678901234567890.12345678901234567'
    """
    return f"{value.normalize(_EXACT):f}"


def format_duration(seconds: float) -> str:
    """Return a duration in a short form.

    >>> [format_duration(seconds) for seconds in (0, 0.25, 59, 90, 5400, 200_000)]
    ['0 s', '0.2 s', '59 s', '1.5 min', '1.5 h', '2.3 d']
    """
    for unit_seconds, unit in _UNITS:
        if seconds >= unit_seconds:
            return f"{seconds / unit_seconds:.1f} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def format_time(time: datetime, unit: str = "seconds") -> str:
    """Return a time in UTC to the second, or to another unit of `datetime.isoformat`.

    >>> format_time(datetime(2024, 8, 9, 12, 0, 1, tzinfo=UTC), "minutes")
    '2024-08-09 12:00'
    """
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", unit)
