"""The venues by name: the canonical message in code, every other as a table of the folder `tables`."""

from pathlib import Path
from typing import Final

from k2.venues.registry import VenueRegistry
from k2.venues.venue import SequenceMode, Venue

__all__ = ["VENUES", "SequenceMode", "Venue"]

_TABLES: Final = Path(__file__).parent / "tables"
"""Each file has the name of its venue."""

VENUES: Final = VenueRegistry(
    {
        "k2": "k2.venues.k2:K2",
        "k2-monotonic": "k2.venues.k2:K2_MONOTONIC",
        "k2-identity-only": "k2.venues.k2:K2_IDENTITY_ONLY",
    },
    tables={name: _TABLES / f"{name}.toml" for name in sorted(path.stem for path in _TABLES.glob("*.toml"))},
)
