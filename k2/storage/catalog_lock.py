"""Lock of a catalog in an SQLite file: the job shares it, and a command that replaces the catalog holds it alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from k2.model.errors import SettingsError, StateError
from k2.ops.settings import Settings
from k2.storage.catalog import database_file
from k2.storage.files import lock_file

__all__ = ["exclusive_catalog", "share_catalog"]


def share_catalog(settings: Settings) -> int | None:
    """Share the catalog for the life of a process of the job; return the descriptor, None if it is not in a file.

    Raises:
        StateError: a command is replacing the catalog.
        SettingsError: the lock file cannot be written.
    """
    database = database_file(settings)
    return None if database is None else _lock(database, fcntl.LOCK_SH, "`k2 catalog` works on it; start again later")


@contextmanager
def exclusive_catalog(database: Path) -> Iterator[None]:
    """Hold a catalog alone for a block.

    Raises:
        StateError: the job runs, or another command works on the catalog.
        SettingsError: the lock file cannot be written.
    """
    descriptor = _lock(database, fcntl.LOCK_EX, "stop the job, or wait for the other command, and try again")
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(database: Path, how: int, advice: str) -> int:
    # A file of its own: SQLite drops its locks on a database if another descriptor of the process is closed.
    path = database.with_name(f"{database.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return lock_file(path, how)
    except BlockingIOError as error:
        raise StateError(f"the catalog {database} is in use by another process: {advice}") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; grant access, or set K2_DATA_DIR") from error
