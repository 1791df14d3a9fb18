"""Find dead-letter files, `dlq-SERIES-00000001.jsonl` and so on, and read them line by line.

A series is what one Iceberg writer of one table wrote in one folder. So tables may share a folder, and the writers of
one table may run on several machines.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from heapq import merge
from itertools import chain
from os import SEEK_END
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from k2.model.dead_letter import Coordinates, DeadLetter

__all__ = [
    "BEGIN",
    "DeadLetterLine",
    "Position",
    "committed_lines",
    "file_name",
    "file_number",
    "files_in",
    "files_of",
    "lines_of",
    "newest_lines",
    "read_coordinates",
    "read_dead_letters",
    "series_in",
    "series_prefix",
]

NEWEST_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"dlq-(?:(.+)-)?(\d{8,})\.jsonl")


class Position(NamedTuple):
    """The position of a series' next line; its text form is `number:bytes`."""

    number: int
    """Number of the file, from 1."""
    bytes: int
    """Offset in the file."""

    def __str__(self) -> str:
        return f"{self.number}:{self.bytes}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Parse the text form."""
        number, _, size = text.partition(":")
        return cls(int(number), int(size))


BEGIN: Final = Position(1, 0)


class DeadLetterLine(NamedTuple):
    """One complete line of a dead-letter file, without its newline."""

    file: Path
    number: int
    """Line number, from 1 at the position where reading started."""
    start: int
    """Byte offset in the file."""
    text: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


def series_prefix(table_id: str, writer: str) -> str:
    """Return the name prefix of all series that one Iceberg writer of the table with this UUID wrote.

    >>> series_prefix("9c1f03aa-0b52-4d0e-8f7e-3a8f6c1f9d10", "0")
    '9c1f03aa-0-'
    """
    return f"{table_id[:8]}-{writer}-"


def file_name(series: str, number: int) -> str:
    """Return the name of a series' n-th file."""
    return f"dlq-{series}-{number:08d}.jsonl"


def file_number(name: str) -> int | None:
    """Return the number in a file's name; None if it is not a dead-letter file."""
    match = _NAME.fullmatch(name)
    return int(match[2]) if match else None


def _series(path: Path) -> str | None:
    match = _NAME.fullmatch(path.name)
    return match[1] if match else None


def files_in(folder: Path) -> list[Path]:
    """Return a folder's dead-letter files, oldest first; an empty list if there is no folder."""
    if not folder.is_dir():
        return []
    numbered = [(number, path) for path in folder.iterdir() if (number := file_number(path.name)) is not None]
    return [path for _, path in sorted(numbered)]


def files_of(folder: Path, series: str) -> list[Path]:
    """Return a series' files, oldest first."""
    return [path for path in files_in(folder) if _series(path) == series]


def series_in(folder: Path, prefix: str) -> list[str]:
    """Return the series in a folder whose names start with `prefix`, sorted by name."""
    names = {name for path in files_in(folder) if (name := _series(path)) is not None}
    return sorted(name for name in names if name.startswith(prefix))


def committed_lines(folder: Path, positions: Iterable[Mapping[str, Position]]) -> Iterator[DeadLetterLine]:
    """Yield the lines in this folder that commits of the table `trades` have counted, up to the recorded positions."""
    for series, position in chain.from_iterable(recorded.items() for recorded in positions):
        for path in files_of(folder, series):
            number = file_number(path.name) or 0
            for line in lines_of([path]) if number <= position.number else ():
                if number < position.number or line.start < position.bytes:
                    yield line


def lines_of(files: Iterable[Path], position: int = 0) -> Iterator[DeadLetterLine]:
    """Yield the complete lines of files, starting at a byte position in the first file.

    What follows a file's last newline was never finished, and is skipped.
    """
    for file in files:
        with file.open("rb") as stream:
            stream.seek(position)
            start, position = position, 0
            for number, text in enumerate(stream, 1):
                if text.endswith(b"\n"):
                    yield DeadLetterLine(file, number, start, text[:-1])
                start += len(text)


def newest_lines(folder: Path, count: int) -> list[bytes]:
    """Return at most `count` of the newest complete lines of each series, oldest first, from its newest file alone.

    At most the last mebibyte of a file is read.
    """
    newest = {_series(path): path for path in files_in(folder)}
    found: list[bytes] = []
    for path in newest.values():
        with path.open("rb") as stream:
            size = stream.seek(0, SEEK_END)
            start = max(0, size - NEWEST_BYTES)
            stream.seek(start)
            *lines, _unfinished = stream.read().split(b"\n")
        # The first line is cut unless the whole file was read.
        found += (lines if start == 0 else lines[1:])[-count:]
    return found


def read_dead_letters(folder: Path, unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    """Yield a folder's dead letters, of all series together in the order in which they were written.

    Lines that are not a dead letter are skipped; each is reported to `unreadable` as `file:line: reason`.
    """
    files: dict[str | None, list[Path]] = {}
    for path in files_in(folder):
        files.setdefault(_series(path), []).append(path)
    return merge(*(_readable(series_files, unreadable) for series_files in files.values()), key=_written_at)


def _readable(files: Iterable[Path], unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    for line in lines_of(files):
        try:
            yield DeadLetter.parse(line.text)
        except ValueError as error:
            unreadable(f"{line}: {error}")


def _written_at(letter: DeadLetter) -> datetime:
    return letter.dead_lettered_at or datetime.min.replace(tzinfo=UTC)


def read_coordinates(
    lines: Iterable[DeadLetterLine], unreadable: Callable[[str], None]
) -> Iterator[tuple[DeadLetterLine, Coordinates]]:
    """Yield each line with the Kafka coordinates of its trade; report unreadable lines as `read_dead_letters` does."""
    decoder = msgspec.json.Decoder(Coordinates)
    for line in lines:
        try:
            coordinates = decoder.decode(line.text)
        except ValueError as error:
            unreadable(f"{line}: {error}")
        else:
            yield line, coordinates
