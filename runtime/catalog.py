"""Opening the catalog: the one that PyIceberg is configured for, else SQLite beside a local warehouse."""

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tenacity
from pyiceberg.exceptions import (
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    RESTError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
    WaitingForLockException,
)
from pyiceberg.utils.config import Config
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from runtime.retry import retried
from runtime.settings import Settings
from trades.errors import SettingsError, UnreachableError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

__all__ = ["TRANSIENT", "catalog_exists", "find_table", "open_catalog"]

TRANSIENT: Final[tuple[type[BaseException], ...]] = (
    CommitStateUnknownException,
    InterfaceError,
    OperationalError,
    PoolTimeoutError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    WaitingForLockException,
)
"""What Iceberg's clients wrap transient faults in, beside `OSError` (which `requests` and Arrow use)."""

SQLITE_TIMEOUT_SECONDS: Final = 30
_RACES_MAX: Final = 20
_REFUSED: Final = (ForbiddenError, OAuthError, UnauthorizedError)
_UNREACHABLE: Final[tuple[type[BaseException], ...]] = (OSError, RESTError, *TRANSIENT)
_MISCONFIGURED: Final = (
    ArgumentError,
    ImportError,
    KeyError,
    NoSuchPropertyException,
    NotInstalledError,
    TypeError,
    ValueError,
)


def open_catalog(settings: Settings) -> "Catalog":
    """Open the catalog named by `K2_CATALOG`, configured as PyIceberg does it (file or environment).

    Where PyIceberg knows none of that name: SQLite and a local warehouse in `K2_DATA_DIR`, made
    where absent; several threads and processes may do so at once.

    Raises:
        SettingsError: the configuration is bad, credentials are refused, or the folder can't be written.
        UnreachableError: the catalog does not answer.
    """
    configuration = _configured(settings)
    if configuration is None:
        return _open_local(settings)
    try:
        return _load(settings.catalog, configuration)
    except _REFUSED as error:
        raise SettingsError(f"catalog {settings.catalog!r} refuses the credentials it was given: {error}") from error
    except _UNREACHABLE as error:
        raise UnreachableError(f"catalog {settings.catalog!r} cannot be reached: {error}") from error
    except _MISCONFIGURED as error:
        raise SettingsError(f"catalog {settings.catalog!r} is configured badly: {error}") from error


def catalog_exists(settings: Settings) -> bool:
    """Tell whether there is a catalog to look into; False only for a local one that was never made."""
    return _configured(settings) is not None or _database(settings).exists()


def find_table(settings: Settings, name: str) -> "Table | None":
    """Give one of the job's tables as it is now; None where there is none, and nothing is made then.

    Raises:
        UnreachableError: the catalog does not answer, after retries.
    """
    if not catalog_exists(settings):
        return None
    identifier = (*settings.namespace.split("."), name)

    def load() -> "Table | None":
        try:
            return open_catalog(settings).load_table(identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    return retried(f"opening table {'.'.join(identifier)}", load, also=TRANSIENT)


def _configured(settings: Settings) -> dict[str, Any] | None:
    try:
        configuration = Config().get_catalog_config(settings.catalog)
    except Exception as error:
        raise SettingsError(f"PyIceberg's configuration cannot be read: {error}") from error
    return None if configuration is None else dict(configuration)


def _load(name: str, configuration: dict[str, Any]) -> "Catalog":
    # Imported here because the module reads its configuration at import and would raise a bare error.
    from pyiceberg.catalog import load_catalog  # noqa: PLC0415

    return load_catalog(name, **configuration)


def _database(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "catalog.db"


def _open_local(settings: Settings) -> "Catalog":
    database = _database(settings)
    _check_path(settings.data_dir.absolute())
    warehouse = database.parent / "warehouse"
    try:
        warehouse.mkdir(parents=True, exist_ok=True)
        _prepare(database)
    except (OSError, sqlite3.Error) as error:
        if "locked" in str(error):
            raise UnreachableError(f"the catalog {database} is locked by another process: {error}") from error
        raise SettingsError(f"K2_DATA_DIR={settings.data_dir}: cannot be written: {error}") from error
    return _load_local(settings.catalog, database, warehouse)


def _check_path(folder: Path) -> None:
    # Locations are URIs that PyIceberg does not unquote, so these would cut the path short.
    bad = sorted(set(str(folder)) & set("?#%"))
    if bad:
        raise SettingsError(f"K2_DATA_DIR={folder}: a path with {bad[0]!r} cannot hold a local catalog; choose another")


# SQLite does not wait for its lock while another process turns WAL on.
@tenacity.retry(
    retry=tenacity.retry_if_exception_message(match=".*locked"),
    stop=tenacity.stop_after_delay(SQLITE_TIMEOUT_SECONDS),
    wait=tenacity.wait_random(0.01, 0.1),
    reraise=True,
)
def _prepare(database: Path) -> None:
    """Make the database where absent, with readers and a writer side by side (WAL)."""
    connection = sqlite3.connect(database, timeout=SQLITE_TIMEOUT_SECONDS)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    finally:
        connection.close()


def _load_local(name: str, database: Path, warehouse: Path) -> "Catalog":
    configuration = {
        "type": "sql",
        "uri": f"sqlite:///{database}?timeout={SQLITE_TIMEOUT_SECONDS}",
        "warehouse": f"file://{warehouse}",
    }
    for race in range(_RACES_MAX):
        try:
            return _load(name, configuration)
        except OperationalError as error:
            # Another process is making the catalog's own tables at this moment.
            if "already exists" not in str(error) or race + 1 == _RACES_MAX:
                raise UnreachableError(f"the catalog {database} cannot be used: {error}") from error
            time.sleep(0.05)
    raise AssertionError("unreachable")
