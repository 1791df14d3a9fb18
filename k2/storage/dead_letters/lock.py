"""Lock of one Iceberg writer's dead letters: one process writes them at a time."""

import fcntl
import os
from pathlib import Path

from k2.model.errors import SettingsError, StateError

__all__ = ["FileLock", "check_folder", "check_free"]


def check_folder(folder: Path) -> None:
    """Create the folder, so that errors are reported before the job runs.

    Raises:
        SettingsError: it cannot be created or written.
    """
    os.close(_open(folder, ".lock"))


def check_free(folder: Path, prefix: str) -> None:
    """Check that no process holds the series whose names start with `prefix`; several processes may check at once.

    Raises:
        SettingsError: the folder cannot be created or written.
        StateError: another process holds them.
    """
    FileLock(folder, prefix, how=fcntl.LOCK_SH).release()


class FileLock:
    """Lock on the series of one Iceberg writer; it is released when the process exits, however it exits."""

    def __init__(self, folder: Path, prefix: str, how: int = fcntl.LOCK_EX) -> None:
        """Lock the series whose names start with `prefix`, exclusively unless `how` is `fcntl.LOCK_SH`.

        Raises:
            SettingsError: the folder cannot be created or written.
            StateError: another process holds the lock.
        """
        self._descriptor = _open(folder, f".lock-{prefix.rstrip('-')}")
        self._lock(folder, how)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)

    def _lock(self, folder: Path, how: int) -> None:
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise StateError(
                f"another process writes dead letters of this table in {folder}: another instance of the job runs; "
                "stop one of the two"
            ) from error


def _open(folder: Path, name: str) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SettingsError(
            f"K2_DLQ_DIR={str(folder)!r}: dead letters cannot be written there: {error.strerror}"
        ) from error
