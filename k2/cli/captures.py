"""Captures: files of one message a line, plain or gzip, read as the bytes that they are."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from k2.model.errors import K2Error, SettingsError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["STDIN", "CaptureError", "Line", "capture_name", "check_captures", "read_capture"]

STDIN: Final = "-"
GZIP_MAGIC: Final = b"\x1f\x8b"
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
UNPACKED_BYTES: Final = 1024 * 1024


class CaptureError(K2Error, RuntimeError):
    """A capture could be opened, but not be read to its end."""


class Line(NamedTuple):
    """One line of a capture."""

    number: int
    """From 1."""
    value: bytes
    """What lies between two newlines; a carriage return before the second belongs to it."""
    position: int
    """Bytes of the file read so far, for a progress bar; 0 for stdin."""


def check_captures(files: list[str]) -> int | None:
    """Make sure that every file can be opened; gives their bytes in all, None where stdin is among them.

    Raises:
        SettingsError: one cannot.
    """
    total = 0
    for file in files:
        if file == STDIN:
            continue
        with _opened(file) as raw:
            total += raw.seek(0, io.SEEK_END) if raw.seekable() else 0
    return None if STDIN in files else total


def read_capture(file: str) -> Iterator[Line]:
    """Yield the lines of a file; `-` is stdin. Gzip is told by its first bytes, whatever the file's name.

    The last line needs no newline. All whole lines before a fault are given, then the fault is raised.

    Raises:
        SettingsError: the file cannot be opened.
        CaptureError: it cannot be read further: its gzip is cut off or damaged, or a line is longer than 64 MiB.
    """
    number = 0
    with _opened(file) as raw:
        try:
            for number, value in enumerate(_lines(_unpacked(raw)), start=1):
                yield Line(number, value, 0 if file == STDIN else raw.tell())
        except EOFError:
            raise CaptureError(f"{capture_name(file)} is cut off after line {number:,}: its gzip has no end") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise CaptureError(f"{capture_name(file)} is damaged after line {number:,}: {error}") from None
        except OSError as error:
            raise CaptureError(f"{capture_name(file)} cannot be read after line {number:,}: {error.strerror}") from None
        except _TooLongError:
            raise CaptureError(
                f"{capture_name(file)}: line {number + 1:,} is longer than {LINE_BYTES_MAX:,} bytes"
            ) from None


class _TooLongError(Exception):
    pass


def _lines(data: BinaryIO) -> Iterator[bytes]:
    while line := data.readline(LINE_BYTES_MAX + 1):
        if line.endswith(b"\n"):
            yield line[:-1]
        elif len(line) > LINE_BYTES_MAX:
            raise _TooLongError
        else:
            yield line


def _unpacked(raw: io.BufferedReader) -> BinaryIO:
    if raw.peek(2)[:2] == GZIP_MAGIC:
        return io.BufferedReader(_Unpacked(gzip.GzipFile(fileobj=raw)), UNPACKED_BYTES)
    return raw


class _Unpacked(io.RawIOBase):
    """What a gzip holds, a piece at a time: asked for much at once, it would keep all of it back at a fault."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        room = memoryview(buffer)
        piece = self._packed.read1(len(room))
        room[: len(piece)] = piece
        return len(piece)


@contextmanager
def _opened(file: str) -> Iterator[io.BufferedReader]:
    if not file:
        raise SettingsError("FILE is empty: name a capture, or - for standard input")
    if file == STDIN:
        yield sys.stdin.buffer  # type: ignore[misc]  # typed as less than it is
        return
    try:
        raw = Path(file).open("rb")  # noqa: SIM115  closed below: a fault while reading is told in other words
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    with raw:
        yield raw


def capture_name(file: str) -> str:
    """Name a capture in a sentence."""
    return "stdin" if file == STDIN else file
