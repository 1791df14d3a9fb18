"""What commands take from the command line, refused where it cannot be meant: an unset shell variable is no answer."""

from datetime import datetime
from pathlib import Path

import typer

from k2.model.errors import SettingsError
from k2.query.engine import QueryError
from k2.query.parameters import AsOf, as_of_in, time_in

__all__ = ["given_as_of", "given_path", "given_span", "given_text", "given_time"]


def given_path(text: str) -> Path:
    """Read the name of a file or folder; an empty one would be the working folder."""
    if not text:
        raise typer.BadParameter("is empty")
    return Path(text)


def given_text(text: str) -> str:
    """Read a name to look for: not empty, and UTF-8 as all names in the tables are."""
    if not text:
        raise typer.BadParameter("is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("is not UTF-8") from None
    return text


def given_time(option: str, text: str) -> datetime:
    """Read a time, as the reports print it too, or a day for its begin; without a zone it is UTC.

    Raises:
        SettingsError: it is neither; the sentence names the option.
    """
    try:
        return time_in(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text!r}: not a time such as 2024-08-09T12:00:00Z") from error


def given_as_of(text: str) -> AsOf:
    """Read `--as-of`: a time likewise, or the id of a snapshot.

    Raises:
        SettingsError: it is neither.
    """
    try:
        return as_of_in(text)
    except QueryError as error:
        raise SettingsError(
            f"--as-of {text!r}: not a time such as 2024-08-09T12:00:00Z, nor the id of a snapshot"
        ) from error


def given_span(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """Read `--start` and `--end`: from the first on, before the second.

    Raises:
        SettingsError: one is no time, or nothing lies between them.
    """
    first = None if start is None else given_time("--start", start)
    until = None if end is None else given_time("--end", end)
    if first is not None and until is not None and first >= until:
        raise SettingsError(f"--start {start!r} is not before --end {end!r}, so nothing lies between them")
    return first, until
