"""Brings the files of dead letters to where a job goes on from."""

import os
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import structlog

from connectors.dead_letters.writer import Position, Writer, sync_folder
from runtime.dead_letter_files import (
    CoordinateIndex,
    Line,
    file_name,
    file_number,
    files_in,
    lines_of,
    read_coordinates,
)
from runtime.failpoints import failpoint
from trades.dead_letter import Coordinates
from trades.errors import StateError
from trades.progress import Progress, TopicPartition

__all__ = ["begin", "resume", "state_of"]

FORMAT: Final = 1
log = structlog.get_logger()


def state_of(position: Position) -> dict[str, Any]:
    """Give a position as what a recovery store keeps."""
    return {"format": FORMAT, "file": position.file, "position": position.bytes}


def begin(folder: Path, file_bytes_max: int) -> tuple[Position, CoordinateIndex]:
    """Go on after the letters that are there, of which nothing is known.

    None is removed but a last line that was never finished, and letters that are there again: a resume that was cut
    off has left them. Gives the position after all and what they are, so that a replay can leave out those that are
    there.
    """
    files = files_in(folder)
    if not files:
        return Position(file_name(1), 0), CoordinateIndex()
    position, index = Position(files[-1].name, _cut_half_line(files[-1])), _index(files)
    if index.has_doubles:
        position = _leave_the_first(folder, files, file_bytes_max)
        index = _index(files_in(folder))
    return position, index


def resume(
    folder: Path, state: dict[str, Any], progress: Progress, file_bytes_max: int, topics: Collection[str]
) -> tuple[Position, CoordinateIndex]:
    """Go back to the recorded position: what was written after it is removed, since it will come again.

    Letters below the table's progress are as final as the rows committed with them: they are kept, once,
    whatever a replay makes of those messages now. So are those of topics beside `topics`, which the replay does not
    bring: another job with this folder wrote them. Where anything is to be removed, they move to a file of their own
    before; a crash in between leaves both, and the next start sees to it. Else the files stay as they are.

    Gives the position, and what all letters are: where an earlier start knew of no position, letters before
    the recorded one may be of messages that are read only after it.

    Raises:
        StateError: the state is of another format, or the files hold less than it recorded.
    """
    recorded = _position_in(state)
    _check(folder, recorded)
    tail = _files_from(folder, recorded)
    if tail and _count(_final(tail, recorded, progress, topics)) == _count(lines_of(tail, recorded.bytes)):
        position = Position(tail[-1].name, _cut_half_line(tail[-1]))
    else:
        position = _rewrite(folder, recorded, tail, _final(tail, recorded, progress, topics), file_bytes_max)
    failpoint("letters.resumed")
    sync_folder(folder)
    return position, _index(files_in(folder))


def _index(files: list[Path]) -> CoordinateIndex:
    return CoordinateIndex(coordinates for _, coordinates in read_coordinates(lines_of(files), _warn))


def _position_in(state: dict[str, Any]) -> Position:
    if state.get("format") != FORMAT:
        raise StateError(
            f"the recovery store's position of the dead letters has format {state.get('format')!r}, "
            f"this version reads {FORMAT}; start with the version that wrote it, or without this store"
        )
    return Position(state["file"], state["position"])


def _check(folder: Path, recorded: Position) -> None:
    path = folder / recorded.file
    if not path.exists():
        if recorded.bytes:
            raise StateError(
                f"{path} is missing, of which the recovery store recorded {recorded.bytes} bytes; put it back"
            )
        return
    size = path.stat().st_size
    if size < recorded.bytes:
        raise StateError(
            f"{path} has {size} bytes, but the recovery store recorded {recorded.bytes}; put all of it back"
        )


def _files_from(folder: Path, recorded: Position) -> list[Path]:
    first = file_number(recorded.file)
    assert first is not None
    return [path for path in files_in(folder) if (file_number(path.name) or 0) >= first]


def _final(tail: list[Path], recorded: Position, progress: Progress, topics: Collection[str]) -> Iterator[bytes]:
    """Give the lines that no replay brings, or that lie below the table's progress; once each."""
    kept: set[Coordinates] = set()
    for line, coordinates in read_coordinates(lines_of(tail, recorded.bytes), _warn):
        where = TopicPartition(coordinates.topic, coordinates.partition)
        reached = progress.next_offset(where, progress.writers) or 0
        if (where.topic not in topics or coordinates.offset < reached) and coordinates not in kept:
            kept.add(coordinates)
            yield line.text + b"\n"


def _count(lines: Iterable[bytes | Line]) -> int:
    return sum(1 for _ in lines)


def _leave_the_first(folder: Path, files: list[Path], file_bytes_max: int) -> Position:
    """Leave of each letter the first alone, in files written anew from the first that holds another on."""
    seen: set[Coordinates] = set()
    tail = files[sum(1 for _ in takewhile(partial(_is_new, seen), files)) :]
    return _rewrite(folder, Position(tail[0].name, 0), tail, _new(lines_of(tail), seen), file_bytes_max)


def _is_new(seen: set[Coordinates], file: Path) -> bool:
    """Tell whether no letter of a file was seen, nor is there twice; they count as seen then."""
    found = [coordinates for _, coordinates in read_coordinates(lines_of([file]), _warn)]
    if len({*found}) < len(found) or not seen.isdisjoint(found):
        return False
    seen.update(found)
    return True


def _new(lines: Iterable[Line], seen: set[Coordinates]) -> Iterator[bytes]:
    """Give the lines whose letter was not seen, and those that are no letter."""
    for line in lines:
        found = {coordinates for _, coordinates in read_coordinates([line], _warn)}
        if not found & seen:
            seen |= found
            yield line.text + b"\n"


def _rewrite(
    folder: Path, recorded: Position, tail: list[Path], lines: Iterator[bytes], file_bytes_max: int
) -> Position:
    """Write lines to files of their own, and remove what lies after a position then; give the position after them."""
    position = _keep(folder, recorded, lines, file_bytes_max)
    failpoint("letters.kept")
    _remove_after(recorded, tail)
    sync_folder(folder)
    return position


def _keep(folder: Path, recorded: Position, lines: Iterator[bytes], file_bytes_max: int) -> Position:
    last = max((file_number(path.name) or 0 for path in files_in(folder)), default=0)
    writer = Writer(folder, Position(file_name(last + 1), 0), file_bytes_max)
    writer.append(lines)
    writer.close()
    return writer.position if writer.position.bytes else recorded


def _remove_after(recorded: Position, tail: list[Path]) -> None:
    for path in tail:
        if path.name == recorded.file:
            _truncate(path, recorded.bytes)
        else:
            path.unlink()


def _cut_half_line(path: Path) -> int:
    """Cut what follows a file's last newline; gives the bytes that remain."""
    size = 0
    for line in lines_of([path]):
        size = line.start + len(line.text) + 1
    _truncate(path, size)
    return size


def _truncate(path: Path, size: int) -> None:
    if path.stat().st_size == size:
        return
    with path.open("r+b") as stream:
        stream.truncate(size)
        os.fsync(stream.fileno())


def _warn(line: str) -> None:
    log.warning("dead letter cannot be read", line=line)
