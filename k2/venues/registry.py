"""A registry of venues whose names are known before their decoders are imported and their tables read.

Settings and queries need the names alone, and a decoder needs a compiler that takes longer to import than most queries.
"""

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2.model.wording import closest
from k2.venues.venue import Venue

if TYPE_CHECKING:
    from k2.venues.table import VenueTable
    from k2.venues.table_files import TableFile
    from k2.venues.table_fill import Fill

__all__ = ["VenueRegistry"]


class VenueRegistry(MutableMapping[str, Venue]):
    """Venues by name: those in code, built-in tables, and over them the tables of the user (`K2_VENUES`).

    A venue is loaded when it is looked up first.
    """

    def __init__(self, import_paths: Mapping[str, str] | None = None, tables: Mapping[str, Path] | None = None) -> None:
        """Know venues in code by their import paths, `module:constant`, and tables by their files."""
        self._venues: dict[str, Venue | str | Path] = {**(import_paths or {}), **(tables or {})}
        self._tables = {**(tables or {})}
        self._user: dict[str, TableFile] = {}
        self._user_venues: dict[str, Venue] = {}

    def use_tables(self, setting: str) -> None:
        """Replace the tables of the user by those that the value of `K2_VENUES` names.

        Raises:
            SettingsError: a table is missing or invalid; the tables are as before.
        """
        if not setting:
            self._user, self._user_venues = {}, {}
            return
        from k2.venues.table_history import venue_of_file  # noqa: PLC0415  names need no decoder
        from k2.venues.user_tables import read_user_tables  # noqa: PLC0415  as above

        tables = read_user_tables(setting, self.builtin, self._tables)
        self._user_venues = {name: venue_of_file(file) for name, file in tables.items()}
        self._user = tables

    @property
    def tables(self) -> Mapping[str, Path]:
        """The files of the built-in tables by venue."""
        return self._tables

    def file_of(self, name: str) -> Path | None:
        """Return the file of a venue's table; None if the venue is in code."""
        return self._user[name].path if name in self._user else self._tables.get(name)

    def table_of(self, name: str) -> "VenueTable | None":
        """Return a venue's table, with what it inherits; None if the venue is in code."""
        if name in self._user:
            return self._user[name].table
        if name not in self._tables:
            return None
        from k2.venues.table_files import read_table  # noqa: PLC0415  names need no table

        return read_table(self._tables[name], self._tables.get).table

    def fill_of(self, exchange: str, venue: str | None = None) -> "Fill | None":
        """Return how long the trades of an exchange can be had; None if no table says it.

        The table of `venue` says it, or else a built-in one of the exchange: it has its name, or begins with it.
        """
        if venue is not None and (table := self.table_of(venue)) is not None and table.fill:
            return table.fill
        names = [name for name in self._tables if name == exchange or name.startswith(f"{exchange}-")]
        tables = (self.table_of(name) for name in names)
        return next((one.fill for one in tables if one is not None and one.exchange == exchange and one.fill), None)

    def user_digest(self, name: str) -> str | None:
        """Return what identifies the content of a user's table; None if the venue is not the user's."""
        return self._user[name].digest if name in self._user else None

    def builtin_digest(self, name: str) -> str | None:
        """Return what identifies the content of a built-in table; None if the venue is the user's, or in code."""
        if name in self._user or name not in self._tables:
            return None
        from k2.venues.table_files import read_table  # noqa: PLC0415  names need no table

        return read_table(self._tables[name], self._tables.get).digest

    def is_second_view(self, name: str, read: Collection[str]) -> bool:
        """Return whether the trades of a venue are also those of another one of `read`, with the same exchange."""
        other = self[name].view_of
        return other is not None and other in read and self[other].exchange == self[name].exchange

    def unknown_message(self, name: str) -> str:
        """Return the sentence for a name that no venue has."""
        close = closest(name, self)
        return f"unknown venue {name!r}; {f'did you mean {close!r}?' if close else 'see `k2 venues list`'}"

    @property
    def builtin(self) -> frozenset[str]:
        """The names of the venues that are not the user's, also of those that the user replaces."""
        return frozenset(self._venues)

    def __getitem__(self, name: str) -> Venue:
        if name in self._user_venues:
            return self._user_venues[name]
        venue = self._venues[name]
        if isinstance(venue, str):
            venue = _import(venue)
            self._venues[name] = venue
        elif isinstance(venue, Path):
            venue = _load_table(venue, self._tables)
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


def _load_table(path: Path, tables: Mapping[str, Path]) -> Venue:
    from k2.venues.table_files import read_table  # noqa: PLC0415  names need no decoder
    from k2.venues.table_history import venue_of_file  # noqa: PLC0415  as above

    return venue_of_file(read_table(path, tables.get))


def _import(path: str) -> Any:
    module, _, constant = path.partition(":")
    return getattr(import_module(module), constant)
