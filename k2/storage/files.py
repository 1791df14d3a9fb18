"""Locks on files, and fsync of files and folders."""

import fcntl
import os
from pathlib import Path

__all__ = ["lock_file", "sync"]


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


def sync(path: Path) -> None:
    """Make a file's content, or a folder's list of files, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
