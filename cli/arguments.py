"""What commands take from the command line, refused where it cannot be meant: an unset shell variable is no answer."""

from pathlib import Path

import typer

__all__ = ["given_path", "given_text"]


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
