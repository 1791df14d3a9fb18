"""The dead letters of one Iceberg writer on a local disk: cut back after a crash to what commits have counted."""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog

from k2.model.errors import StateError
from k2.ops.failpoints import failpoint
from k2.storage.dead_letters.append_log import AppendLog
from k2.storage.dead_letters.files import BEGIN, Position, file_name, series_in
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.dead_letters.lock import lock_series
from k2.storage.files import sync

__all__ = ["LocalLog"]

Settle = Callable[[], Mapping[str, Position]]
"""Invalidates the commits in flight, and returns the positions that are recorded then."""

_log = structlog.get_logger()


class LocalLog:
    """The dead letters of one writer in a folder.

    They are durable up to their position before the commit. So the table counts what lies before the recorded position,
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
        settle: Settle | None = None,
    ) -> None:
        """Lock the series of this folder whose names start with `prefix`, and truncate them to the recorded positions.

        `settle` is called before anything is truncated, because a commit in flight when `recorded` was read may count
        what is to be removed. Its exceptions propagate.

        Raises:
            SettingsError: the folder cannot be created or written.
            StateError: another process holds the series, or a series is shorter than its recorded position.
        """
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

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines to the operating system.

        Raises:
            UnreachableError: the disk refused the write, also after retries.
        """
        self._append_log.append(lines)

    def sync(self) -> Mapping[str, Position]:
        """Make all lines durable; return the position of each series of this writer.

        Raises:
            UnreachableError: the disk refused the write.
        """
        self._append_log.sync()
        if self._append_log.position != BEGIN:
            self._recorded[self._series] = self._append_log.position
        return self._recorded

    def close(self) -> None:
        """Close the files and release the lock."""
        self._append_log.close()
        os.close(self._lock)


def _resume_series(folder: Path, prefix: str, recorded: Mapping[str, Position]) -> str:
    """Truncate a writer's series in a folder to the recorded positions; return the series to append to."""
    found = series_in(LocalFolder(folder), prefix)
    for series in found:
        _truncate_series(folder, series, recorded.get(series, BEGIN))
    known = [series for series in found if series in recorded]
    if recorded and not known:
        _log.warning("dead_letters_elsewhere", folder=str(folder), series=sorted(recorded))
    return next(iter([*known, *found]), f"{prefix}{secrets.token_hex(3)}")


def _must_truncate(folder: Path, prefix: str, recorded: Mapping[str, Position]) -> bool:
    return any(
        _is_beyond(folder, series, recorded.get(series, BEGIN)) for series in series_in(LocalFolder(folder), prefix)
    )


def _is_beyond(folder: Path, series: str, position: Position) -> bool:
    path = folder / file_name(series, position.number)
    return bool(_later_files(folder, series, position)) or (path.exists() and path.stat().st_size > position.bytes)


def _later_files(folder: Path, series: str, position: Position) -> list[Path]:
    found = LocalFolder(folder).files()
    return [folder / file.name for file in found if file.series == series and file.number > position.number]


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
