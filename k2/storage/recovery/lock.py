"""Lock a recovery store: one execution at a time, with one lock for each process of the cluster."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from k2.model.errors import SettingsError, StateError
from k2.storage.files import lock_file

__all__ = ["exclusive_lock", "is_locked", "lock_store"]

FIRST_PROCESS: Final = 0
ASK_SECONDS_MAX: Final = 0.05
"""`is_locked` holds a lock for less than this time."""


def lock_store(folder: Path, process: int) -> int:
    """Lock a store for the process with this index in its cluster; return the descriptor that holds the lock.

    The lock is held until the descriptor is closed or the process exits, however it exits. Processes of one cluster
    may share a folder, because each index has its own lock. A second cluster has the same indexes, so it is locked out.

    Raises:
        StateError: another process holds the lock.
        SettingsError: the folder cannot be written.
    """
    path = _path(folder, process)
    try:
        descriptor = _lock(path)
    except BlockingIOError as error:
        holder = path.read_text(errors="replace").strip() or "unknown"
        raise StateError(
            f"another execution (process {holder}) runs on the recovery store {folder}; stop it first, or give each "
            "its own store and K2_NAMESPACE"
        ) from error
    except OSError as error:
        raise SettingsError(f"{folder}: a recovery store cannot be written there: {error.strerror}") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _lock(path: Path) -> int:
    """Lock a file for a job; try again after the time in which another process only asks whether it is locked."""
    lock = partial(lock_file, path, fcntl.LOCK_EX)
    with suppress(BlockingIOError):
        return lock()
    time.sleep(ASK_SECONDS_MAX)
    return lock()


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold the locks of every process, so that no cluster can use the store meanwhile.

    Raises:
        StateError: a process uses it.
        SettingsError: the folder cannot be written.
    """
    with ExitStack() as stack:
        for process in sorted({FIRST_PROCESS, *_processes(folder)}):
            stack.callback(os.close, lock_store(folder, process))
        yield


def is_locked(folder: Path) -> bool:
    """Return whether a process uses a store; no lock is kept, and a job that starts meanwhile is not refused."""
    return any(_is_locked(_path(folder, process)) for process in _processes(folder))


def _is_locked(path: Path) -> bool:
    try:
        os.close(lock_file(path, fcntl.LOCK_SH, os.O_RDONLY))
    except BlockingIOError:
        return True
    return False


def _path(folder: Path, process: int) -> Path:
    return folder / f"process-{process}.lock"


def _processes(folder: Path) -> list[int]:
    numbers = (file.stem.removeprefix("process-") for file in folder.glob("process-*.lock"))
    return [int(number) for number in numbers if number.isdecimal()]
