"""The venues of the built-in tables, and those of the user's tables."""

from pathlib import Path

from k2.venues.table_decoder import venue_of
from k2.venues.table_files import builtin_files, read_table
from k2.venues.venue import Venue

__all__ = ["builtin_venue"]


def builtin_venue(path: Path) -> Venue:
    """Return the venue of a built-in table."""
    return venue_of(read_table(path, builtin_files().get).table)
