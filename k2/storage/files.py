"""Locks on files."""

import fcntl
import os
from pathlib import Path

__all__ = ["lock_file"]


def lock_file(path: Path, how: int, access: int = os.O_RDWR | os.O_CREAT) -> int:
    """Lock a file without waiting; return the descriptor that holds the lock.

    `how` is `fcntl.LOCK_EX` or `fcntl.LOCK_SH`. The lock is held until the descriptor is closed or the process exits,
    however it exits.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file cannot be opened with `access`.
    """
    descriptor = os.open(path, access | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
