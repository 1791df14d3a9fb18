"""Restart budget of a supervisor: how many restarts a span of time may have."""

from collections import deque

__all__ = ["RestartBudget"]


class RestartBudget:
    """Allows at most `restarts_max` restarts within any `window_seconds`."""

    def __init__(self, restarts_max: int, window_seconds: float) -> None:
        self._restarts_max, self._window_seconds = restarts_max, window_seconds
        self._taken: deque[float] = deque()

    def take(self, now: float) -> int | None:
        """Take a restart at `now`, in seconds of a clock that never goes back.

        Return how many the window that ends now has, this one included; None if the budget is spent.
        """
        while self._taken and self._taken[0] <= now - self._window_seconds:
            self._taken.popleft()
        if len(self._taken) >= self._restarts_max:
            return None
        self._taken.append(now)
        return len(self._taken)

    @property
    def left(self) -> int:
        """How many restarts the window has left, as of the last `take`."""
        return self._restarts_max - len(self._taken)
