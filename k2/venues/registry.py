"""A registry of venues whose names are known before their decoders are imported.

Settings and queries need the names alone, and a decoder needs a compiler that takes longer to import than most queries.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

from k2.venues.venue import Venue

__all__ = ["VenueRegistry"]


class VenueRegistry(MutableMapping[str, Venue]):
    """Venues by name; the module that defines a venue is imported when the venue is looked up first."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """Know each venue by its place: `module:constant`."""
        self._venues: dict[str, Venue | str] = {**places}

    def __getitem__(self, name: str) -> Venue:
        venue = self._venues[name]
        if isinstance(venue, str):
            module, _, constant = venue.partition(":")
            loaded: Venue = getattr(import_module(module), constant)
            self._venues[name] = venue = loaded
        return venue

    def __setitem__(self, name: str, venue: Venue) -> None:
        self._venues[name] = venue

    def __delitem__(self, name: str) -> None:
        del self._venues[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a venue of this name, without an import."""
        return name in self._venues

    def __iter__(self) -> Iterator[str]:
        return iter(self._venues)

    def __len__(self) -> int:
        return len(self._venues)
