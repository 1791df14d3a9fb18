"""Find dead-letter files, `dlq-SERIES-00000001.jsonl` and so on, and read them line by line.

A series is what one Iceberg writer of one table wrote in one folder. So tables may share a folder, and the writers of
one table may run on several machines. The folder is on a local disk, or an address in an object store.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from heapq import merge
from itertools import chain
from os import SEEK_END
from typing import BinaryIO, Final, NamedTuple, Protocol

import msgspec

from k2.model.dead_letter import Coordinates, DeadLetter

__all__ = [
    "BEGIN",
    "DeadLetterFile",
    "DeadLetterFolder",
    "DeadLetterLine",
    "Position",
    "committed_dead_letters",
    "committed_files",
    "committed_lines",
    "file_name",
    "lines_of",
    "lost_names",
    "newest_lines",
    "parse_name",
    "read_coordinates",
    "read_dead_letters",
    "series_in",
    "series_prefix",
    "table_prefix",
]

NEWEST_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"dlq-(?:(.+)-)?(?:(\d{8,})_)?(\d{8,})\.jsonl")


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


class DeadLetterFile(NamedTuple):
    """A file of dead letters, as it is listed."""

    number: int
    """Its number in the series, from 1."""
    first: int
    """Number of the first file whose lines it has: an object may repeat small ones before it."""
    series: str | None
    name: str
    bytes: int


class DeadLetterFolder(Protocol):
    """A folder of dead letters, or an address in an object store; read-only."""

    def files(self) -> list[DeadLetterFile]:
        """Return its dead-letter files, oldest first; an empty list if there is no folder."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file to read it."""
        ...

    def location(self, name: str) -> str:
        """Return the whole path of a file, for messages."""
        ...


class DeadLetterLine(NamedTuple):
    """One complete line of a dead-letter file, without its newline."""

    file: str
    """Location of the file."""
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
    return f"{table_prefix(table_id)}{writer}-"


def table_prefix(table_id: str) -> str:
    """Return the name prefix of all series of the table with this UUID.

    >>> table_prefix("9c1f03aa-0b52-4d0e-8f7e-3a8f6c1f9d10")
    '9c1f03aa-'
    """
    return f"{table_id[:8]}-"


def file_name(series: str, number: int, first: int | None = None) -> str:
    """Return the name of a series' n-th file; of one that repeats the lines from `first` on, if that is given.

    >>> file_name("9c1f03aa-0-5d1e7e", 9), file_name("9c1f03aa-0-5d1e7e", 9, 5)
    ('dlq-9c1f03aa-0-5d1e7e-00000009.jsonl', 'dlq-9c1f03aa-0-5d1e7e-00000005_00000009.jsonl')
    """
    repeated = "" if first is None or first == number else f"{first:08d}_"
    return f"dlq-{series}-{repeated}{number:08d}.jsonl"


def parse_name(name: str, size: int) -> DeadLetterFile | None:
    """Return what the name of a file of `size` bytes says; None if it is not a dead-letter file."""
    match = _NAME.fullmatch(name)
    return match and DeadLetterFile(int(match[3]), int(match[2] or match[3]), match[1], name, size)


def series_in(folder: DeadLetterFolder, prefix: str) -> list[str]:
    """Return the series in a folder whose names start with `prefix`, sorted by name."""
    names = {file.series for file in folder.files() if file.series is not None}
    return sorted(name for name in names if name.startswith(prefix))


def committed_files(files: Iterable[DeadLetterFile], series: str, number: int) -> list[DeadLetterFile]:
    """Return the files that have a series' lines up to the n-th file, oldest first, without those that others repeat.

    The last may be a longer one that repeats the n-th, which may be gone. It begins with the same bytes, so what the
    n-th had ends at the same position.
    """
    longest: dict[int, DeadLetterFile] = {}
    for file in files:
        if file.series == series and file.first <= number:
            longest[file.first] = max(file, longest.get(file.first, file))
    return [longest[first] for first in sorted(longest)]


def lost_names(folder: DeadLetterFolder, positions: Iterable[Mapping[str, Position]]) -> Iterator[str]:
    """Yield the names of files that are absent, unreadable, or shorter than the recorded positions.

    A file that was only begun has no line yet, and need not exist.
    """
    try:
        files = folder.files()
    except PermissionError:
        files = []
    for series, position in chain.from_iterable(recorded.items() for recorded in positions):
        following = 1
        for file in committed_files(files, series, position.number):
            yield from (file_name(series, number) for number in range(following, file.first))
            is_short = file.number >= position.number and file.bytes < position.bytes
            following = file.first if is_short else file.number + 1
        last = position.number if position.bytes else position.number - 1
        yield from (file_name(series, number) for number in range(following, last + 1))


def committed_lines(folder: DeadLetterFolder, positions: Iterable[Mapping[str, Position]]) -> Iterator[DeadLetterLine]:
    """Yield the lines in this folder that commits of the table `trades` have counted, up to the recorded positions."""
    files = folder.files()
    for series, position in chain.from_iterable(recorded.items() for recorded in positions):
        yield from _committed_lines(folder, files, series, position)


def _committed_lines(
    folder: DeadLetterFolder, files: Iterable[DeadLetterFile], series: str, position: Position
) -> Iterator[DeadLetterLine]:
    for file in committed_files(files, series, position.number):
        for line in _lines_of_version(folder, file, position.number):
            if file.number < position.number or line.start < position.bytes:
                yield line


def _lines_of_version(folder: DeadLetterFolder, file: DeadLetterFile, number: int) -> Iterator[DeadLetterLine]:
    """Yield the lines of a file, or of the one that repeats it if it was replaced since it was listed."""
    try:
        stream = folder.open(file.name)
    except FileNotFoundError:
        found = committed_files(folder.files(), file.series or "", number)
        newer = next((one for one in found if one.first == file.first and one.name != file.name), None)
        if newer is None:
            raise
        file, stream = newer, folder.open(newer.name)
    yield from _lines(stream, folder.location(file.name))


def committed_dead_letters(
    folder: DeadLetterFolder, positions: Iterable[Mapping[str, Position]], unreadable: Callable[[str], None]
) -> Iterator[DeadLetter]:
    """Yield the dead letters that commits have counted, in the order of `read_dead_letters`."""
    files = folder.files()
    recorded = chain.from_iterable(one.items() for one in positions)
    lines = (_committed_lines(folder, files, series, position) for series, position in recorded)
    return merge(*(_readable(one, unreadable) for one in lines), key=_written_at)


def lines_of(folder: DeadLetterFolder, files: Iterable[DeadLetterFile]) -> Iterator[DeadLetterLine]:
    """Yield the complete lines of files.

    What follows a file's last newline was never finished, and is skipped.
    """
    for file in files:
        yield from _lines(folder.open(file.name), folder.location(file.name))


def _lines(stream: BinaryIO, location: str) -> Iterator[DeadLetterLine]:
    start = 0
    with closing(stream):
        for number, text in enumerate(stream, 1):
            if text.endswith(b"\n"):
                yield DeadLetterLine(location, number, start, text[:-1])
            start += len(text)


def newest_lines(folder: DeadLetterFolder, count: int, among: Collection[str]) -> list[bytes]:
    """Return at most `count` of the newest complete lines of each of some series, from its newest file alone.

    At most the last mebibyte of a file is read.
    """
    newest = {file.series: file for file in folder.files() if file.series in among}
    found: list[bytes] = []
    for file in newest.values():
        with closing(folder.open(file.name)) as stream:
            size = stream.seek(0, SEEK_END)
            start = max(0, size - NEWEST_BYTES)
            stream.seek(start)
            *lines, _unfinished = stream.read().split(b"\n")
        # The first line is cut unless the whole file was read.
        found += (lines if start == 0 else lines[1:])[-count:]
    return found


def read_dead_letters(folder: DeadLetterFolder, unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    """Yield a folder's dead letters, of all series together in the order in which they were written.

    Lines that are not a dead letter are skipped; each is reported to `unreadable` as `file:line: reason`.
    """
    files: dict[str | None, list[DeadLetterFile]] = {}
    for file in folder.files():
        files.setdefault(file.series, []).append(file)
    lines = (lines_of(folder, series_files) for series_files in files.values())
    return merge(*(_readable(one, unreadable) for one in lines), key=_written_at)


def _readable(lines: Iterable[DeadLetterLine], unreadable: Callable[[str], None]) -> Iterator[DeadLetter]:
    for line in lines:
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
