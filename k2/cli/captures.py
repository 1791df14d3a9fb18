"""Read captures: files with one message per line, plain or compressed, as raw bytes; and DBN files as JSON lines."""

import gzip
import io
import select
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from k2.cli.dbn import DBN_MAGIC, DamagedDbnError, read_dbn
from k2.model.errors import K2Error, SettingsError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["STDIN", "CaptureError", "CaptureLine", "capture_name", "check_captures", "read_capture"]

STDIN: Final = "-"
GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
DECOMPRESSED_BYTES: Final = 1024 * 1024
QUIET_SECONDS: Final = 1.0
"""Time without data after which stdin is quiet."""


class CaptureError(K2Error, RuntimeError):
    """A capture was opened but cannot be read to its end."""


class CaptureLine(NamedTuple):
    """One line of a capture."""

    number: int
    """Line number, from 1."""
    value: bytes
    """The bytes between two newlines, including a carriage return before the second."""
    position: int
    """Bytes of the file read so far, for a progress bar; 0 for stdin."""


def check_captures(files: list[str]) -> int | None:
    """Check that every file can be opened, and return their total bytes, or None if stdin is one of them.

    Raises:
        SettingsError: If a file cannot be opened.
    """
    total = 0
    for file in files:
        if file == STDIN:
            continue
        with _open(file) as raw:
            total += raw.seek(0, io.SEEK_END) if raw.seekable() else 0
    return None if STDIN in files else total


def read_capture(file: str, on_quiet: Callable[[], None] | None = None) -> Iterator[CaptureLine]:
    """Yield the lines of a file; `-` is stdin. Gzip, zstd and DBN are detected by their first bytes, not by the name.

    The last line needs no newline. All whole lines before a fault are yielded before the fault is raised. `on_quiet` is
    called each time stdin has had no data for a second, before the wait for more.

    Raises:
        SettingsError: If the file cannot be opened.
        CaptureError: If the file is truncated or damaged, or a line is longer than 64 MiB.
    """
    number = 0
    with _open(file, on_quiet) as raw:
        try:
            for number, value in enumerate(_read_lines(_decoded(_decompressed(raw), capture_name(file))), start=1):
                yield CaptureLine(number, value, 0 if file == STDIN else raw.tell())
        except K2Error:
            raise  # of `on_quiet`; some are OSErrors as well
        except EOFError:
            raise CaptureError(
                f"{capture_name(file)} is truncated after line {number:,}: its gzip stream has no end"
            ) from None
        except (gzip.BadGzipFile, zlib.error, DamagedDbnError) as error:
            raise CaptureError(f"{capture_name(file)} is damaged after line {number:,}: {error}") from None
        except OSError as error:
            raise CaptureError(
                f"{capture_name(file)} cannot be read after line {number:,}: {error.strerror or error}"
            ) from None
        except _TooLongError:
            raise CaptureError(
                f"{capture_name(file)}: line {number + 1:,} is longer than {LINE_BYTES_MAX:,} bytes"
            ) from None


class _TooLongError(Exception):
    pass


def _read_lines(data: BinaryIO) -> Iterator[bytes]:
    while line := data.readline(LINE_BYTES_MAX + 1):
        if len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            raise _TooLongError
        yield line.removesuffix(b"\n")


def _decompressed(raw: io.BufferedReader) -> io.BufferedReader:
    if raw.peek(2)[:2] == GZIP_MAGIC:
        return io.BufferedReader(_GzipReader(gzip.GzipFile(fileobj=raw)), DECOMPRESSED_BYTES)
    if raw.peek(4)[:4] == ZSTD_MAGIC:
        import pyarrow as pa  # noqa: PLC0415  takes longer to import than most captures to read

        plain: Any = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return io.BufferedReader(plain, DECOMPRESSED_BYTES)
    return raw


def _decoded(data: io.BufferedReader, name: str) -> BinaryIO:
    is_dbn = data.peek(len(DBN_MAGIC))[: len(DBN_MAGIC)] == DBN_MAGIC
    return read_dbn(data, name) if is_dbn else data


class _GzipReader(io.RawIOBase):
    """Decompress in small chunks: on a fault, one large read would lose everything that it had decompressed."""

    def __init__(self, compressed: gzip.GzipFile) -> None:
        self._compressed = compressed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer)
        chunk = self._compressed.read1(len(target))
        target[: len(chunk)] = chunk
        return len(chunk)


class _QuietReader(io.RawIOBase):
    """Read stdin as data arrives, and report when it is quiet."""

    def __init__(self, source: BinaryIO, on_quiet: Callable[[], None]) -> None:
        self._source = source
        self._on_quiet = on_quiet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer)
        if not self._has_data():
            self._on_quiet()
        # At most one read of the file descriptor, which returns what is there.
        chunk: bytes = self._source.read1(len(target))  # type: ignore[attr-defined]  # a BufferedReader has it
        target[: len(chunk)] = chunk
        return len(chunk)

    def _has_data(self) -> bool:
        try:
            return bool(select.select([self._source], [], [], QUIET_SECONDS)[0])
        except io.UnsupportedOperation:
            return True


@contextmanager
def _open(file: str, on_quiet: Callable[[], None] | None = None) -> Iterator[io.BufferedReader]:
    if not file:
        raise SettingsError("FILE is empty: name a capture, or use - for standard input")
    if file == STDIN:
        if on_quiet is not None:
            yield io.BufferedReader(_QuietReader(sys.stdin.buffer, on_quiet))
            return
        yield sys.stdin.buffer  # type: ignore[misc]  # declared as TextIO, but has a BufferedReader
        return
    try:
        raw = Path(file).open("rb")  # noqa: SIM115  closed below: faults while reading have another message
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    with raw:
        yield raw


def capture_name(file: str) -> str:
    """Return a capture's name for a message."""
    return "stdin" if file == STDIN else file
