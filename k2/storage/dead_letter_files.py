"""Files of dead letters, `dlq-SERIES-00000001.jsonl` and so on: found, and read a line at a time.

A series is what one Iceberg writer of one table wrote in one folder, so that tables may share a folder, and the
writers of one table may run on several machines.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from heapq import merge
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from k2.model.dead_letter import Coordinates, DeadLetter

__all__ = [
    "BEGIN",
    "Line",
    "Position",
    "committed_lines",
    "file_name",
    "file_number",
    "files_in",
    "files_of",
    "letters_in",
    "lines_of",
    "read_coordinates",
    "recorded_letters",
    "recording",
    "series_in",
    "series_prefix",
]

_NAME: Final = re.compile(r"dlq-(?:(.+)-)?(\d{8,})\.jsonl")
_PROPERTY: Final = "k2.letters."


class Position(NamedTuple):
    """Where the next line of a series goes; its text form is `number:bytes`."""

    number: int
    """Of the file, from 1."""
    bytes: int

    def __str__(self) -> str:
        return f"{self.number}:{self.bytes}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read the text form."""
        number, _, size = text.partition(":")
        return cls(int(number), int(size))


BEGIN: Final = Position(1, 0)


class Line(NamedTuple):
    """One whole line of a file, without its newline."""

    file: Path
    number: int
    """From 1, where reading began."""
    start: int
    """Bytes from the file's begin."""
    text: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


def series_prefix(table_id: str, writer: str) -> str:
    """Return what the names of all series begin with that one Iceberg writer of the table with this UUID wrote.

    >>> series_prefix("9c1f03aa-0b52-4d0e-8f7e-3a8f6c1f9d10", "0")
    '9c1f03aa-0-'
    """
    return f"{table_id[:8]}-{writer}-"


def recorded_letters(properties: Mapping[str, str], writer: str) -> dict[str, Position]:
    """Return how far each of a writer's series was at its last commit, by the properties of the table `trades`."""
    recorded: dict[str, str] = msgspec.json.decode(properties.get(_PROPERTY + writer, "{}"))
    return {series: Position.parse(text) for series, text in recorded.items()}


def recording(writer: str, recorded: Mapping[str, Position]) -> dict[str, str]:
    """Return the property of the table `trades` that `recorded_letters` reads."""
    positions = {series: str(position) for series, position in sorted(recorded.items())}
    return {_PROPERTY + writer: msgspec.json.encode(positions).decode()}


def file_name(series: str, number: int) -> str:
    """Name the n-th file of a series."""
    return f"dlq-{series}-{number:08d}.jsonl"


def file_number(name: str) -> int | None:
    """Return a file's number by its name; None where it is no file of dead letters."""
    match = _NAME.fullmatch(name)
    return int(match[2]) if match else None


def _series(path: Path) -> str | None:
    match = _NAME.fullmatch(path.name)
    return match[1] if match else None


def files_in(folder: Path) -> list[Path]:
    """Return the folder's files of dead letters, oldest first; none where there is no folder."""
    if not folder.is_dir():
        return []
    numbered = [(number, path) for path in folder.iterdir() if (number := file_number(path.name)) is not None]
    return [path for _, path in sorted(numbered)]


def files_of(folder: Path, series: str) -> list[Path]:
    """Return a series' files, oldest first."""
    return [path for path in files_in(folder) if _series(path) == series]


def series_in(folder: Path, prefix: str) -> list[str]:
    """Return the series in a folder whose names begin so, in the order of their names."""
    names = {name for path in files_in(folder) if (name := _series(path)) is not None}
    return sorted(name for name in names if name.startswith(prefix))


def committed_lines(folder: Path, properties: Mapping[str, str], writers: Iterable[str]) -> Iterator[Line]:
    """Yield the lines that commits of the table `trades` have counted, of those series that are in this folder."""
    recorded = [item for writer in writers for item in recorded_letters(properties, writer).items()]
    for series, position in recorded:
        for path in files_of(folder, series):
            number = file_number(path.name) or 0
            for line in lines_of([path]) if number <= position.number else ():
                if number < position.number or line.start < position.bytes:
                    yield line


def lines_of(files: Iterable[Path], position: int = 0) -> Iterator[Line]:
    """Yield the whole lines of files, the first from a byte position on.

    What follows a file's last newline was never finished, and is left out.
    """
    for file in files:
        with file.open("rb") as stream:
            stream.seek(position)
            start, position = position, 0
            for number, text in enumerate(stream, 1):
                if text.endswith(b"\n"):
                    yield Line(file, number, start, text[:-1])
                start += len(text)


def letters_in(folder: Path, unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    """Read a folder's letters, of all series together in the order in which they were written, one at a time.

    Lines that are no dead letter are left out, each told to `unreadable` as `file:line: why`.
    """
    files: dict[str | None, list[Path]] = {}
    for path in files_in(folder):
        files.setdefault(_series(path), []).append(path)
    return merge(*(_readable(some, unreadable) for some in files.values()), key=_written_at)


def _readable(files: Iterable[Path], unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    for line in lines_of(files):
        try:
            yield DeadLetter.parse(line.text)
        except ValueError as error:
            unreadable(f"{line}: {error}")


def _written_at(letter: DeadLetter) -> datetime:
    return letter.dead_lettered_at or datetime.min.replace(tzinfo=UTC)


def read_coordinates(lines: Iterable[Line], unreadable: Callable[[str], None]) -> Iterator[tuple[Line, Coordinates]]:
    """Read where each line's trade came from, and no more of it; what is unreadable as `letters_in`."""
    decoder = msgspec.json.Decoder(Coordinates)
    for line in lines:
        try:
            coordinates = decoder.decode(line.text)
        except ValueError as error:
            unreadable(f"{line}: {error}")
        else:
            yield line, coordinates
