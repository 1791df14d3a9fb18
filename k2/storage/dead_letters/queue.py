"""The dead letters of one Iceberg writer: durable before the commit that counts them, cut back to it after a crash."""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from k2.model.dead_letter import DeadLetter
from k2.model.errors import StateError
from k2.model.reasons import Reason
from k2.ops.failpoints import failpoint
from k2.ops.metrics import CONFLICTS, DEAD_LETTERS
from k2.storage.dead_letter_files import BEGIN, Position, file_name, file_number, files_of, series_in
from k2.storage.dead_letters.append_log import Writer, sync_folder
from k2.storage.dead_letters.lock import FileLock

__all__ = ["DeadLetterQueue"]

Clock = Callable[[], datetime]
Settle = Callable[[], Mapping[str, Position]]
"""Sees to it that no commit from before can land any more; gives what is recorded then."""

PENDING_BYTES_MAX: Final = 8 * 2**20
"""So much is held back until the epoch ends: what is not in the files needs no removal after a crash."""

_log = structlog.get_logger()


def _now() -> datetime:
    return datetime.now(UTC)


class DeadLetterQueue:
    """The letters of one writer, of which each commit records how far they were when it was made.

    They are durable to there before. So what lies before the recorded position is counted by the table, and what lies
    behind it was written by an epoch that never landed: it is removed at the start, since the replay brings those
    messages again, perhaps with other verdicts.

    A folder that holds nothing of this writer begins a series of its own, though others are recorded: those are
    another machine's.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        recorded: Mapping[str, Position],
        file_bytes_max: int,
        clock: Clock = _now,
        settle: Settle | None = None,
    ) -> None:
        """Take the series of this folder whose names begin with `prefix`, and cut them back to what is recorded.

        Before anything is cut `settle` is asked, which may raise what it likes: a commit that was under way when
        `recorded` was read may count what is to be cut.

        Raises:
            SettingsError: the folder cannot be made or written.
            StateError: another process has them, or a series holds less than is recorded of it.
        """
        self._clock = clock
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._lock = FileLock(folder, prefix)
        try:
            if settle is not None and _is_cut_due(folder, prefix, recorded):
                recorded = settle()
            self._recorded = dict(recorded)
            self._series = _taken_up(folder, prefix, recorded)
        except BaseException:
            self._lock.release()
            raise
        position = self._recorded.get(self._series, BEGIN)
        self._writer = Writer(folder, self._series, position, file_bytes_max)

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """Take letters; they are in the files once `sync` was called, or when many are pending.

        Raises:
            UnreachableError: the disk refused, also when tried again.
        """
        now = self._clock()
        for letter in letters:
            DEAD_LETTERS.labels(str(letter.reason)).inc()
            if letter.reason is Reason.CONFLICT:
                CONFLICTS.labels(letter.exchange or "").inc()
            line = msgspec.structs.replace(letter, dead_lettered_at=now).line()
            self._pending.append(line)
            self._pending_bytes += len(line)
            if self._pending_bytes > PENDING_BYTES_MAX:
                self._write()

    def sync(self) -> Mapping[str, Position]:
        """Make durable what was taken; give how far each series of this writer is then.

        Raises:
            UnreachableError: the disk refused.
        """
        self._write()
        self._writer.sync()
        if self._writer.position != BEGIN:
            self._recorded[self._series] = self._writer.position
        return self._recorded

    def close(self) -> None:
        """Let go of the files; what is pending is of no commit, and is left out."""
        self._writer.close()
        self._lock.release()

    def _write(self) -> None:
        self._writer.append(self._pending)
        self._pending, self._pending_bytes = [], 0


def _taken_up(folder: Path, prefix: str, recorded: Mapping[str, Position]) -> str:
    """Cut back what a folder holds of a writer; give the series to go on with."""
    there = series_in(folder, prefix)
    for series in there:
        _cut(folder, series, recorded.get(series, BEGIN))
    known = [series for series in there if series in recorded]
    if recorded and not known:
        _log.warning("dead_letters_elsewhere", folder=str(folder), series=sorted(recorded))
    return next(iter([*known, *there]), f"{prefix}{secrets.token_hex(3)}")


def _is_cut_due(folder: Path, prefix: str, recorded: Mapping[str, Position]) -> bool:
    return any(_is_beyond(folder, series, recorded.get(series, BEGIN)) for series in series_in(folder, prefix))


def _is_beyond(folder: Path, series: str, position: Position) -> bool:
    path = folder / file_name(series, position.number)
    return bool(_later(folder, series, position)) or (path.exists() and path.stat().st_size > position.bytes)


def _later(folder: Path, series: str, position: Position) -> list[Path]:
    return [path for path in files_of(folder, series) if (file_number(path.name) or 0) > position.number]


def _cut(folder: Path, series: str, position: Position) -> None:
    _check(folder / file_name(series, position.number), position)
    later = _later(folder, series, position)
    # The newest first, so that a crash in between leaves no hole in the numbering.
    for path in reversed(later):
        path.unlink()
        failpoint("letters.cut")
    _truncate(folder / file_name(series, position.number), position.bytes)
    sync_folder(folder)


def _check(path: Path, position: Position) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size < position.bytes:
        raise StateError(
            f"{path} has {size} bytes, but the table counts dead letters to byte {position.bytes} of it; put it back, "
            "or set K2_DLQ_DIR to the folder where it is"
        )


def _truncate(path: Path, size: int) -> None:
    if not path.exists() or path.stat().st_size == size:
        return
    with path.open("r+b") as stream:
        stream.truncate(size)
        os.fsync(stream.fileno())
        failpoint("letters.truncated")
