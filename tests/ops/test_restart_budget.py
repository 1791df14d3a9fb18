"""The budget of restarts holds in every span of time, and is whole again after the window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ops.restart_budget import RestartBudget
from k2.ops.retry import RESTART

TIMES = st.lists(st.integers(0, 30), max_size=60).map(sorted)


@given(TIMES, st.integers(1, 5), st.integers(1, 10))
def test_no_window_has_more_restarts(times: list[int], restarts_max: int, window_seconds: int) -> None:
    """Of the times at which a restart was allowed, no window has more; one that is refused would have been too many."""
    budget = RestartBudget(restarts_max, window_seconds)
    taken: list[int] = []
    for now in times:
        before = sum(now - window_seconds < other <= now for other in taken)
        assert budget.take(now) == (before + 1 if before < restarts_max else None)
        taken += [now] if before < restarts_max else []
        assert budget.left == restarts_max - min(restarts_max, before + 1)


@pytest.mark.parametrize("restart", [1, 5, 30, 5_000])
def test_waits_are_bounded_and_differ(restart: int) -> None:
    """Each is a random part of at most a minute, so that processes that ended together do not collide again."""
    waits = {RESTART.wait_seconds(restart) for _ in range(50)}
    assert len(waits) > 40
    assert max(waits) <= min(60, 2 ** min(restart - 1, 6))
