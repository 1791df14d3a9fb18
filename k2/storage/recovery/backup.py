"""Making, backing up and restoring a recovery store, and removing what an unfinished epoch left in it."""

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
from k2.storage.recovery.lock import held
from k2.storage.recovery.store import Pinned, Store, check_store, partition_files, pinned, read_store

__all__ = ["Restored", "back_up", "forget_unfinished", "make_store", "restore"]

FILES: Final = "*.sqlite3*"
"""Partitions, and what SQLite keeps beside them."""


class Restored(NamedTuple):
    """What `restore` did."""

    store: Store
    """The store as restored."""
    replaced: Path | None
    """Where the former one lies now; None where there was none."""


def make_store(folder: Path, partitions: int) -> Store:
    """Make an empty store.

    Raises:
        SettingsError: the folder holds a store already, which is left as it is, or cannot be written.
        StateError: a process runs on it.
    """
    _make(folder)
    _refuse_store(folder)
    with held(folder):
        _refuse_store(folder)
        init_db_dir(folder, partitions)  # type: ignore[no-untyped-call]
        _sync(folder)
        return read_store(folder)


def back_up(folder: Path, target: Path) -> Store:
    """Copy a store, while a job may run on it, to a folder that is not there yet, or is empty.

    What the copy resumes from is the epoch that the store would have resumed from when the copy was begun; the table
    may go on meanwhile, since a store older than the table is replayed. The target is there whole or not at all.

    Never by the job's own process: it has an SQLite of its own, and two in one process drop each other's file locks
    (sqlite.org, "How to corrupt an SQLite database file", 2.2.1).

    Raises:
        SettingsError: there is no store, or the target is there already or cannot be written.
        StateError: the store is not whole, or a partition cannot be read.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SettingsError(f"{target} is there already and is not empty; a backup needs a folder of its own")
    _make(target.parent)
    with pinned(folder) as whole:
        check_store(whole.store)
        with _partial(target.with_name(f".{target.name}.{os.getpid()}.partial")) as partial:
            _copy(whole, partial)
            try:
                partial.rename(target)
            except OSError as error:
                raise SettingsError(f"{target}: the backup cannot be put there: {error.strerror}") from error
    _sync(target.parent)
    return read_store(target)


def restore(backup: Path, folder: Path, *, replace: bool = False) -> Restored:
    """Copy a backup to where the job looks for its store.

    A former store is moved into a folder beside the new files, all of it before the first new file comes; should
    this be cut off, partitions are missing, which the job refuses, and never are old and new ones mixed.

    Raises:
        SettingsError: there is no backup; or there is a store in the folder, and `replace` is not given.
        StateError: the backup is not whole, or a process runs on the store.
    """
    if not partition_files(backup):
        raise SettingsError(f"{backup} holds no backup of a recovery store; `k2 recovery backup` makes one")
    with pinned(backup) as whole:
        check_store(whole.store)
        for connection, file in zip(whole.connections, whole.files, strict=True):
            _check_pages(connection, file)
        _make(folder)
        with held(folder):
            if not replace:
                _refuse_store(folder, ", or --replace, which moves it aside")
            with _partial(folder / f".restoring.{os.getpid()}") as partial:
                _copy(whole, partial)
                replaced = _move_aside(folder)
                for file in partition_files(partial):
                    file.rename(folder / file.name)
        _sync(folder)
    return Restored(read_store(folder), replaced)


def forget_unfinished(store: Store) -> int:
    """Remove the snapshots of the epoch that was cut off, in a store that no process runs on; gives their number.

    Bytewax reads that epoch again, and perhaps with less in it: a key that then is not touched would keep the state
    of the first time, ahead of the source, and the execution after it would take that for the truth.

    Raises:
        StateError: a partition cannot be written.
    """
    return sum(_remove_from(file, store.resume_epoch) for file in partition_files(store.folder))


def _remove_from(file: Path, epoch: int) -> int:
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            return connection.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (epoch,)).rowcount
    except sqlite3.Error as error:
        raise StateError(f"{file} of the recovery store cannot be written: {error}") from error


def _refuse_store(folder: Path, otherwise: str = "") -> None:
    # a log without its partition counts: SQLite would play it into a new one
    if any(folder.glob(FILES)):
        raise SettingsError(f"{folder} holds a recovery store, which is left as it is; give another folder{otherwise}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder}: a recovery store cannot be put there: {error.strerror}") from error


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to, which is gone afterwards unless it was renamed."""
    _make(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(whole: Pinned, folder: Path) -> None:
    for file, source in zip(whole.files, whole.connections, strict=True):
        try:
            with closing(sqlite3.connect(folder / file.name, isolation_level=None)) as target:
                # It copies what the source's open read transaction sees, whatever is written meanwhile.
                source.backup(target)
                _clamp(target, whole.store)
        except sqlite3.Error as error:
            raise StateError(f"{file} of the recovery store cannot be copied to {folder}: {error}") from error
    _sync(folder)


def _clamp(copy: sqlite3.Connection, store: Store) -> None:
    """Put a copied partition back to the store's resume epoch: it may have been a little further on."""
    latest = -1 if store.execution is None else store.execution
    copy.execute("BEGIN")
    copy.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (store.resume_epoch,))
    copy.execute("DELETE FROM fronts WHERE ex_num > ?", (latest,))
    copy.execute("UPDATE fronts SET worker_frontier = min(worker_frontier, ?)", (store.resume_epoch,))
    copy.execute("COMMIT")


def _check_pages(connection: sqlite3.Connection, file: Path) -> None:
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise StateError(f"{file} is damaged ({found}); take another backup")


def _move_aside(folder: Path) -> Path | None:
    """Move a store's files into a folder beside them: a volume's own folder could not be renamed."""
    files = sorted(folder.glob(FILES))
    if not files:
        return None
    aside = folder / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    aside.mkdir()
    for file in files:
        file.rename(aside / file.name)
    _sync(aside)
    return aside


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
