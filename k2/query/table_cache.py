"""The job's tables as they are now, looked up through catalogs that are kept open."""

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
    """Looks each table up again whenever it is asked for; several threads may ask at once.

    A catalog is kept open for the next to ask, and one thread uses it at a time. Where it tells that a table's
    metadata is still in the file in which it was, that file, which never changes, is not read again.
    """

    def __init__(self, settings: Settings) -> None:
        """Look up where the settings say."""
        self._settings = settings
        self._database = local_catalog(settings)
        self._open: SimpleQueue[tuple[object, Catalog]] = SimpleQueue()
        self._known: dict[Identifier, Table] = {}

    def find(self, name: str) -> Table | None:
        """Return a table as it is now; None where there is none, and nothing is made then.

        Raises:
            UnreachableError: the catalog does not answer, after retries.
        """
        return find_table(self._settings, name, self._load)

    def close(self) -> None:
        """Close the catalogs that are open."""
        with suppress(Empty):
            while True:
                self._open.get_nowait()[1].close()

    def _load(self, identifier: Identifier) -> Table:
        database = self._identity()
        kept = self._taken(database)
        try:
            return self._loaded(database, kept or open_catalog(self._settings), identifier)
        except Exception as error:
            if kept is None or isinstance(error, _ABSENT):
                raise
            # A connection that was kept for long may be dead where a new one is not.
            kept.close()
        return self._loaded(database, open_catalog(self._settings), identifier)

    def _taken(self, database: object) -> "Catalog | None":
        with suppress(Empty):
            opened, catalog = self._open.get_nowait()
            if opened == database:
                return catalog
            catalog.close()
        return None

    def _loaded(self, database: object, catalog: "Catalog", identifier: Identifier) -> Table:
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
        # One of its own for each who asks, as a table can be refreshed.
        return Table(identifier, known.metadata, known.metadata_location, known.io, catalog, known.config)

    def _identity(self) -> object:
        """Tell one local database from another that has taken its place."""
        if self._database is None:
            return None
        found = self._database.stat()
        return found.st_dev, found.st_ino


def _location(catalog: "Catalog", identifier: Identifier) -> str | None:
    """Return where a table's metadata is, of a catalog that tells it without reading it; None of others."""
    # Imported here because these read PyIceberg's configuration at import and would raise a bare error.
    from pyiceberg.catalog.sql import IcebergTables, SqlCatalog  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    if not isinstance(catalog, SqlCatalog):
        return None
    *namespace, name = identifier
    asked = select(IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == catalog.namespace_to_string(tuple(namespace)),
        IcebergTables.table_name == name,
    )
    with catalog.engine.connect() as connection:
        return connection.scalar(asked)
