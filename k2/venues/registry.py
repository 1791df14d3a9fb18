"""A registry of venues whose names are known before their decoders are imported and their tables read.

Settings and queries need the names alone, and a decoder needs a compiler that takes longer to import than most queries.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from k2.venues.venue import Venue

__all__ = ["VenueRegistry"]


class VenueRegistry(MutableMapping[str, Venue]):
    """Venues by name: those in code, built-in tables, and over them the tables of the user (`K2_VENUES`).

    A venue is loaded when it is looked up first.
    """

    def __init__(
        self,
        places: Mapping[str, str] | None = None,
        tables: Mapping[str, Path] | None = None,
        kernels: Mapping[str, str] | None = None,
    ) -> None:
        """Know venues in code by their places, `module:constant`, and tables by their files.

        `kernels` has the places of the compiled decoders of tables.
        """
        self._venues: dict[str, Venue | str | Path] = {**(places or {}), **(tables or {})}
        self._kernels = {**(kernels or {})}
        self._user: dict[str, Venue] = {}

    def use(self, venues: Mapping[str, Venue]) -> None:
        """Replace the venues of the user."""
        self._user = {**venues}

    @property
    def builtin(self) -> frozenset[str]:
        """The names of the venues that are not the user's, also of those that the user replaces."""
        return frozenset(self._venues)

    def __getitem__(self, name: str) -> Venue:
        if name in self._user:
            return self._user[name]
        venue = self._venues[name]
        if isinstance(venue, str):
            venue = _load(venue)
            self._venues[name] = venue
        elif isinstance(venue, Path):
            from k2.venues.builtin import builtin_venue  # noqa: PLC0415  names need no decoder

            venue = builtin_venue(venue)
            if name in self._kernels:
                venue = replace(venue, decode_compiled=_load(self._kernels[name]))
            self._venues[name] = venue
        assert isinstance(venue, Venue)
        return venue

    def __setitem__(self, name: str, venue: Venue) -> None:
        self._venues[name] = venue

    def __delitem__(self, name: str) -> None:
        del self._venues[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a venue of this name, without an import."""
        return name in self._user or name in self._venues

    def __iter__(self) -> Iterator[str]:
        return iter({**self._venues, **self._user})

    def __len__(self) -> int:
        return len({**self._venues, **self._user})


def _load(place: str) -> Any:
    module, _, constant = place.partition(":")
    return getattr(import_module(module), constant)
