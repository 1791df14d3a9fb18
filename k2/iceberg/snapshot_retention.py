"""Snapshot retention: a table keeps the newest snapshots, then the last of each hour, then the last of each day.

Every commit reads, copies and writes the list of all snapshots, so its length determines the duration of a commit.
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
"""Minimum number of snapshots to remove in one commit, because a commit that removes must refresh the table first."""
REMOVED_MAX: Final = 100
"""Maximum number of snapshots to remove in one commit, so that it stays fast however many a table has accumulated."""

_NEWEST: Final = "history.expire.min-snapshots-to-keep"
_AGE: Final = "history.expire.max-snapshot-age-ms"
_HOURLY_AGE: Final = "k2.expire.hourly-age-ms"
_ENABLED: Final = "k2.expire.enabled"
_GC_ENABLED: Final = "gc.enabled"
_OWN: Final = "k2."


@dataclass(frozen=True, slots=True)
class Retention:
    """Which snapshots a table keeps; ages are relative to its newest snapshot."""

    is_on: bool = True
    newest: int = 100
    """Number of newest snapshots that are kept, whatever their age."""
    hourly_age_ms: int = 5 * DAY_MS
    """Up to this age the last snapshot of each hour (UTC) is kept, beyond it the last of each day."""
    age_ms: int = 30 * DAY_MS
    """Beyond this age no snapshot is kept."""

    @property
    def own_max(self) -> int:
        """Maximum number of the job's snapshots in a table, without those that a branch or tag refers to."""
        hourly_ms = min(self.hourly_age_ms, self.age_ms)
        # A period of n hours touches up to n + 1 clock hours.
        hours = math.ceil(hourly_ms / HOUR_MS) + 1
        days = math.ceil((self.age_ms - hourly_ms) / DAY_MS) + 1
        return self.newest + hours + days + REMOVED_MIN


_DEFAULT: Final = Retention()
PROPERTIES: Final = {
    _NEWEST: str(_DEFAULT.newest),
    _AGE: str(_DEFAULT.age_ms),
    _HOURLY_AGE: str(_DEFAULT.hourly_age_ms),
}
"""Properties of a new table. Iceberg's own names are set so that other tools expire no more than the job does."""


def retention_of(properties: Mapping[str, str]) -> Retention:
    """Return the retention in a table's properties, with the defaults of a new table for absent ones.

    Raises:
        ValueError: a property has the wrong type, or is out of range.
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

    These are the job's own snapshots only, without those in `referred` (the current one, branches and tags) and without
    the newest. No snapshot between two of the newest is returned, whoever made it.
    """
    if not retention.is_on or not snapshots:
        return []
    own = sorted((snapshot for snapshot in snapshots if is_own(snapshot)), key=_sequence_number)
    now_ms = max(snapshot.timestamp_ms for snapshot in snapshots)
    last_of_period = _last_of_period(own, now_ms, retention)
    return [
        snapshot.snapshot_id
        for snapshot in own[: -retention.newest]
        if snapshot.snapshot_id not in referred and not _is_retained(snapshot, last_of_period, now_ms, retention)
    ]


def is_own(snapshot: Snapshot) -> bool:
    """Return whether the job made a snapshot: its summary says so."""
    return snapshot.summary is not None and any(
        name.startswith(_OWN) for name in snapshot.summary.additional_properties
    )


def _sequence_number(snapshot: Snapshot) -> int:
    # Unlike the timestamp, it increases from commit to commit whatever the clocks do.
    return snapshot.sequence_number or 0


def _last_of_period(own: Sequence[Snapshot], now_ms: int, retention: Retention) -> dict[tuple[int, int], int]:
    """Return the id of the last snapshot of each hour and of each day; `own` is in commit order.

    A snapshot that is too old to be retained for its period does not count: after a clock went back, it may come after
    a younger one, which would otherwise be removed for it.
    """
    ages_ms = {HOUR_MS: min(retention.hourly_age_ms, retention.age_ms), DAY_MS: retention.age_ms}
    return {
        (period_ms, snapshot.timestamp_ms // period_ms): snapshot.snapshot_id
        for period_ms, age_ms in ages_ms.items()
        for snapshot in own
        if now_ms - snapshot.timestamp_ms <= age_ms
    }


def _is_retained(
    snapshot: Snapshot, last_of_period: Mapping[tuple[int, int], int], now_ms: int, retention: Retention
) -> bool:
    age_ms = now_ms - snapshot.timestamp_ms
    if age_ms > retention.age_ms:
        return False
    period_ms = HOUR_MS if age_ms <= retention.hourly_age_ms else DAY_MS
    return last_of_period[period_ms, snapshot.timestamp_ms // period_ms] == snapshot.snapshot_id
