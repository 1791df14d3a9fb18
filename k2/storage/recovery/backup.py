"""Create, back up and restore a recovery store, and remove what an unfinished epoch left in it."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from bytewax.recovery import init_db_dir

from k2.model.errors import SettingsError, StateError
from k2.storage.files import sync
from k2.storage.recovery.lock import exclusive_lock
from k2.storage.recovery.store import PinnedStore, Store, check_store, partition_files, pin_store, read_store

__all__ = ["RestoreResult", "back_up", "delete_unfinished_epoch", "make_store", "restore"]

FILES: Final = "*.sqlite3*"
"""Partitions, and the files that SQLite keeps next to them."""


class RestoreResult(NamedTuple):
    """The result of `restore`."""

    store: Store
    """The restored store."""
    replaced: Path | None
    """The folder to which the previous store was moved; None if there was none."""


def make_store(folder: Path, partitions: int) -> Store:
    """Create an empty store.

    Raises:
        SettingsError: the folder already holds a store, which is left as it is, or cannot be written.
        StateError: a process uses it.
    """
    _make_folder(folder)
    _refuse_store(folder)
    with exclusive_lock(folder):
        _refuse_store(folder)
        # A process that starts meanwhile sees only complete partitions.
        with _temporary_folder(folder / f".making.{os.getpid()}") as partial:
            init_db_dir(partial, partitions)  # type: ignore[no-untyped-call]
            for file in partition_files(partial):
                file.rename(folder / file.name)
        sync(folder)
        return read_store(folder)


def back_up(folder: Path, target: Path) -> Store:
    """Copy a store, also while a job uses it, to a folder that does not exist or is empty.

    The copy resumes from the epoch that the store would have resumed from when the copy started. The table may move on
    meanwhile, because a store older than the table is replayed. The target is complete or absent.

    Do not call this in the job's own process: the job has its own SQLite, and two in one process drop each other's
    file locks (sqlite.org, "How to corrupt an SQLite database file", 2.2.1).

    Raises:
        SettingsError: there is no store, or the target is not empty or cannot be written.
        StateError: the store is incomplete, or a partition cannot be read.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SettingsError(f"{target} already exists and is not empty; give the backup a new folder")
    _make_folder(target.parent)
    with pin_store(folder) as pinned:
        check_store(pinned.store)
        with _temporary_folder(target.with_name(f".{target.name}.{os.getpid()}.partial")) as partial:
            _copy(pinned, partial)
            try:
                partial.rename(target)
            except OSError as error:
                raise SettingsError(f"{target}: the backup cannot be put there: {error.strerror}") from error
    sync(target.parent)
    return read_store(target)


def restore(backup: Path, folder: Path, *, replace: bool = False) -> RestoreResult:
    """Copy a backup to the folder of the job's store.

    A previous store is moved into a subfolder, all of it before the first new file arrives. If this is interrupted,
    partitions are missing, which the job refuses; old and new partitions are never mixed.

    Raises:
        SettingsError: there is no backup; or the folder holds a store, and `replace` is false.
        StateError: the backup is incomplete, or a process uses the store.
    """
    if not partition_files(backup):
        raise SettingsError(f"{backup} holds no backup of a recovery store; `k2 recovery backup` makes one")
    with pin_store(backup) as pinned:
        check_store(pinned.store)
        for connection, file in zip(pinned.connections, pinned.files, strict=True):
            _check_integrity(connection, file)
        _make_folder(folder)
        with exclusive_lock(folder):
            if not replace:
                _refuse_store(folder, ", or --replace, which moves it aside")
            with _temporary_folder(folder / f".restoring.{os.getpid()}") as partial:
                _copy(pinned, partial)
                replaced = _move_aside(folder)
                for file in partition_files(partial):
                    file.rename(folder / file.name)
        sync(folder)
    return RestoreResult(read_store(folder), replaced)


def delete_unfinished_epoch(store: Store) -> int:
    """Delete the snapshots of the interrupted epoch in a store that no process uses; return their number.

    Bytewax runs that epoch again, possibly with less in it. A key that is then not touched would keep its state of the
    first run, ahead of the source, and the next execution would resume from it.

    Raises:
        StateError: a partition cannot be written.
    """
    return sum(_delete_snapshots(file, store.resume_epoch) for file in partition_files(store.folder))


def _delete_snapshots(file: Path, epoch: int) -> int:
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            return connection.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (epoch,)).rowcount
    except sqlite3.Error as error:
        raise StateError(f"{file} of the recovery store cannot be written: {error}") from error


def _refuse_store(folder: Path, otherwise: str = "") -> None:
    # A WAL file without its partition counts as well: SQLite would replay it into a new partition.
    if any(folder.glob(FILES)):
        raise SettingsError(f"{folder} already holds a recovery store; use another folder{otherwise}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder}: a recovery store cannot be put there: {error.strerror}") from error


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to; it is deleted afterwards unless it was renamed."""
    _make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(pinned: PinnedStore, folder: Path) -> None:
    for file, source in zip(pinned.files, pinned.connections, strict=True):
        try:
            with closing(sqlite3.connect(folder / file.name, isolation_level=None)) as target:
                # This copies what the source's open read transaction sees, whatever is written meanwhile.
                source.backup(target)
                _set_back(target, pinned.store)
        except sqlite3.Error as error:
            raise StateError(f"{file} of the recovery store cannot be copied to {folder}: {error}") from error
    sync(folder)


def _set_back(copy: sqlite3.Connection, store: Store) -> None:
    """Set a copied partition back to the store's resume epoch: it may have been slightly ahead."""
    latest = -1 if store.execution is None else store.execution
    copy.execute("BEGIN")
    copy.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (store.resume_epoch,))
    copy.execute("DELETE FROM fronts WHERE ex_num > ?", (latest,))
    copy.execute("UPDATE fronts SET worker_frontier = min(worker_frontier, ?)", (store.resume_epoch,))
    copy.execute("COMMIT")


def _check_integrity(connection: sqlite3.Connection, file: Path) -> None:
    try:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        result = str(error)
    if result != "ok":
        raise StateError(f"{file} is damaged ({result}); use another backup")


def _move_aside(folder: Path) -> Path | None:
    """Move a store's files into a subfolder: the root folder of a volume cannot be renamed."""
    files = sorted(folder.glob(FILES))
    if not files:
        return None
    aside = folder / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    aside.mkdir()
    for file in files:
        file.rename(aside / file.name)
    sync(aside)
    return aside
