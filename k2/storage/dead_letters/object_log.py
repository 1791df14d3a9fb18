"""The dead letters of one Iceberg writer in an object store, which can neither append nor lock."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from k2.model.errors import StateError
from k2.ops.metrics import RETRIES
from k2.ops.retry import retried
from k2.storage.dead_letters.files import DeadLetterFile, Position, committed_files, file_name
from k2.storage.dead_letters.object_folder import ObjectFolder

__all__ = ["ObjectLog"]

WHOLE_BYTES_MIN: Final = 2**20
"""Size from which an object is not written again. With one commit in 10 seconds, 100 kB a second are written at most,
and there is one object for each mebibyte of dead letters."""

_log = structlog.get_logger()


@dataclass
class _Tail:
    """The lines of the series' newest object, which the next one repeats unless they are many."""

    first: int
    """Number of the first object with these lines."""
    lines: bytearray = field(default_factory=bytearray)


class ObjectLog:
    """The dead letters of one writer as objects, each with the next number.

    Every start has a series of its own, so no instance, dead, frozen or live, ever writes an object that a commit of
    another one counts; a commit of an instance that is not the only one is refused by the fence. What a crash left
    behind the recorded position stays there, and no reader counts it.

    An object that is still small is repeated by the next one, whose name has both numbers, and removed once a commit
    counts that. The first object of a start repeats the small ones with which the series of earlier starts end. So the
    number of objects and of recorded series grows with the bytes of the dead letters, not with commits and starts.
    """

    def __init__(
        self, folder: ObjectFolder, prefix: str, recorded: Mapping[str, Position], object_bytes_max: int
    ) -> None:
        """Continue after the recorded positions of the writer whose series have names that start with `prefix`.

        Raises:
            SettingsError: the objects cannot be listed.
            StateError: an object that the table counts is missing, or shorter than recorded.
            UnreachableError: the store does not answer.
        """
        self._folder = folder
        self._object_bytes_max = object_bytes_max
        self._recorded = dict(recorded)
        files = folder.files()
        self._series = _new_series(prefix, {*self._recorded, *(file.series for file in files)})
        self._number = 0
        self._tail: _Tail | None = None
        self._superseded: list[str] = []
        """Objects that a later one repeats, which no commit counts yet."""
        self._removable: list[str] = []
        """Objects that a later one repeats, which the next commit counts."""
        self._check_recorded(files)

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines as one object; as several, if one would exceed its limit.

        Raises:
            UnreachableError: the store did not take it, also after retries.
        """
        pending = [*lines]
        if not pending:
            return
        tail = self._absorb_small_ends() if self._tail is None else self._tail
        if len(tail.lines) >= min(WHOLE_BYTES_MIN, self._object_bytes_max):
            tail = _Tail(self._number + 1)
        for line in pending:
            if tail.lines and len(tail.lines) + len(line) > self._object_bytes_max:
                self._write(tail)
                tail = _Tail(self._number + 1)
            tail.lines += line
        self._write(tail)
        self._tail = tail

    def sync(self) -> Mapping[str, Position]:
        """Return the position of each series of this writer; all lines are durable already.

        Each call means that a commit has counted what the call before returned: objects that it no longer names are
        removed.
        """
        while self._removable:
            self._folder.remove(self._removable.pop())
        self._removable, self._superseded = self._superseded, []
        if self._tail is not None:
            self._recorded[self._series] = Position(self._number, len(self._tail.lines))
        return self._recorded

    def close(self) -> None:
        """Do nothing: an object is whole as soon as it is written."""

    def _write(self, tail: _Tail) -> None:
        number = self._number + 1
        name = file_name(self._series, number, tail.first)
        if len(tail.lines) > 0:
            retried(
                f"writing dead letters to {self._folder.location(name)}",
                lambda: self._folder.write(name, bytes(tail.lines)),
                on_retry=_count_retry,
            )
        if tail.first < number:
            self._superseded.append(file_name(self._series, self._number, tail.first))
        self._number = number

    def _check_recorded(self, files: Sequence[DeadLetterFile]) -> None:
        found = {file.series for file in files}
        if self._recorded and not found & self._recorded.keys():
            _log.warning("dead_letters_elsewhere", folder=self._folder.address, series=sorted(self._recorded))
        for series, position in self._recorded.items():
            last = _last_object(files, series, position)
            if series in found and (last is None or (last.number, last.bytes) < position):
                name = file_name(series, position.number)
                raise StateError(
                    f"{self._folder.location(name)} or the object that repeats it is not there, but the table counts "
                    f"{position.bytes} bytes of dead letters in it; restore it, or set K2_DLQ_DIR to the address where "
                    "it is"
                )

    def _absorb_small_ends(self) -> _Tail:
        """Return the lines with which earlier series end, as far as they are few; record those series without them.

        The objects stay, for readers of older commits; `k2 maintain orphans` removes them.
        """
        tail, files = _Tail(1), self._folder.files()
        for series, position in sorted(self._recorded.items()):
            last = _last_object(files, series, position)
            room = min(WHOLE_BYTES_MIN, self._object_bytes_max) - len(tail.lines)
            if last is None or last.number < position.number or position.bytes > room:
                continue
            with self._folder.open(last.name) as stream:
                tail.lines += stream.read(position.bytes)
            del self._recorded[series]
            if before := _last_object(files, series, Position(last.first - 1, 0)):
                self._recorded[series] = Position(before.number, before.bytes)
        return tail


def _new_series(prefix: str, taken: Collection[str | None]) -> str:
    """Return a series that no start before had: its objects would be overwritten, or read as those of this one."""
    while (series := f"{prefix}{secrets.token_hex(3)}") in taken:
        pass
    return series


def _last_object(files: Iterable[DeadLetterFile], series: str, position: Position) -> DeadLetterFile | None:
    """Return the object with the line before a position; None if the series has none up to there."""
    found = committed_files(files, series, position.number)
    return found[-1] if found else None


def _count_retry(_operation: str) -> None:
    RETRIES.labels("dead_letters_write").inc()
