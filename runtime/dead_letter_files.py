"""Files of dead letters, `dlq-00000001.jsonl` and so on: found, and read a line at a time."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trades.dead_letter import Coordinates, DeadLetter
from trades.progress import TopicPartition

__all__ = [
    "CoordinateIndex",
    "Line",
    "file_name",
    "file_number",
    "files_in",
    "letters_in",
    "lines_of",
    "read_coordinates",
]

_NAME: Final = re.compile(r"dlq-(\d{8,})\.jsonl")


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


def file_name(number: int) -> str:
    """Name the n-th file."""
    return f"dlq-{number:08d}.jsonl"


def file_number(name: str) -> int | None:
    """Give a file's number by its name; None where it is no file of dead letters."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def files_in(folder: Path) -> list[Path]:
    """Give the folder's files of dead letters, oldest first; none where there is no folder."""
    if not folder.is_dir():
        return []
    numbered = [(number, path) for path in folder.iterdir() if (number := file_number(path.name)) is not None]
    return [path for _, path in sorted(numbered)]


def lines_of(files: Iterable[Path], position: int = 0) -> Iterator[Line]:
    """Give the whole lines of files, the first from a byte position on.

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
    """Read a folder's letters, oldest first, one at a time.

    Lines that are no dead letter are left out, each told to `unreadable` as `file:line: why`.
    """
    for line in lines_of(files_in(folder)):
        try:
            yield DeadLetter.parse(line.text)
        except ValueError as error:
            unreadable(f"{line}: {error}")


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


class CoordinateIndex:
    """Coordinates in order, for each topic partition: 16 bytes a letter."""

    def __init__(self, coordinates: Iterable[Coordinates] = ()) -> None:
        rows: dict[TopicPartition, tuple[list[int], list[int]]] = {}
        for one in coordinates:
            offsets, indexes = rows.setdefault(TopicPartition(one.topic, one.partition), ([], []))
            offsets.append(one.offset)
            indexes.append(one.index)
        self._columns = {where: _sorted(offsets, indexes) for where, (offsets, indexes) in rows.items()}

    def __contains__(self, wanted: Coordinates) -> bool:
        columns = self._columns.get(TopicPartition(wanted.topic, wanted.partition))
        if columns is None:
            return False
        offsets, indexes = columns
        first, last = np.searchsorted(offsets, [wanted.offset, wanted.offset + 1])
        return bool((indexes[first:last] == wanted.index).any())

    @property
    def has_doubles(self) -> bool:
        """Whether coordinates are there twice."""
        steps = (np.diff(np.stack(columns)) for columns in self._columns.values())
        return any(bool((step == 0).all(axis=0).any()) for step in steps)

    def columns(self) -> dict[TopicPartition, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Give for each topic partition its offsets and indexes, int64[n] each, sorted."""
        return self._columns


def _sorted(offsets: list[int], indexes: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    offset_column, index_column = np.array(offsets, np.int64), np.array(indexes, np.int64)
    order = np.lexsort((index_column, offset_column))
    return offset_column[order], index_column[order]
