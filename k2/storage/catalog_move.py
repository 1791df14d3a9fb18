"""Copy a local catalog, its warehouse, dead letters and recovery store to another data folder."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from pyiceberg.table.metadata import TableMetadata

from k2.model.errors import CatalogError, K2Error, SettingsError
from k2.ops.settings import Settings
from k2.storage.catalog import check_path, local_catalog, moving_file
from k2.storage.catalog_backup import copy_database, delete_database
from k2.storage.catalog_errors import corrupt_error, is_corrupt
from k2.storage.catalog_lock import exclusive_catalog
from k2.storage.files import sync
from k2.storage.recovery.backup import restore as restore_store
from k2.storage.recovery.store import partition_files
from k2.storage.table_copy import CopiedTable, Folders, copy_file, copy_table
from k2.storage.table_copy_check import check_copy
from k2.storage.warehouse import local_path

__all__ = ["MoveResult", "MovedTable", "move"]

_DATABASE: Final = "catalog.db"
_WAREHOUSE: Final = "warehouse"
_DEAD_LETTERS: Final = "dlq"
_RECOVERY: Final = "recovery"
_TABLES: Final = """
SELECT catalog_name, table_namespace, table_name, metadata_location, previous_metadata_location FROM iceberg_tables
ORDER BY 1, 2, 3
"""
_SET_LOCATION: Final = """
UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ?
WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?
"""
_NAMESPACE_PROPERTIES: Final = "SELECT rowid, property_value FROM iceberg_namespace_properties"
_SET_PROPERTY: Final = "UPDATE iceberg_namespace_properties SET property_value = ? WHERE rowid = ?"


class MovedTable(NamedTuple):
    """A table in its new folder."""

    name: str
    """With its namespace."""
    location: str
    """Of its newest metadata file."""
    metadata: TableMetadata
    files: int
    """Number of the data files of all snapshots."""
    bytes: int


class MoveResult(NamedTuple):
    """The result of `move`."""

    database: Path
    """The new catalog's file."""
    named: Path
    """The data folder for which it was made."""
    tables: Sequence[MovedTable]
    dead_letter_files: int | None
    """None if `K2_DLQ_DIR` has them, where they stay."""
    recovery_store: Path | None
    """The copy of the recovery store; None if the data folder has none."""


class _Row(NamedTuple):
    """The entry of a table in the catalog's database."""

    catalog: str
    namespace: str
    table: str
    location: str
    previous: str | None

    @property
    def name(self) -> str:
        return f"{self.namespace}.{self.table}"


def move(settings: Settings, target: Path, *, named: Path | None = None, hard_links: bool = False) -> MoveResult:
    """Copy all tables of the local catalog to the data folder `target`, with its paths; the source is only read.

    The target is a catalog only once all of it is there and was compared with the source. If this is interrupted, the
    target is refused, and a repeated call goes on with the data files that are missing. `named` is the path of the
    target in the metadata if it will be on another machine. With `hard_links`, data files are linked instead of copied.

    Raises:
        SettingsError: PyIceberg is configured for another catalog, there is no table, or the target cannot be used.
        StateError: the job runs, or the recovery store cannot be copied.
        CatalogError: the catalog is corrupt, a file of a table is missing, damaged or elsewhere, or another program
            committed to a table meanwhile.
    """
    source, database = _source(settings), target.absolute() / _DATABASE
    _check_target(source, database, named)
    with exclusive_catalog(source), exclusive_catalog(database), _writing(database.parent):
        _check_free(settings, database)
        rows = _rows(source)
        if not rows:
            raise SettingsError(f"{source} has no tables to move; set K2_DATA_DIR to the folder of the tables")
        folders = Folders(_source_forms(source.parent, rows), database.parent, named or database.parent)
        _begin(source, database)
        copied = [copy_table(row.name, row.location, folders, hard_links=hard_links) for row in rows]
        letters = None if settings.dlq_dir else _copy_dead_letters(settings.dead_letter_folder, database.parent)
        store = _copy_recovery_store(source.parent, database.parent)
        tables = [_checked(row, one, folders) for row, one in zip(rows, copied, strict=True)]
        if _rows(source) != rows:
            raise CatalogError(f"another program committed to a table of {source} meanwhile; stop it, and try again")
        _finish(database, folders, rows, tables)
    return MoveResult(database, folders.named, tables, letters, store)


def _source(settings: Settings) -> Path:
    source = local_catalog(settings)
    if source is None:
        raise SettingsError(
            f"catalog {settings.catalog!r} is configured for PyIceberg, and only the catalog in K2_DATA_DIR is moved; "
            "copy its tables with Spark's procedure rewrite_table_path, and register the copies with register_table"
        )
    if not source.is_file():
        raise SettingsError(f"there is no catalog {source} to move; set K2_DATA_DIR to its folder")
    return source


def _check_target(source: Path, database: Path, named: Path | None) -> None:
    check_path(database.parent)
    if database.parent.resolve().is_relative_to(source.parent.resolve()):
        raise SettingsError(f"{database.parent} is in the folder that is moved; give a folder outside of it")
    if named is not None:
        check_path(named)
        if not named.is_absolute():
            raise SettingsError(f"--as {str(named)!r} is not an absolute path; give the path that the folder will have")


def _check_free(settings: Settings, database: Path) -> None:
    """Refuse a target that has a catalog, or files of an unknown one; those of an unfinished move may be there."""
    if database.exists():
        raise SettingsError(f"{database.parent} already has a catalog; give another folder")
    names = (_WAREHOUSE, _RECOVERY) if settings.dlq_dir else (_WAREHOUSE, _RECOVERY, _DEAD_LETTERS)
    for folder in (database.parent / name for name in names):
        if not moving_file(database).exists() and folder.exists():
            raise SettingsError(f"{folder} already exists; give another folder, or rename that one")


def _rows(database: Path) -> list[_Row]:
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [_Row(*row) for row in connection.execute(_TABLES)]
    except sqlite3.DatabaseError as error:
        if is_corrupt(error):
            raise corrupt_error(database, error) from error
        raise SettingsError(f"{database} is not a catalog: {error}; set K2_DATA_DIR to its folder") from error


def _source_forms(folder: Path, rows: Sequence[_Row]) -> list[Path]:
    """Return the paths by which the tables may name their data folder: its own, and those that are links to it."""
    real = folder.resolve()
    forms = [folder, real]
    for row in rows:
        path = local_path(row.location)
        if path is not None and path.resolve().is_relative_to(real):
            below = path.resolve().relative_to(real)
            forms.append(path.parents[len(below.parts) - 1])
    return list(dict.fromkeys(form for form in forms if form.resolve() == real))


def _begin(source: Path, database: Path) -> None:
    """Put a copy of the catalog next to the new one's place, which marks the target as unfinished."""
    marker = moving_file(database)
    fresh = marker.with_name(f"{marker.name}.new")
    delete_database(fresh)
    copy_database(source, fresh)
    # SQLite would play back the journal of an interrupted attempt into the fresh copy.
    marker.with_name(f"{marker.name}-journal").unlink(missing_ok=True)
    fresh.replace(marker)
    sync(marker.parent)


def _finish(database: Path, folders: Folders, rows: Sequence[_Row], tables: Sequence[MovedTable]) -> None:
    """Name the copies in the new catalog, and put it in its place."""
    marker = moving_file(database)
    with closing(sqlite3.connect(marker)) as connection, connection:
        for row, table in zip(rows, tables, strict=True):
            previous = None if row.previous is None else folders.rename(row.previous)
            connection.execute(_SET_LOCATION, (table.location, previous, row.catalog, row.namespace, row.table))
        for number, value in connection.execute(_NAMESPACE_PROPERTIES).fetchall():
            connection.execute(_SET_PROPERTY, (folders.rename_property(value), number))
    sync(marker)
    for name in (_WAREHOUSE, _DEAD_LETTERS):
        for folder, _, _ in os.walk(database.parent / name):
            sync(Path(folder))
    marker.rename(database)
    sync(database.parent)


def _copy_dead_letters(source: Path, data_dir: Path) -> int:
    """Copy the dead-letter files, without locks; return their number."""
    target = data_dir / _DEAD_LETTERS
    names = {file.name for file in source.glob("*.jsonl")}
    for name in sorted(names):
        copy_file(source / name, target / name)
    for left in target.glob("*.jsonl"):
        # An earlier attempt may have copied what the job has deleted since.
        if left.name not in names:
            left.unlink()
    return len(names)


def _copy_recovery_store(source: Path, data_dir: Path) -> Path | None:
    """Copy the recovery store that `k2 run` keeps in a data folder; it has no paths in it."""
    if not partition_files(source / _RECOVERY):
        return None
    restore_store(source / _RECOVERY, data_dir / _RECOVERY, replace=True)
    return data_dir / _RECOVERY


def _checked(row: _Row, copied: CopiedTable, folders: Folders) -> MovedTable:
    metadata = check_copy(row.name, row.location, copied.location, folders)
    return MovedTable(row.name, copied.location, metadata, copied.files, copied.bytes)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except K2Error:
        raise
    except (OSError, sqlite3.OperationalError) as error:
        raise SettingsError(
            f"{folder} cannot be written: {error}; the source is unchanged: mend that, and run the command again"
        ) from error
