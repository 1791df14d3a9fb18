"""Wording of findings: counts, names, durations and times."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

__all__ = ["age", "duration", "moment", "names"]

NAMES_MAX: Final = 5
_UNITS: Final = ((86_400, "days"), (3_600, "hours"), (60, "minutes"))


def names(found: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are.

    >>> names(["a", "b"])
    'a, b'
    """
    rest = len(found) - NAMES_MAX
    return ", ".join(found[:NAMES_MAX]) + (f" and {rest:,} more" if rest > 0 else "")


def age(now: datetime, time: datetime) -> str:
    """Return how long ago a time is; 0 s if it is ahead."""
    return duration(max(0.0, (now - time).total_seconds()))


def duration(seconds: float) -> str:
    """Return a duration in its largest unit of which it has at least two.

    >>> [duration(seconds) for seconds in (5, 119, 120, 7_200, 172_800)]
    ['5 s', '119 s', '2 minutes', '2 hours', '2 days']
    """
    for unit_seconds, unit in _UNITS:
        if seconds >= 2 * unit_seconds:
            return f"{seconds / unit_seconds:,.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(time: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
