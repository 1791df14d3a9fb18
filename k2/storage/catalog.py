"""Open the catalog: the one configured for PyIceberg, otherwise SQLite with a local warehouse."""

import sqlite3
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.utils.config import Config
from sqlalchemy import make_url
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, OperationalError

from k2.model.errors import CatalogError, SettingsError, UnreachableError
from k2.ops.retry import CREATION_RACE, LOCKED_SECONDS_MAX, retried, retry_while_locked
from k2.ops.settings import Settings
from k2.storage.catalog_errors import (
    CATALOG_TRANSIENT,
    as_k2_error,
    catalog_address,
    corrupt_error,
    error_text,
    is_corrupt,
    translate_permanent_errors,
)
from k2.storage.catalog_timeouts import limit_catalog_timeouts
from k2.storage.warehouse import table_with_files

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

__all__ = [
    "Load",
    "catalog_configuration",
    "catalog_exists",
    "catalog_location",
    "catalog_properties",
    "check_lost",
    "check_namespace",
    "check_not_moving",
    "check_path",
    "database_file",
    "find_table",
    "local_catalog",
    "moving_file",
    "open_catalog",
]

Load = Callable[[tuple[str, ...]], "Table"]
"""Loads a table by its namespace's parts and its name."""

_POSTGRESQL: Final = "postgresql://"
_READ_ONLY: Final = {"init_catalog_tables": "false"}
"""Property of PyIceberg's SQL catalog; other catalogs ignore it."""


def open_catalog(settings: Settings, *, is_replacement: bool = False, is_read_only: bool = False) -> "Catalog":
    """Open the catalog named by `K2_CATALOG`, configured the PyIceberg way (file or environment).

    If PyIceberg has no catalog of that name, use SQLite and a local warehouse in `K2_DATA_DIR`. Both are created if
    they are absent; several threads and processes may do so at once. `is_replacement` permits a new database although
    the warehouse has tables. `is_read_only` creates nothing: a local catalog must exist, and the database of another
    may then lack the catalog's own tables.

    Raises:
        SettingsError: the configuration is bad, credentials are refused, or the folder can't be written.
        CatalogError: the local database is corrupt, or it is gone and the warehouse has tables.
        UnreachableError: the catalog does not answer.
    """
    configuration = _configured(settings)
    if configuration is None:
        if not is_replacement:
            check_lost(settings)
        return _open_local(settings, is_read_only=is_read_only)
    limit_catalog_timeouts(settings.catalog, configuration)
    try:
        return _load(settings.catalog, {**_with_driver(configuration), **(_READ_ONLY if is_read_only else {})})
    except Exception as error:
        k2_error = as_k2_error(settings.catalog, catalog_address(configuration), error)
        if k2_error is None:
            raise
        raise k2_error from error


def catalog_exists(settings: Settings) -> bool:
    """Return whether there is a catalog to read; False only for a local one that was never created."""
    database = local_catalog(settings)
    return database is None or database.exists()


def local_catalog(settings: Settings) -> Path | None:
    """Return the database file of the local catalog; None if PyIceberg is configured for another catalog."""
    return _database(settings) if _configured(settings) is None else None


def catalog_location(settings: Settings) -> str:
    """Return where the catalog is: the address without credentials, or the database file of the local one."""
    configuration = _configured(settings)
    return str(_database(settings)) if configuration is None else catalog_address(configuration)


def catalog_properties(settings: Settings) -> dict[str, str]:
    """Return the properties of the catalog without opening it, among them `warehouse` if it is known."""
    configuration = _configured(settings)
    if configuration is None:
        return {"warehouse": f"file://{_database(settings).parent / 'warehouse'}"}
    return {key: value for key, value in configuration.items() if isinstance(value, str)}


def catalog_configuration(settings: Settings) -> Mapping[str, Any] | None:
    """Return all that PyIceberg has configured for the catalog, secrets included; None for the local catalog.

    Raises:
        SettingsError: the configuration cannot be read.
    """
    return _configured(settings)


def database_file(settings: Settings) -> Path | None:
    """Return the file of a catalog that is in SQLite, configured or not; None if it is not in a file."""
    configuration = _configured(settings)
    if configuration is None:
        return _database(settings)
    uri = str(configuration.get("uri", ""))
    if not uri.startswith("sqlite"):
        return None
    database = make_url(uri).database
    return Path(database).absolute() if database and database != ":memory:" else None


def moving_file(database: Path) -> Path:
    """Return the file that is next to a catalog's database, and in its place, until `k2 catalog move` is finished."""
    return database.with_name(f"{database.name}.moving")


def check_not_moving(database: Path) -> None:
    """Refuse a folder to which `k2 catalog move` has not copied everything.

    Raises:
        CatalogError: such a move was begun there, and not finished.
    """
    if moving_file(database).exists() and not database.exists():
        raise CatalogError(
            f"the move to {database.parent} is not finished; run `k2 catalog move {database.parent}` again, with "
            "K2_DATA_DIR set to the folder that it copies"
        )


def check_namespace(settings: Settings, catalog: "Catalog") -> None:
    """Refuse an SQL catalog that lacks the namespace although the warehouse has files of its tables.

    It is another database than the one that named those tables: new tables would be filled from the start of Kafka.

    Raises:
        CatalogError: the warehouse has files of tables that the catalog never had.
    """
    # Imported here because it reads PyIceberg's configuration at import, and would raise a bare error.
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415

    warehouse = catalog.properties.get("warehouse")
    if not isinstance(catalog, SqlCatalog) or warehouse is None:
        return
    location = table_with_files(warehouse, settings, catalog.properties)
    # Looked up after the files: a process that creates the tables creates the namespace first.
    if location is not None and not catalog.namespace_exists(settings.namespace):
        raise _lost_error(f"catalog {settings.catalog!r} has no namespace {settings.namespace}", location)


def find_table(settings: Settings, name: str, load: Load | None = None) -> "Table | None":
    """Return one of the job's tables as it is now, or None if it does not exist; nothing is created.

    `load` loads the table; without it, a newly opened catalog does.

    Raises:
        CatalogError: the catalog is lost or corrupt, or the table's metadata file is missing.
        UnreachableError: the catalog does not answer, after retries.
    """
    if not catalog_exists(settings):
        check_lost(settings)
        return None
    identifier = (*settings.namespace.split("."), name)

    def find() -> "Table | None":
        with translate_permanent_errors(settings.catalog, database_file(settings)):
            try:
                return open_catalog(settings).load_table(identifier) if load is None else load(identifier)
            except (NoSuchTableError, NoSuchNamespaceError):
                check_namespace(settings, open_catalog(settings))
                return None

    return retried(f"opening table {'.'.join(identifier)}", find, also=CATALOG_TRANSIENT)


def _configured(settings: Settings) -> dict[str, Any] | None:
    try:
        configuration = Config().get_catalog_config(settings.catalog)
    except Exception as error:
        raise SettingsError(f"PyIceberg's configuration cannot be read: {error}") from error
    return None if configuration is None else dict(configuration)


def _with_driver(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Use psycopg2 for PostgreSQL if the URI names no driver: it is the only driver whose waits have a timeout."""
    uri = str(configuration.get("uri", ""))
    if uri.startswith(_POSTGRESQL) and find_spec("psycopg2") is not None:
        return {**configuration, "uri": "postgresql+psycopg2://" + uri.removeprefix(_POSTGRESQL)}
    return dict(configuration)


def _load(name: str, configuration: dict[str, Any]) -> "Catalog":
    # Imported here because the module reads its configuration on import, where a failure would be a bare error.
    from pyiceberg.catalog import load_catalog  # noqa: PLC0415

    make: Callable[..., Catalog] = load_catalog
    if _is_rest(name, configuration):
        from k2.storage.rest_catalog import RenewingRestCatalog  # noqa: PLC0415  as above

        make = RenewingRestCatalog
    return CREATION_RACE.retrying(_is_race)(make, name, **configuration)


def _is_rest(name: str, configuration: dict[str, Any]) -> bool:
    """Return whether `load_catalog` would make its REST catalog; False also for a configuration that it refuses."""
    from pyiceberg.catalog import PY_CATALOG_IMPL, TYPE, URI, CatalogType, infer_catalog_type  # noqa: PLC0415  as above

    if URI not in configuration or PY_CATALOG_IMPL in configuration:
        return False
    if kind := configuration.get(TYPE):
        return str(kind).lower() == CatalogType.REST.value
    return infer_catalog_type(name, configuration) is CatalogType.REST


def _is_race(error: BaseException) -> bool:
    """Return whether another process is creating the catalog's own tables right now."""
    # PostgreSQL lets both processes start; the second one gets "already exists" or a unique violation.
    return isinstance(error, IntegrityError) or (isinstance(error, DBAPIError) and "already exists" in str(error.orig))


def _database(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "catalog.db"


def check_lost(settings: Settings) -> None:
    """Refuse to start over with an empty catalog if the database of the local one is gone.

    Raises:
        CatalogError: there is no database, but the warehouse has files of the job's tables, or will have them.
    """
    database = _database(settings)
    check_not_moving(database)
    location = table_with_files(catalog_properties(settings)["warehouse"], settings, {})
    # Looked up after the files: a process that creates the tables creates the database first.
    if location is not None and not database.exists():
        raise _lost_error(f"the catalog {database} is gone", location)


def _lost_error(what: str, location: str) -> CatalogError:
    return CatalogError(
        f"{what}, but {location} has files; register the tables with `k2 catalog register`, restore a backup with "
        "`k2 catalog restore FILE`, or set K2_DATA_DIR (or K2_NAMESPACE) to another one"
    )


def _open_local(settings: Settings, *, is_read_only: bool) -> "Catalog":
    database = _database(settings)
    check_path(settings.data_dir.absolute())
    warehouse = database.parent / "warehouse"
    if is_read_only:
        return _load_local(settings.catalog, database, warehouse, _READ_ONLY)
    try:
        warehouse.mkdir(parents=True, exist_ok=True)
        _prepare(database)
    except (OSError, sqlite3.Error) as error:
        if is_corrupt(error):
            raise corrupt_error(database, error) from error
        if "locked" in str(error):
            raise UnreachableError(f"the catalog {database} is locked by another process: {error}") from error
        raise SettingsError(f"K2_DATA_DIR={settings.data_dir}: cannot be written: {error}") from error
    return _load_local(settings.catalog, database, warehouse)


def check_path(folder: Path) -> None:
    """Check that a local catalog can be in a folder.

    Raises:
        SettingsError: the path has a character that it must not have.
    """
    # Locations are URIs that PyIceberg does not unquote, so these characters would cut the path short.
    bad = sorted(set(str(folder)) & set("?#%"))
    if bad:
        raise SettingsError(f"K2_DATA_DIR={folder}: a path with {bad[0]!r} cannot hold a local catalog; choose another")


# SQLite does not wait for its lock while another process enables WAL.
@retry_while_locked
def _prepare(database: Path) -> None:
    """Create the database if it is absent, in WAL mode: readers do not block the writer."""
    connection = sqlite3.connect(database, timeout=LOCKED_SECONDS_MAX)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    finally:
        connection.close()


def _load_local(name: str, database: Path, warehouse: Path, extra: Mapping[str, str] | None = None) -> "Catalog":
    configuration = {
        "type": "sql",
        "uri": f"sqlite:///{database}?timeout={LOCKED_SECONDS_MAX}",
        "warehouse": f"file://{warehouse}",
        **(extra or {}),
    }
    try:
        return _load(name, configuration)
    except OperationalError as error:
        raise UnreachableError(f"the catalog {database} cannot be used: {error_text(error)}") from error
    except DatabaseError as error:
        if not is_corrupt(error):
            raise
        raise corrupt_error(database, error) from error
