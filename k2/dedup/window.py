"""The deduplication window: the rules, one trade at a time.

This is the specification; `k2.dedup.id_log` implements it for whole batches.
"""

from collections import defaultdict
from typing import Final, NamedTuple

from k2.model.verdicts import CONFLICT, DUPLICATE, STORED

__all__ = ["CONFIRMATIONS", "Clock", "Window", "WindowRules", "rules_for", "settled"]

BUCKETS: Final = 144
"""Number of time buckets in a window: a window of a day has buckets of 10 minutes."""
WINDOWS_HELD: Final = 2
"""Number of windows for which an id is held."""
CONFIRMATIONS: Final = 100
"""Number of consecutive rows that must be more than a window ahead before the clock follows, so that one wrong time
does not expire the ids of the other rows. Until the clock follows, no id is dropped."""
WINDOW_US_MAX: Final = 2**60
"""Longer windows are clipped to this one (36,000 years), so that sums of times and windows fit 64 bits."""


class WindowRules(NamedTuple):
    """Parameters of the verdicts; times in microseconds."""

    window_us: int
    bucket_us: int
    confirmations: int

    def floor(self, reached: int) -> int:
        """Return the time from which on ids are held, the start of a bucket; `reached` is the time of the clock."""
        return (reached - WINDOWS_HELD * self.window_us) // self.bucket_us * self.bucket_us


def rules_for(window_us: int) -> WindowRules:
    """Return the rules for a window."""
    window_us = min(window_us, WINDOW_US_MAX)
    return WindowRules(window_us, max(window_us // BUCKETS, 1), CONFIRMATIONS)


class Clock:
    """The confirmed time that a topic partition has reached, by its Kafka timestamps; initially 0."""

    def __init__(self, reached: int = 0, ahead: int = 0) -> None:
        self.reached = reached
        self.ahead = ahead
        """Number of consecutive rows that were more than a window ahead of `reached`."""

    def advance(self, at: int, rules: WindowRules) -> None:
        """Advance to the time of a row: never back, and more than a window ahead only when confirmed."""
        is_ahead = at > self.reached + rules.window_us
        self.ahead = self.ahead + 1 if is_ahead else 0
        if at > self.reached and (not is_ahead or self.ahead >= rules.confirmations):
            self.reached, self.ahead = at, 0


class Window:
    """The ids of one key group's trades: for each topic partition those that are not below its floor.

    Times are between 0 and 2^61 microseconds.
    """

    def __init__(self, rules: WindowRules) -> None:
        self._rules = rules
        self._clocks: defaultdict[object, Clock] = defaultdict(Clock)
        self._stored: list[tuple[object, object, int, object]] = []

    def judge(self, source: object, id_hash: object, at: int, content: object = None) -> int:
        """Return the verdict on a trade by its id; hold the id if the verdict is `STORED`.

        The trade is a duplicate if its id was stored within a window of its time with the same content, and a conflict
        if with other content only.
        """
        self._clocks[source].advance(at, self._rules)
        self._stored = [one for one in self._stored if self._is_held(one[0], one[2])]
        near = (one for one in self._stored if one[1] == id_hash and abs(one[2] - at) <= self._rules.window_us)
        contents = [one[3] for one in near]
        if contents:
            return DUPLICATE if content in contents else CONFLICT
        if self._is_held(source, at):
            self._stored.append((source, id_hash, at, content))
        return STORED

    def _is_held(self, source: object, at: int) -> bool:
        return at >= self._rules.floor(self._clocks[source].reached)

    def __len__(self) -> int:
        """Return the number of held ids."""
        return len(self._stored)


def settled(newest_times: list[int], rules: WindowRules) -> int:
    """Return the time that a topic partition has certainly reached, given the times of its last rows in any order.

    This is the earliest of the last hundred times: if the clock had not reached it, each of these rows would have been
    ahead of the clock, and the hundredth consecutive one would have moved it. With fewer rows nothing is certain, and
    the result is 0.
    """
    return min(newest_times) if len(newest_times) >= rules.confirmations else 0
