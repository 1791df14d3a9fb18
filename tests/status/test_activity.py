"""What the status says of the last hour and of the 23 hours before."""

from datetime import timedelta

import pytest

from k2.query.history import Interval
from k2.status.activity import NO_ACTIVITY, Activity, recent_activity
from tests.status.evidence import NOW


def interval(minutes_ago: float, received: int, *, dead_letters: int = 0, gaps: int = 0, starts: int = 0) -> Interval:
    """Return an interval with one commit."""
    start = NOW - timedelta(minutes=minutes_ago)
    return Interval(start, received, received, 0, dead_letters, 0, 1, None, None, gaps, 0, gaps, 0, starts)


def test_an_hour_is_told_apart_from_those_before() -> None:
    """Counts, the rate of each span, and starts; an interval of 60 minutes ago is in the last hour."""
    found = recent_activity(
        [interval(24 * 60, 82_800, gaps=1), interval(61, 0, starts=2, dead_letters=1), interval(60, 7_200, starts=1)],
        NOW,
    )
    last_start = NOW - timedelta(minutes=61)
    assert found.hours_before == Activity(
        82_800, 1, 1, 0, 2, last_start, "82,800 received, 1 a second; 1 dead letter; 1 gap opened, 0 filled; "
        "the job started 2 times, last at 2026-11-28 10:59 UTC",
    )  # fmt: skip
    assert found.last_hour.sentence.startswith("7,200 received, 2 a second; 0 dead letters")
    assert found.last_hour.sentence.endswith("; the job started at 2026-11-28 11:00 UTC")


@pytest.mark.parametrize(
    ("minutes_ago", "last_hour", "before"),
    [
        (10, "600 received, 1 a second;", "0 received; "),
        (0.5, "600 received, 10 a second;", "0 received; "),
        (120, "0 received; ", "600 received, 10 a minute;"),
    ],
)
def test_a_rate_counts_from_the_first_commit(minutes_ago: float, last_hour: str, before: str) -> None:
    """So that it is right for a capture that has just begun; a minute is the shortest span."""
    found = recent_activity([interval(minutes_ago, 600)], NOW)
    assert found.last_hour.sentence.startswith(last_hour)
    assert found.hours_before.sentence.startswith(before)


def test_nothing_has_no_rate() -> None:
    """Before the first commit."""
    sentence = "0 received; 0 dead letters; 0 gaps opened, 0 filled; no start of the job"
    assert recent_activity([], NOW) == NO_ACTIVITY
    assert NO_ACTIVITY.last_hour.sentence == sentence
