"""Back up and restore a catalog that is in an SQLite file."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from k2.model.errors import CatalogError, SettingsError
from k2.ops.settings import Settings
from k2.storage.catalog import database_file
from k2.storage.catalog_lock import exclusive_catalog
from k2.storage.catalog_register import find_tables
from k2.storage.files import sync
from k2.storage.warehouse import local_path

__all__ = ["RestoreResult", "back_up", "copy_database", "delete_database", "restore"]

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
"""Of the files that SQLite keeps for a database, with the database itself."""
_TABLES: Final = """
SELECT table_namespace || '.' || table_name, metadata_location FROM iceberg_tables
WHERE catalog_name = ? ORDER BY table_namespace, table_name
"""


class RestoreResult(NamedTuple):
    """The result of `restore`."""

    database: Path
    """The catalog's file."""
    replaced: Path | None
    """The folder to which the previous catalog was moved; None if there was none."""
    tables: Mapping[str, str]
    """The metadata location of each table, by its name with its namespace."""


def back_up(settings: Settings, target: Path) -> Mapping[str, str]:
    """Copy the catalog, also while the job runs, to a new file; return the metadata location of each table.

    The copy is of one moment. It is whole or absent.

    Raises:
        SettingsError: the catalog is not in an SQLite file, or does not exist; the target exists, or cannot be written.
        CatalogError: the catalog is corrupt.
    """
    database = _sqlite_file(settings)
    if not database.is_file():
        raise SettingsError(f"there is no catalog {database} to back up; set K2_DATA_DIR to its folder")
    if target.exists() or target.is_symlink():
        raise SettingsError(f"{target} already exists; give the backup a new name")
    tables = _tables(database, settings, "restore a backup, or rename it and run `k2 catalog register`")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_database(database, partial)
        # Unlike a rename, a link never replaces a file that another process has put there.
        target.hardlink_to(partial)
        sync(target.parent)
    except (OSError, sqlite3.OperationalError) as error:
        raise SettingsError(f"{target}: the backup cannot be put there: {error}") from error
    finally:
        delete_database(partial)
    return tables


def restore(settings: Settings, file: Path, *, replace: bool = False, older: bool = False) -> RestoreResult:
    """Put a backup in the place of the catalog. A previous one is moved to a folder next to it, never deleted.

    If this is interrupted, the catalog is the previous one, or absent, which a start refuses; it can be repeated.

    Raises:
        SettingsError: the catalog is not in an SQLite file; the file is no backup of it; the catalog has tables and
            `replace` is false; or the folder cannot be written.
        StateError: the job runs.
        CatalogError: the backup is corrupt, a metadata file that it names is missing, or the warehouse has later
            versions of the tables and `older` is false.
    """
    database = _sqlite_file(settings)
    if not file.is_file():
        raise SettingsError(f"{file} is not a file; `k2 catalog backup` makes backups")
    tables = _tables(file, settings, "use another backup, or run `k2 catalog register`")
    if not tables:
        raise SettingsError(
            f"{file} has no tables of catalog {settings.catalog!r}; set K2_CATALOG to its name, or use another backup"
        )
    _check_files(tables)
    if not older:
        _check_newest(settings, database, tables)
    with exclusive_catalog(database):
        _refuse_in_use(settings, database, replace=replace)
        partial = database.with_name(f"{database.name}.restoring")
        try:
            delete_database(partial)
            copy_database(file, partial)
            replaced = _move_aside(database)
            partial.rename(database)
            sync(database.parent)
        except (OSError, sqlite3.OperationalError) as error:
            raise SettingsError(f"{database} cannot be written: {error}; grant access, and try again") from error
        finally:
            delete_database(partial)
    return RestoreResult(database, replaced, tables)


def _sqlite_file(settings: Settings) -> Path:
    database = database_file(settings)
    if database is None:
        raise SettingsError(
            f"catalog {settings.catalog!r} is not in an SQLite file; back it up and restore it with the tools of its "
            "server, such as pg_dump"
        )
    return database


def _tables(database: Path, settings: Settings, advice: str) -> Mapping[str, str]:
    """Return the tables of the catalog in a database, which is checked and not changed."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem == "ok":
                return dict(connection.execute(_TABLES, (settings.catalog,)).fetchall())
    except sqlite3.OperationalError as error:
        raise SettingsError(f"{database} is not a catalog: {error}; {advice}") from error
    except sqlite3.DatabaseError as error:
        problem = str(error)
    raise CatalogError(f"{database} is corrupt: {problem}; {advice}")


def _check_files(tables: Mapping[str, str]) -> None:
    for name, location in tables.items():
        path = local_path(location)
        if path is not None and not path.is_file():
            raise CatalogError(
                f"the backup names {path} for table {name}, which is missing: the backup is too old; run "
                "`k2 catalog register` instead"
            )


def _check_newest(settings: Settings, database: Path, tables: Mapping[str, str]) -> None:
    """Refuse to go back behind a version of a table, in any namespace, that the warehouse or the catalog has."""
    newest: dict[str, str] = {}
    if database.exists():
        # A corrupt catalog has no versions to tell.
        with suppress(CatalogError, SettingsError):
            newest |= _tables(database, settings, "")
    for namespace in sorted({name.rpartition(".")[0] for name in tables if name.endswith(".trades")}):
        for table in find_tables(settings.model_copy(update={"namespace": namespace})):
            newest[f"{namespace}.{table.name}"] = table.location
    for name, newest_location in newest.items():
        location = tables.get(name, "nothing")
        if local_path(location) != local_path(newest_location):
            raise CatalogError(
                f"the backup is older than table {name}: it names {location}, and the newest version is "
                f"{newest_location}; run `k2 catalog register` instead, or go back with --older"
            )


def _refuse_in_use(settings: Settings, database: Path, *, replace: bool) -> None:
    if replace or not database.exists():
        return
    try:
        tables = _tables(database, settings, "")
    except (CatalogError, SettingsError):
        # A corrupt catalog, or a file that is none, has no tables to lose.
        return
    if tables:
        raise SettingsError(f"{database} has tables ({', '.join(tables)}); move it aside with --replace")


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment to a file, which is then whole and durable.

    Raises:
        OSError, sqlite3.OperationalError: the target cannot be written.
    """
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection,
        closing(sqlite3.connect(target)) as copy,
    ):
        connection.backup(copy)
        # A copy in WAL mode would be several files.
        copy.execute("PRAGMA journal_mode=DELETE")
    sync(target)


def _move_aside(database: Path) -> Path | None:
    files = [file for suffix in _SUFFIXES if (file := database.with_name(database.name + suffix)).exists()]
    if not files:
        return None
    aside = database.with_name(f"{database.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    aside.mkdir()
    for file in files:
        file.rename(aside / file.name)
    sync(aside)
    return aside


def delete_database(database: Path) -> None:
    """Delete a database, if it exists, with the files that SQLite keeps next to it."""
    for suffix in _SUFFIXES:
        database.with_name(database.name + suffix).unlink(missing_ok=True)
