"""Which of the job's snapshots a table keeps: the newest, then the last of each hour, then the last of each day.

Every commit reads, copies and writes the list of all snapshots, so its length is what a commit takes.
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.properties import property_as_bool, property_as_int

__all__ = [
    "DAY_MS",
    "HOUR_MS",
    "PROPERTIES",
    "REMOVED_MAX",
    "REMOVED_MIN",
    "Retention",
    "expired",
    "is_own",
    "retention_of",
]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
REMOVED_MIN: Final = 10
"""Removals wait until there are so many, since a commit that removes looks at the table first."""
REMOVED_MAX: Final = 100
"""Removals of one commit at most, so that none takes long, however many snapshots a table has gathered."""

_NEWEST: Final = "history.expire.min-snapshots-to-keep"
_AGE: Final = "history.expire.max-snapshot-age-ms"
_HOURLY_AGE: Final = "k2.expire.hourly-age-ms"
_ENABLED: Final = "k2.expire.enabled"
_GC_ENABLED: Final = "gc.enabled"
_OWN: Final = "k2."


@dataclass(frozen=True, slots=True)
class Retention:
    """How many snapshots a table keeps; ages are before its newest snapshot."""

    is_on: bool = True
    newest: int = 100
    """All of so many are kept, whatever their age."""
    hourly_age_ms: int = 5 * DAY_MS
    """Up to this age the last of each hour (UTC) is kept, beyond it the last of each day."""
    age_ms: int = 30 * DAY_MS
    """Beyond this age none is kept."""

    @property
    def own_max(self) -> int:
        """How many of the job's snapshots a table ever has, but for those that a branch or tag refers to."""
        hourly_ms = min(self.hourly_age_ms, self.age_ms)
        # A stretch of n hours touches one hour of the clock more.
        hours = math.ceil(hourly_ms / HOUR_MS) + 1
        days = math.ceil((self.age_ms - hourly_ms) / DAY_MS) + 1
        return self.newest + hours + days + REMOVED_MIN


_DEFAULT: Final = Retention()
PROPERTIES: Final = {
    _NEWEST: str(_DEFAULT.newest),
    _AGE: str(_DEFAULT.age_ms),
    _HOURLY_AGE: str(_DEFAULT.hourly_age_ms),
}
"""Those of a table as it is made. Iceberg's own names are set so that other tools expire no more than the job does."""


def retention_of(properties: Mapping[str, str]) -> Retention:
    """Return what a table's properties decide; where they are silent, what a new table gets.

    Raises:
        ValueError: a property is not of its kind, or out of its range.
    """
    switches = [property_as_bool(dict(properties), name, default=True) for name in (_ENABLED, _GC_ENABLED)]
    return Retention(
        all(switches),
        _number(properties, _NEWEST, _DEFAULT.newest, 1),
        _number(properties, _HOURLY_AGE, _DEFAULT.hourly_age_ms, 0),
        _number(properties, _AGE, _DEFAULT.age_ms, 0),
    )


def _number(properties: Mapping[str, str], name: str, default: int, lowest: int) -> int:
    number = property_as_int(dict(properties), name, default)
    assert number is not None
    if number < lowest:
        raise ValueError(f"table property {name} is {number}, but must be {lowest} or more")
    return number


def expired(snapshots: Sequence[Snapshot], referred: AbstractSet[int], retention: Retention) -> list[int]:
    """Return the ids of the snapshots that a table need not keep, the oldest first.

    Only the job's own are among them, none that is in `referred` (the current one, branches and tags), and none of the
    newest. The newest are an unbroken stretch: no snapshot, whose ever, between two of them is given.
    """
    if not retention.is_on or not snapshots:
        return []
    own = sorted((snapshot for snapshot in snapshots if is_own(snapshot)), key=_sequence_number)
    lasts = _lasts(own)
    now_ms = max(snapshot.timestamp_ms for snapshot in snapshots)
    return [
        snapshot.snapshot_id
        for snapshot in own[: -retention.newest]
        if snapshot.snapshot_id not in referred and not _is_kept(snapshot, lasts, now_ms, retention)
    ]


def is_own(snapshot: Snapshot) -> bool:
    """Return whether the job made a snapshot: its summary says so."""
    return snapshot.summary is not None and any(
        name.startswith(_OWN) for name in snapshot.summary.additional_properties
    )


def _sequence_number(snapshot: Snapshot) -> int:
    # Unlike the time, it rises from commit to commit whatever a clock does.
    return snapshot.sequence_number or 0


def _lasts(own: Sequence[Snapshot]) -> dict[tuple[int, int], int]:
    """Return the id of the last snapshot of each hour and of each day, of those in the order of commits."""
    return {
        (period_ms, snapshot.timestamp_ms // period_ms): snapshot.snapshot_id
        for period_ms in (HOUR_MS, DAY_MS)
        for snapshot in own
    }


def _is_kept(snapshot: Snapshot, lasts: Mapping[tuple[int, int], int], now_ms: int, retention: Retention) -> bool:
    age_ms = now_ms - snapshot.timestamp_ms
    if age_ms > retention.age_ms:
        return False
    period_ms = HOUR_MS if age_ms <= retention.hourly_age_ms else DAY_MS
    return lasts[period_ms, snapshot.timestamp_ms // period_ms] == snapshot.snapshot_id
