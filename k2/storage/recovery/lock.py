"""Lock a recovery store: one execution at a time, with one lock for each process of the cluster."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from k2.model.errors import SettingsError, StateError

__all__ = ["exclusive_lock", "is_locked", "lock_store"]

FIRST_PROCESS: Final = 0


def lock_store(folder: Path, process: int) -> int:
    """Lock a store for the process with this index in its cluster; return the descriptor that holds the lock.

    The lock is held until the descriptor is closed or the process exits, however it exits. Processes of one cluster
    may share a folder, because each index has its own lock. A second cluster has the same indexes, so it is locked out.

    Raises:
        StateError: another process holds the lock.
        SettingsError: the folder cannot be written.
    """
    try:
        descriptor = os.open(_lock_file(folder, process), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SettingsError(f"{folder}: a recovery store cannot be written there: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateError(
            f"another execution (process {holder}) runs on the recovery store {folder}; stop it first, or give each "
            "its own store and K2_NAMESPACE"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


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
    """Return whether a process uses a store; no lock is kept."""
    return any(_is_file_locked(_lock_file(folder, process)) for process in _processes(folder))


def _is_file_locked(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(folder: Path, process: int) -> Path:
    return folder / f"process-{process}.lock"


def _processes(folder: Path) -> list[int]:
    numbers = (file.stem.removeprefix("process-") for file in folder.glob("process-*.lock"))
    return [int(number) for number in numbers if number.isdecimal()]
