"""Lock of one Iceberg writer's dead letters: one process writes them at a time."""

import fcntl
import os
from pathlib import Path

from k2.model.errors import SettingsError, StateError
from k2.storage.files import lock_file

__all__ = ["check_folder", "check_free", "lock_series"]


def check_folder(folder: Path) -> None:
    """Create the folder, so that errors are reported before the job runs.

    Raises:
        SettingsError: it cannot be created or written.
    """
    os.close(_lock(folder, ".lock", fcntl.LOCK_SH))


def check_free(folder: Path, prefix: str) -> None:
    """Check that no process holds the series whose names start with `prefix`; several processes may check at once.

    Raises:
        SettingsError: the folder cannot be created or written.
        StateError: another process holds them.
    """
    os.close(lock_series(folder, prefix, fcntl.LOCK_SH))


def lock_series(folder: Path, prefix: str, how: int = fcntl.LOCK_EX) -> int:
    """Lock the series of one Iceberg writer, those whose names start with `prefix`; return the descriptor to close.

    The lock is exclusive unless `how` is `fcntl.LOCK_SH`, and ends with the process.

    Raises:
        SettingsError: the folder cannot be created or written.
        StateError: another process holds the lock.
    """
    return _lock(folder, f".lock-{prefix.rstrip('-')}", how)


def _lock(folder: Path, name: str, how: int) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock_file(folder / name, how)
    except BlockingIOError as error:
        raise StateError(
            f"another process writes dead letters of this table in {folder}: another instance of the job runs; "
            "stop one of the two"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"K2_DLQ_DIR={str(folder)!r}: dead letters cannot be written there: {error.strerror}; fix the folder, or "
            "set K2_DLQ_DIR to another one (by default, it is `dlq` in K2_DATA_DIR)"
        ) from error
