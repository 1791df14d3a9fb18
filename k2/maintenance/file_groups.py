"""Which data files a compaction rewrites together: small files of one partition whose period is over.

The rule bounds both the number of files that stay and how often a row is rewritten. While a day is open, files are
joined by the hour; once it is over, its files are joined into few. A file joins smaller ones only if they are together
at least a quarter of its size, so a late trade does not cause a large file to be rewritten.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

from k2.model.times import DAY_US, SECOND_US

__all__ = ["GRACE_US", "FileSize", "Group", "file_groups"]

_HOUR_US: Final = 3_600 * SECOND_US
GRACE_US: Final = _HOUR_US // 4
"""Time after the end of an hour or a day until which its trades still arrive in numbers."""
_SMALL: Final = 0.75
"""Share of the target size below which a file is small; files end a little below or above the target."""
_GROWTH_MAX: Final = 4
"""A file is at most this many times as large as the smaller files that it is joined with."""
_TARGETS_MAX: Final = 8
"""Size of a group, in target sizes, beyond which the rest is left to the next group."""


class FileSize(NamedTuple):
    """What the rule knows of a data file."""

    path: str
    partition: Hashable
    bytes: int
    day: int | None = None
    """Days since the epoch, by venue time; None for a table that is not partitioned by day."""
    newest_us: int | None = None
    """The latest venue time of its rows, microseconds since the epoch; None if it is not known."""


Group = tuple[FileSize, ...]


def file_groups(files: Iterable[FileSize], now_us: int, target_bytes: int) -> list[Group]:
    """Return the groups of files to rewrite, each of one partition, and each file in one group at most.

    Only files below three quarters of `target_bytes` are in a group. Files of a day that is open, or whose hour is, are
    left for later.
    """
    periods: defaultdict[tuple[Hashable, int], list[FileSize]] = defaultdict(list)
    for file in files:
        period = _closed_period(file, now_us)
        if period is not None and file.bytes < _SMALL * target_bytes:
            periods[file.partition, period].append(file)
    return [group for period in periods.values() for run in _runs(period) for group in _split(run, target_bytes)]


def _closed_period(file: FileSize, now_us: int) -> int | None:
    """Return 0 for a file whose day is over, the hour of its newest row on an open day; None if that is not over."""
    if file.day is None or (file.day + 1) * DAY_US + GRACE_US <= now_us:
        return 0
    if file.newest_us is None:
        return None
    hour = file.newest_us // _HOUR_US
    return hour if (hour + 1) * _HOUR_US + GRACE_US <= now_us else None


def _runs(files: Iterable[FileSize]) -> list[list[FileSize]]:
    """Split the files of a period, the smallest first, wherever one is too large for those before it."""
    runs: list[list[FileSize]] = []
    run_bytes = 0
    for file in sorted(files, key=lambda file: (file.bytes, file.path)):
        if not runs or file.bytes > _GROWTH_MAX * run_bytes:
            runs.append([])
            run_bytes = 0
        runs[-1].append(file)
        run_bytes += file.bytes
    return runs


def _split(files: Iterable[FileSize], target_bytes: int) -> list[Group]:
    groups: list[list[FileSize]] = [[]]
    group_bytes = 0
    for file in files:
        if groups[-1] and group_bytes + file.bytes > _TARGETS_MAX * target_bytes:
            groups.append([])
            group_bytes = 0
        groups[-1].append(file)
        group_bytes += file.bytes
    return [tuple(group) for group in groups if len(group) > 1]
