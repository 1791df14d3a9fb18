"""One execution at a time on a recovery store: a lock for each process of the cluster, held while it lives."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from k2.model.errors import SettingsError, StateError

__all__ = ["held", "is_held", "take"]

FIRST_PROCESS: Final = 0


def take(folder: Path, process: int) -> int:
    """Lock a store for the process with this number in its cluster; gives the descriptor that holds it.

    It is held until the descriptor is closed or the process is gone, however it ends. Processes of one cluster may
    share a folder, since each number has a lock of its own; a second cluster has the same numbers.

    Raises:
        StateError: another process holds it.
        SettingsError: the folder cannot be written.
    """
    try:
        descriptor = os.open(_file(folder, process), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
def held(folder: Path) -> Iterator[None]:
    """Keep every process of every cluster off a store.

    Raises:
        StateError: a process runs on it.
        SettingsError: the folder cannot be written.
    """
    with ExitStack() as stack:
        for process in sorted({FIRST_PROCESS, *_processes(folder)}):
            stack.callback(os.close, take(folder, process))
        yield


def is_held(folder: Path) -> bool:
    """Return whether a process runs on a store; takes nothing."""
    return any(_is_locked(_file(folder, process)) for process in _processes(folder))


def _is_locked(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _file(folder: Path, process: int) -> Path:
    return folder / f"process-{process}.lock"


def _processes(folder: Path) -> list[int]:
    numbers = (file.stem.removeprefix("process-") for file in folder.glob("process-*.lock"))
    return [int(number) for number in numbers if number.isdecimal()]
