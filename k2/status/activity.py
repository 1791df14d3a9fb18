"""Activity: what the job did in the last hour, next to the 23 hours before, so that a change is seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from k2.model.times import EPOCH
from k2.model.wording import format_count
from k2.query.history import Interval

__all__ = ["INTERVAL", "NO_ACTIVITY", "PERIOD", "Activity", "RecentActivity", "recent_activity"]

INTERVAL: Final = timedelta(minutes=1)
PERIOD: Final = timedelta(hours=24)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Activity:
    """What the job did in a span of time, by the clock of its commits."""

    received: int
    """Trades; a message that cannot be read counts one."""
    dead_letters: int
    gaps_opened: int
    gaps_filled: int
    starts: int
    last_start: datetime | None
    """The minute of the first commit after the last start; None if the job did not start."""
    sentence: str
    """The same in words, with the rate."""


@dataclass(frozen=True, slots=True)
class RecentActivity:
    """The activity of the last 24 hours."""

    last_hour: Activity
    hours_before: Activity
    """The 23 hours before."""


def recent_activity(intervals: Sequence[Interval], now: datetime) -> RecentActivity:
    """Return the activity in the 24 hours until `now`, from intervals of one minute.

    A rate counts from the first commit on, so that it is right for a capture that has just begun.
    """
    began, since = min((one.start for one in intervals if one.commits), default=now), now - _HOUR
    return RecentActivity(
        _activity([one for one in intervals if one.start >= since], now - max(began, since)),
        _activity([one for one in intervals if one.start < since], since - min(began, since)),
    )


def _activity(intervals: Sequence[Interval], length: timedelta) -> Activity:
    received = sum(one.received for one in intervals)
    dead_letters = sum(one.dead_letters for one in intervals)
    opened, filled = sum(one.gaps_opened for one in intervals), sum(one.gaps_filled for one in intervals)
    starts = sum(one.starts for one in intervals)
    last_start = max((one.start for one in intervals if one.starts), default=None)
    words = [
        f"{received:,} received" + (f", {_rate(received, length)}" if received else ""),
        format_count(dead_letters, "dead letter"),
        f"{format_count(opened, 'gap')} opened, {filled:,} filled",
        "no start of the job" if last_start is None else f"{_started(starts)} {last_start:%Y-%m-%d %H:%M} UTC",
    ]
    return Activity(received, dead_letters, opened, filled, starts, last_start, "; ".join(words))


def _rate(count: int, length: timedelta) -> str:
    """Return a rate per second, or per minute if it is low.

    >>> [_rate(count, timedelta(hours=1)) for count in (0, 3_600, 60, 7)]
    ['0 a minute', '1 a second', '1 a minute', '0.1 a minute']
    """
    a_second = count / max(length, INTERVAL).total_seconds()
    number, unit = (a_second, "second") if a_second >= 1 else (a_second * 60, "minute")
    return f"{number:,.0f} a {unit}" if number >= 10 or number == round(number) else f"{number:,.1f} a {unit}"


def _started(starts: int) -> str:
    return "the job started at" if starts == 1 else f"the job started {starts:,} times, last at"


NO_ACTIVITY: Final = recent_activity((), EPOCH)
