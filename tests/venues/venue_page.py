"""The table of venues in `docs/venues.md`: `python -m tests.venues.venue_page` prints it."""

import sys
from typing import Final

from k2.venues import VENUES
from k2.venues.table import VenueTable

__all__ = ["table"]

COLUMNS: Final = ("Venue", "Exchange", "Numbering", "Number", "Id", "Time", "Side", "Snapshot on subscribing")
UNITS: Final = {"ms_or_us": "ms or µs", "us": "µs", "rfc3339": "RFC 3339"}


def table() -> str:
    """Return the table in Markdown: a row for each built-in table."""
    head = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    return head + "".join(_row(one) for name in VENUES.tables if (one := VENUES.table_of(name)))


def _row(one: VenueTable) -> str:
    number = "" if one.sequence is None else f"`{one.sequence.path}`"
    if one.first_sequence is not None:
        number = f"`{one.first_sequence.path}` to {number}"
    elif one.count is not None:
        number = f"`{one.count.path}` up to {number}"
    identity = _identity(one)
    cells = [
        f"[`{one.name}`]({one.source})",
        f"`{one.exchange}`" if isinstance(one.exchange, str) else f"`{one.exchange.path}`",
        one.numbering.replace("_", " "),
        number,
        "" if one.numbering == "none" else identity,
        UNITS.get(one.time.unit, one.time.unit),
        _side(one),
        "yes" if any(form.repeats for form in one.messages) else "",
    ]
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")


def _identity(one: VenueTable) -> str:
    if one.trade_id is None:
        return "the number"
    if isinstance(one.trade_id, list):
        return ", ".join("day" if part.path is None else f"`{part.path}`" for part in one.trade_id)
    return f"`{one.trade_id.path}`"


def _side(one: VenueTable) -> str:
    if one.side is None:
        return ""
    return "from the sign" if one.side.by_sign else "from the maker's" if one.side.of == "maker" else "the taker's"


if __name__ == "__main__":
    sys.stdout.write(table())
