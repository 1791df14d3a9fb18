"""Options that several commands share, and parsers of their values.

Empty values are refused, since they usually come from an unset shell variable.
"""

import getpass
import socket
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from k2.model.errors import SettingsError
from k2.query.engine import QueryError
from k2.query.parameters import AsOf, as_of_from_text, time_from_text

__all__ = [
    "End",
    "Exchange",
    "Start",
    "Symbol",
    "parse_as_of",
    "parse_name",
    "parse_path",
    "parse_span",
    "parse_time_option",
    "user_at_host",
]


def user_at_host() -> str:
    """Return who runs the command, for records that say who decided something."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def parse_path(text: str) -> Path:
    """Parse the path of a file or folder; an empty one would mean the working folder."""
    if not text:
        raise typer.BadParameter("is empty")
    return Path(text)


def parse_name(text: str) -> str:
    """Parse a name to search for: not empty, and UTF-8 like all names in the tables."""
    if not text:
        raise typer.BadParameter("is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("is not UTF-8") from None
    return text


def parse_time_option(option: str, text: str) -> datetime:
    """Parse a time in any form that the reports print, or a day as its start; without a zone it is UTC.

    Raises:
        SettingsError: If it is neither; the message names the option.
    """
    try:
        return time_from_text(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text!r}: not a time; use RFC 3339, such as 2024-08-09T12:00:00Z") from error


def parse_as_of(text: str) -> AsOf:
    """Parse `--as-of`: a time, or the id of a snapshot.

    Raises:
        SettingsError: If it is neither.
    """
    try:
        return as_of_from_text(text)
    except QueryError as error:
        raise SettingsError(
            f"--as-of {text!r}: not a time or a snapshot id; use RFC 3339, such as 2024-08-09T12:00:00Z, or an id"
        ) from error


def parse_span(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """Parse `--start` (inclusive) and `--end` (exclusive).

    Raises:
        SettingsError: If one is not a time, or start is not before end.
    """
    first = None if start is None else parse_time_option("--start", start)
    until = None if end is None else parse_time_option("--end", end)
    if first is not None and until is not None and first >= until:
        raise SettingsError(f"--start {start!r} is not before --end {end!r}; use an earlier start")
    return first, until


Exchange = Annotated[str | None, typer.Option(parser=parse_name, help="Filter by exchange.")]
Symbol = Annotated[str | None, typer.Option(parser=parse_name, help="Filter by symbol.")]
Start = Annotated[str | None, typer.Option(help="Start of the venue times, inclusive: RFC 3339 or a day.")]
End = Annotated[str | None, typer.Option(help="End of the venue times, exclusive.")]
