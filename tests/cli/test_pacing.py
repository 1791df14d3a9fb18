"""Pacing: messages follow at the distances of their recording, divided by the speed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.cli.pacing import NO_TIMES, MessageTimes, Pace, parse_speed, times_of
from k2.model.errors import SettingsError
from k2.venues.k2 import K2

SECOND = 1_000_000


class _Clock:
    """A clock that advances only in `sleep`."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize("text", ["", "x", "fast", "0", "0x", "-1x", "nan", "inf", "1xx"])
def test_a_wrong_speed_is_rejected(text: str) -> None:
    """It is a positive number."""
    with pytest.raises(SettingsError, match="use 1x for real time"):
        parse_speed(text)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.floats(0.1, 100))
def test_a_time_is_never_published_before_it_is_due(times: list[int], speed: float) -> None:
    """Each waits for the latest time so far, to the resolution of sleep; one that is older does not wait."""
    clock = _Clock()
    pace = Pace(speed, clock, clock.sleep)
    latest = times[0]
    for recorded in times:
        latest = max(latest, recorded)
        pace.wait(recorded)
        assert clock.now - 100 == pytest.approx((latest - times[0]) / SECOND / speed, abs=0.0011)


def test_a_stall_is_made_up_for() -> None:
    """What has become due in the meantime follows at once, and later ones are where the recording has them."""
    clock = _Clock()
    pace = Pace(1, clock, clock.sleep)
    pace.wait(0)
    clock.now += 5
    pace.wait(3 * SECOND)
    assert clock.now == 105
    pace.wait(8 * SECOND)
    assert clock.now == pytest.approx(108)


def test_a_message_has_the_times_of_its_trade() -> None:
    """The received time paces it if there is one; a message without a trade has no time."""
    message = b'{"exchange":"x","symbol":"A","sequence":1,"price":"1","quantity":"1","timestamp":%d%s}'
    assert times_of(K2, message % (10**15, b"")) == MessageTimes(10**15, 10**15)
    assert times_of(K2, message % (10**15, b',"received":1000000000000009')) == MessageTimes(10**15, 10**15 + 9)
    assert times_of(K2, b"not json") == NO_TIMES
