"""Pacing: publish messages at a rate, or at the distances in time at which they were recorded, times a speed."""

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError, SkippedError
from k2.model.times import SECOND_US
from k2.venues import Venue

__all__ = ["NO_TIMES", "MessageTimes", "Pace", "RateLimit", "parse_speed", "times_of"]

SLEEP_SECONDS_MIN: Final = 0.001
"""A shorter sleep is not exact: a later call waits for the remainder."""
LAG_SECONDS_MAX: Final = 0.1
"""What a stall of a rate is made up for at once, at most."""


class MessageTimes(NamedTuple):
    """Times of a message, microseconds since the epoch; None if it has no trade."""

    trade: int | None
    """The latest venue time of its trades: it was not sent before."""
    recorded: int | None
    """The latest time at which one of them was received, else its venue time."""


NO_TIMES: Final = MessageTimes(None, None)


def times_of(venue: Venue, value: bytes) -> MessageTimes:
    """Return the times of a message, by the venue's decoder; none if it has no trade, or cannot be decoded."""
    try:
        trades = venue.decode(value)
    except (RejectedError, SkippedError):
        return NO_TIMES
    if not trades:
        return NO_TIMES
    recorded = max(trade.timestamp if trade.received is None else trade.received for trade in trades)
    return MessageTimes(max(trade.timestamp for trade in trades), recorded)


def parse_speed(text: str) -> float:
    """Parse a speed: a positive number, with or without an x after it.

    >>> parse_speed("10x"), parse_speed("0.5")
    (10.0, 0.5)

    Raises:
        SettingsError: it is not one.
    """
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise SettingsError(f"--speed {text!r}: not a positive number; use 1x for real time, 10x for ten times as fast")
    return speed


class RateLimit:
    """Space calls evenly at `per_second`, without a burst to catch up after a stall."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def wait(self) -> None:
        """Wait until the next call is due."""
        now = self._clock()
        self._due = max(self._due, now - LAG_SECONDS_MAX)
        if self._due - now > SLEEP_SECONDS_MIN:
            self._sleep(self._due - now)
        self._due += self._interval


class Pace:
    """Waits until a recorded time is due, counted from the first one.

    A time before the latest one is due at once. After a stall, what has become due in the meantime follows at once, so
    that the distances to the first message stay those of the recording.
    """

    def __init__(
        self,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._began: tuple[float, int] | None = None

    def wait(self, recorded_us: int) -> None:
        """Wait until a time, in microseconds since the epoch, is due."""
        now = self._clock()
        if self._began is None:
            self._began = now, recorded_us
        began, first_us = self._began
        seconds = began + (recorded_us - first_us) / SECOND_US / self._speed - now
        if seconds > SLEEP_SECONDS_MIN:
            self._sleep(seconds)
