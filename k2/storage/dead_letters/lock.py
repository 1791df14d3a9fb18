"""The dead letters of one Iceberg writer are written by one process at a time."""

import fcntl
import os
from pathlib import Path

from k2.model.errors import SettingsError, StateError

__all__ = ["FileLock", "check_folder", "check_free"]


def check_folder(folder: Path) -> None:
    """Make the folder, so that what is amiss is said before the job runs.

    Raises:
        SettingsError: it cannot be made or written.
    """
    os.close(_opened(folder, ".lock"))


def check_free(folder: Path, prefix: str) -> None:
    """Ask whether the series whose names begin so could be taken now; processes of one cluster may ask at once.

    Raises:
        SettingsError: the folder cannot be made or written.
        StateError: another process has them.
    """
    FileLock(folder, prefix, how=fcntl.LOCK_SH).release()


class FileLock:
    """Keeps the series of one Iceberg writer to one process; it ends with the process, however that ends."""

    def __init__(self, folder: Path, prefix: str, how: int = fcntl.LOCK_EX) -> None:
        """Take the series whose names begin so, alone unless `how` says otherwise.

        Raises:
            SettingsError: the folder cannot be made or written.
            StateError: another process has it.
        """
        self._descriptor = _opened(folder, f".lock-{prefix.rstrip('-')}")
        self._lock(folder, how)

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)

    def _lock(self, folder: Path, how: int) -> None:
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise StateError(
                f"another process writes dead letters of this table in {folder}: another instance of the job runs, "
                "stop one of the two"
            ) from error


def _opened(folder: Path, name: str) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SettingsError(
            f"K2_DLQ_DIR={str(folder)!r}: dead letters cannot be written there: {error.strerror}"
        ) from error
