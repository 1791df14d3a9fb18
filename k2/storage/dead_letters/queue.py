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
from k2.storage.dead_letters.append_log import AppendLog
from k2.storage.dead_letters.files import BEGIN, Position, file_name, file_number, files_of, series_in
from k2.storage.dead_letters.lock import lock_series
from k2.storage.dead_letters.rejections import Rejections
from k2.storage.files import sync

__all__ = ["DeadLetterQueue"]

Clock = Callable[[], datetime]
Settle = Callable[[], Mapping[str, Position]]
"""Invalidates the commits in flight, and returns the positions that are recorded then."""

PENDING_BYTES_MAX: Final = 8 * 2**20
"""Bytes buffered until the epoch ends: what is not in the files needs no removal after a crash."""

_log = structlog.get_logger()


class DeadLetterQueue:
    """The dead letters of one writer; each commit records their position.

    They are durable up to that position before the commit. So the table counts what lies before the recorded position,
    and what lies behind it was written by an epoch that was never committed. It is removed at the start, because the
    replay brings those messages again, possibly with other verdicts.

    A folder without a series of this writer starts a new one, even if others are recorded: those are on another
    machine.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        recorded: Mapping[str, Position],
        file_bytes_max: int,
        clock: Clock = lambda: datetime.now(UTC),
        settle: Settle | None = None,
    ) -> None:
        """Lock the series of this folder whose names start with `prefix`, and truncate them to the recorded positions.

        `settle` is called before anything is truncated, because a commit in flight when `recorded` was read may count
        what is to be removed. Its exceptions propagate.

        Raises:
            SettingsError: the folder cannot be created or written.
            StateError: another process holds the series, or a series is shorter than its recorded position.
        """
        self._clock = clock
        self._rejections = Rejections()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._lock = lock_series(folder, prefix)
        try:
            if settle is not None and _must_truncate(folder, prefix, recorded):
                recorded = settle()
            self._recorded = dict(recorded)
            self._series = _resume_series(folder, prefix, recorded)
        except BaseException:
            os.close(self._lock)
            raise
        position = self._recorded.get(self._series, BEGIN)
        self._append_log = AppendLog(folder, self._series, position, file_bytes_max)

    def append(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Add dead letters; they are written to the files by `sync`, or earlier if many are pending.

        Raises:
            UnreachableError: the disk refused the write, also after retries.
        """
        now = self._clock()
        for letter in dead_letters:
            self._rejections.add(letter)
            DEAD_LETTERS.labels(str(letter.reason)).inc()
            if letter.reason is Reason.CONFLICT:
                CONFLICTS.labels(letter.exchange or "").inc()
            line = msgspec.structs.replace(letter, dead_lettered_at=now).line()
            self._pending.append(line)
            self._pending_bytes += len(line)
            if self._pending_bytes > PENDING_BYTES_MAX:
                self._write()

    def take_rejections(self) -> Rejections:
        """Return the counts of the dead letters added since the last call."""
        rejections, self._rejections = self._rejections, Rejections()
        return rejections

    def sync(self) -> Mapping[str, Position]:
        """Make all added dead letters durable; return the position of each series of this writer.

        Raises:
            UnreachableError: the disk refused the write.
        """
        self._write()
        self._append_log.sync()
        if self._append_log.position != BEGIN:
            self._recorded[self._series] = self._append_log.position
        return self._recorded

    def close(self) -> None:
        """Close the files and release the lock; pending dead letters belong to no commit, and are dropped."""
        self._append_log.close()
        os.close(self._lock)

    def _write(self) -> None:
        self._append_log.append(self._pending)
        self._pending, self._pending_bytes = [], 0


def _resume_series(folder: Path, prefix: str, recorded: Mapping[str, Position]) -> str:
    """Truncate a writer's series in a folder to the recorded positions; return the series to append to."""
    found = series_in(folder, prefix)
    for series in found:
        _truncate_series(folder, series, recorded.get(series, BEGIN))
    known = [series for series in found if series in recorded]
    if recorded and not known:
        _log.warning("dead_letters_elsewhere", folder=str(folder), series=sorted(recorded))
    return next(iter([*known, *found]), f"{prefix}{secrets.token_hex(3)}")


def _must_truncate(folder: Path, prefix: str, recorded: Mapping[str, Position]) -> bool:
    return any(_is_beyond(folder, series, recorded.get(series, BEGIN)) for series in series_in(folder, prefix))


def _is_beyond(folder: Path, series: str, position: Position) -> bool:
    path = folder / file_name(series, position.number)
    return bool(_later_files(folder, series, position)) or (path.exists() and path.stat().st_size > position.bytes)


def _later_files(folder: Path, series: str, position: Position) -> list[Path]:
    return [path for path in files_of(folder, series) if (file_number(path.name) or 0) > position.number]


def _truncate_series(folder: Path, series: str, position: Position) -> None:
    _check_size(folder / file_name(series, position.number), position)
    # The newest first, so that a crash in between leaves no hole in the numbering.
    for path in reversed(_later_files(folder, series, position)):
        path.unlink()
        failpoint("letters.cut")
    _truncate(folder / file_name(series, position.number), position.bytes)
    sync(folder)


def _check_size(path: Path, position: Position) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size < position.bytes:
        raise StateError(
            f"{path} has {size} bytes, but the table counts dead letters to byte {position.bytes} of it; restore it, "
            "or set K2_DLQ_DIR to the folder where it is"
        )


def _truncate(path: Path, size: int) -> None:
    if not path.exists() or path.stat().st_size == size:
        return
    os.truncate(path, size)
    sync(path)
    failpoint("letters.truncated")
