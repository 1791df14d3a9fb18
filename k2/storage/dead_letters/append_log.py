"""An append-only log of lines in numbered files; its size on disk is known to the byte, also after a failed write."""

import os
from collections.abc import Iterable
from pathlib import Path

from k2.model.errors import StateError, UnreachableError
from k2.ops.failpoints import failpoint
from k2.ops.metrics import RETRIES
from k2.ops.retry import retried
from k2.storage.dead_letters.files import Position, file_name
from k2.storage.files import sync

__all__ = ["AppendLog"]


class AppendLog:
    """Appends lines at a position, and starts another file before one would exceed its limit.

    A line is never split across files; one larger than the limit gets its own file.
    """

    def __init__(self, folder: Path, series: str, position: Position, file_bytes_max: int) -> None:
        self._folder = folder
        self._series = series
        self._position = position
        self._file_bytes_max = file_bytes_max
        self._descriptor: int | None = None

    @property
    def position(self) -> Position:
        """Position of the next line; nothing lies beyond it."""
        return self._position

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines to the operating system; `sync` makes them durable.

        Raises:
            UnreachableError: the disk refused the write, also after retries.
        """
        pending = bytearray()
        for line in lines:
            file_bytes = self._position.bytes + len(pending)
            if file_bytes and file_bytes + len(line) > self._file_bytes_max:
                self._write(pending)
                self._start_next_file()
                pending.clear()
            pending += line
        self._write(pending)

    def sync(self) -> None:
        """Make the appended lines durable.

        Never retried: after a failed fsync the kernel may have dropped the bytes and report success.

        Raises:
            UnreachableError: fsync failed.
        """
        if self._descriptor is not None:
            try:
                failpoint("letters.fsync")
                os.fsync(self._descriptor)
                failpoint("letters.fsynced")
            except OSError as error:
                raise UnreachableError(
                    f"dead letters in {self._path} cannot be made durable: {error.strerror or error}; "
                    "repair the disk or free space on it, then restart"
                ) from error

    def close(self) -> None:
        """Make the appended lines durable, and close the file."""
        self.sync()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, data: bytearray) -> None:
        if not data:
            return
        retried(f"writing dead letters to {self._path}", lambda: self._write_once(data), on_retry=_count_retry)
        self._position = Position(self._position.number, self._position.bytes + len(data))

    def _write_once(self, data: bytearray) -> None:
        if self._descriptor is None:
            self._descriptor = self._open()
        self._truncate_unfinished(self._descriptor)
        failpoint("letters.append")
        view, offset = memoryview(data), self._position.bytes
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written
        failpoint("letters.appended")

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        sync(self._folder)
        return descriptor

    def _truncate_unfinished(self, descriptor: int) -> None:
        """Remove what a failed write left beyond the position."""
        size = os.fstat(descriptor).st_size
        if size < self._position.bytes:
            raise StateError(
                f"{self._path} has {size} bytes but {self._position.bytes} were written; "
                "another program truncated it while this job was running"
            )
        if size > self._position.bytes:
            os.ftruncate(descriptor, self._position.bytes)

    def _start_next_file(self) -> None:
        self.close()
        failpoint("letters.rotate")
        self._position = Position(self._position.number + 1, 0)

    @property
    def _path(self) -> Path:
        return self._folder / file_name(self._series, self._position.number)


def _count_retry(_operation: str) -> None:
    RETRIES.labels("dead_letters_write").inc()
