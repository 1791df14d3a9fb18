"""Table cache: loads the job's tables through catalogs that are kept open."""

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table

from k2.ops.settings import Settings
from k2.storage.catalog import find_table, local_catalog, open_catalog

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

__all__ = ["TableCache"]

Identifier = tuple[str, ...]
_ABSENT = (NoSuchNamespaceError, NoSuchTableError)


class TableCache:
    """Loads the current version of a table on each call; thread-safe.

    Catalogs are kept open between calls, each used by one thread at a time. If the catalog reports an unchanged
    metadata location, the metadata file, which is immutable, is not read again.
    """

    def __init__(self, settings: Settings) -> None:
        """Load tables from the catalog of the settings."""
        self._settings = settings
        self._database = local_catalog(settings)
        self._open: SimpleQueue[tuple[object, Catalog]] = SimpleQueue()
        self._known: dict[Identifier, Table] = {}

    def find(self, name: str) -> Table | None:
        """Return the current version of a table; None if it does not exist. Nothing is created.

        Raises:
            UnreachableError: the catalog does not respond, after retries.
        """
        return find_table(self._settings, name, self._load)

    def close(self) -> None:
        """Close the catalogs that are open."""
        with suppress(Empty):
            while True:
                self._open.get_nowait()[1].close()

    def _load(self, identifier: Identifier) -> Table:
        database = self._database_id()
        pooled = self._pop(database)
        try:
            return self._load_with(database, pooled or open_catalog(self._settings), identifier)
        except Exception as error:
            if pooled is None or isinstance(error, _ABSENT):
                raise
            # A connection that was open for long may be dead while a new one works.
            pooled.close()
        return self._load_with(database, open_catalog(self._settings), identifier)

    def _pop(self, database: object) -> "Catalog | None":
        with suppress(Empty):
            opened, catalog = self._open.get_nowait()
            if opened == database:
                return catalog
            catalog.close()
        return None

    def _load_with(self, database: object, catalog: "Catalog", identifier: Identifier) -> Table:
        try:
            table = self._current(catalog, identifier)
        except _ABSENT:
            self._open.put((database, catalog))
            raise
        self._open.put((database, catalog))
        return table

    def _current(self, catalog: "Catalog", identifier: Identifier) -> Table:
        known = self._known.get(identifier)
        if known is None or known.metadata_location != _location(catalog, identifier):
            known = self._known[identifier] = catalog.load_table(identifier)
        # Each caller gets its own instance, because a table can be refreshed.
        return Table(identifier, known.metadata, known.metadata_location, known.io, catalog, known.config)

    def _database_id(self) -> object:
        """Return the identity of the local database file, which changes if another one replaces it."""
        if self._database is None:
            return None
        found = self._database.stat()
        return found.st_dev, found.st_ino


def _location(catalog: "Catalog", identifier: Identifier) -> str | None:
    """Return a table's metadata location if the catalog has it without reading the metadata, otherwise None."""
    # Imported here because these read PyIceberg's configuration at import and would raise a bare error.
    from pyiceberg.catalog.sql import IcebergTables, SqlCatalog  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    if not isinstance(catalog, SqlCatalog):
        return None
    *namespace, name = identifier
    statement = select(IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == catalog.namespace_to_string(tuple(namespace)),
        IcebergTables.table_name == name,
    )
    with catalog.engine.connect() as connection:
        return connection.scalar(statement)
