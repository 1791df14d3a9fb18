"""The window within which an id is stored once: the rules, one trade at a time.

This is the specification; `k2.dedup.id_log` does the same to whole batches.
"""

from collections import defaultdict
from typing import Final, NamedTuple

from k2.model.verdicts import CONFLICT, DUPLICATE, STORED

__all__ = ["CONFIRMATIONS", "Clock", "Window", "WindowRules", "rules_for", "settled"]

BUCKETS: Final = 144
"""Into how many buckets of time a window is cut: a day into those of 10 minutes."""
WINDOWS_HELD: Final = 2
"""For how many windows an id is held."""
CONFIRMATIONS: Final = 100
"""So many rows in turn must be more than a window ahead before the clock follows: one wrong time must not make the
ids of the right ones too old to hold. Until it does, nothing is dropped."""
WINDOW_US_MAX: Final = 2**60
"""A longer window is cut to this one of 36,000 years, so that times and windows add up within 64 bits."""


class WindowRules(NamedTuple):
    """What verdicts depend on beside the rows; times in microseconds."""

    window_us: int
    bucket_us: int
    confirmations: int

    def floor(self, reached: int) -> int:
        """Return the time from which on ids are held, of a topic partition that has reached a time: a bucket's start."""
        return (reached - WINDOWS_HELD * self.window_us) // self.bucket_us * self.bucket_us


def rules_for(window_us: int) -> WindowRules:
    """Return the rules of a window."""
    window_us = min(window_us, WINDOW_US_MAX)
    return WindowRules(window_us, max(window_us // BUCKETS, 1), CONFIRMATIONS)


class Clock:
    """The time that a topic partition is believed to have reached, by its Kafka timestamps; 0 at first."""

    def __init__(self, reached: int = 0, ahead: int = 0) -> None:
        self.reached = reached
        self.ahead = ahead
        """How many rows in turn were more than a window ahead of that."""

    def advance(self, at: int, rules: WindowRules) -> None:
        """Move to a row's time, never back, and more than a window forward only once that is confirmed."""
        is_ahead = at > self.reached + rules.window_us
        self.ahead = self.ahead + 1 if is_ahead else 0
        if at > self.reached and (not is_ahead or self.ahead >= rules.confirmations):
            self.reached, self.ahead = at, 0


class Window:
    """The ids of one key group's trades: of each topic partition those that are not below its floor.

    Times are between 0 and 2^61.
    """

    def __init__(self, rules: WindowRules) -> None:
        self._rules = rules
        self._clocks: defaultdict[object, Clock] = defaultdict(Clock)
        self._stored: list[tuple[object, object, int, object]] = []

    def judge(self, source: object, identity: object, at: int, content: object = None) -> int:
        """Return the verdict on a trade by its id; one that is `STORED` is so from now on.

        It is a duplicate if it was stored within a window of its time, and a conflict if only with other content.
        """
        self._clocks[source].advance(at, self._rules)
        self._stored = [one for one in self._stored if self._is_held(one[0], one[2])]
        near = (one for one in self._stored if one[1] == identity and abs(one[2] - at) <= self._rules.window_us)
        contents = [one[3] for one in near]
        if contents:
            return DUPLICATE if content in contents else CONFLICT
        if self._is_held(source, at):
            self._stored.append((source, identity, at, content))
        return STORED

    def _is_held(self, source: object, at: int) -> bool:
        return at >= self._rules.floor(self._clocks[source].reached)

    def __len__(self) -> int:
        """Return the number of ids held."""
        return len(self._stored)


def settled(newest_times: list[int], rules: WindowRules) -> int:
    """Return what a topic partition has surely reached, of the times of the rows that lie last in it, in any order.

    That is the earliest of the last hundred: had the clock not got there, each of them would have been ahead of
    it, and the hundredth in turn moves it. Of fewer rows nothing is sure: 0.
    """
    return min(newest_times) if len(newest_times) >= rules.confirmations else 0
