"""Silence: only a symbol that trades all day, and has paused for much longer than ever, is silent."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.sequencing.silence import FACTOR, FORGOTTEN_SECONDS, PERIOD_US, PERIODS_MIN, ExchangeSilence, SilenceTracker

SECOND = 1_000_000
BEGAN = 1_700_000_000 * SECOND // PERIOD_US * PERIOD_US
LIVE = 60 * SECOND
HALF_HOUR = PERIOD_US // SECOND


def _fed(trades: Iterable[tuple[int, float]], *exchanges: int, batch: int = 1) -> SilenceTracker:
    """Return a tracker of symbols with these exchanges that has read trades: symbol and second."""
    tracker = SilenceTracker()
    tracker.add_symbols(exchanges)
    ordered = sorted(trades, key=lambda one: one[1])
    for start in range(0, len(ordered), batch):
        some = ordered[start : start + batch]
        tracker.add(
            np.array([symbol for symbol, _ in some], dtype=np.int32),
            np.array([BEGAN + int(second * SECOND) for _, second in some], dtype=np.int64),
        )
    return tracker


def _at(tracker: SilenceTracker, second: float) -> dict[int, ExchangeSilence]:
    return tracker.assess(BEGAN + int(second * SECOND), LIVE)


def _steady(symbol: int, until: float, every: float = 20) -> list[tuple[int, float]]:
    return [(symbol, second) for second in np.arange(0, until, every).tolist()]


@pytest.mark.parametrize(("batch", "seconds"), [(1, 200), (7, 400)])
def test_a_symbol_that_stopped_is_silent(batch: int, seconds: int) -> None:
    """Once the others of its exchange have gone on for ten of its longest pauses, and for five minutes."""
    hours = 2 * 3_600
    for more, is_silent in ((280, False), (max(300, seconds) + 60, True)):
        trades = [*_steady(0, hours), *_steady(1, hours + more), *_steady(2, hours + more)]
        found = _at(_fed(trades, 0, 0, 0, batch=batch), hours + more)[0]
        assert found == ExchangeSilence(3, (0,) if is_silent else (), is_exchange_silent=False)


def test_an_exchange_that_stopped_is_silent_as_one() -> None:
    """At its close, say: the clock goes on, and no symbol of another exchange tells that it is behind."""
    hours = 2 * 3_600
    tracker = _fed([*_steady(0, hours), *_steady(1, hours), *_steady(2, hours + 400)], 0, 0, 5)
    found = _at(tracker, hours + 420)
    assert found[0] == ExchangeSilence(2, (0, 1), is_exchange_silent=True)
    assert found[5] == ExchangeSilence(1, (), is_exchange_silent=False)
    assert _at(tracker, hours + FORGOTTEN_SECONDS + 500)[0] == ExchangeSilence(0, (), is_exchange_silent=False)


def test_a_time_ahead_of_the_clock_silences_no_other_symbol() -> None:
    """One producer's clock is hours ahead: the others are judged by the clock."""
    hours = 2 * 3_600
    trades = [*_steady(0, hours), *_steady(1, hours), *_steady(2, hours), (2, 2 * hours)]
    tracker = _fed(trades, 0, 0, 0)
    assert _at(tracker, hours + 10)[0] == ExchangeSilence(3, (), is_exchange_silent=False)
    assert _at(tracker, hours + 400)[0] == ExchangeSilence(3, (0, 1), is_exchange_silent=True)


def test_a_symbol_that_trades_now_and_then_is_not_judged() -> None:
    """Nor one that has traded for less than two hours; one long pause in between changes nothing."""
    hours = 3 * 3_600
    rare = _steady(1, hours, every=900)
    new = [(2, second) for symbol, second in _steady(2, hours) if second > hours - (PERIODS_MIN - 1) * HALF_HOUR]
    interrupted = [(3, second) for _, second in _steady(3, hours) if not 4_000 < second < 6_000]
    tracker = _fed([*_steady(0, hours + 500), *rare, *new, *interrupted], 0, 0, 0, 0)
    assert _at(tracker, hours + 510)[0] == ExchangeSilence(2, (3,), is_exchange_silent=False)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5 * 3_600)), max_size=300),
    st.integers(1, 50),
    st.integers(0, 7 * 3_600),
)
def test_large_batches_never_make_a_symbol_silent(trades: list[tuple[int, float]], batch: int, second: int) -> None:
    """Pauses within a batch are taken together, so that what is silent by batches is so trade by trade as well."""
    by_trade, by_batch = (_at(_fed(trades, 0, 0, 1, 1, 1, batch=size), second) for size in (1, batch))
    for exchange, found in by_batch.items():
        assert {*found.silent} <= {*by_trade[exchange].silent}


@given(st.lists(st.integers(1, 500), min_size=60, max_size=200), st.integers(0, 40_000))
def test_silence_is_much_longer_than_the_pauses(pauses: list[int], more: int) -> None:
    """Of a silent symbol, no two half hours have a pause of a tenth of its silence."""
    seconds = np.cumsum(pauses).tolist()
    last = seconds[-1]
    tracker = _fed([*((0, second) for second in seconds), (1, last + more)], 0, 0)
    found = _at(tracker, last + more).get(0)
    if found is not None and 0 in found.silent:
        ends = [second for pause, second in zip(pauses, seconds, strict=True) if pause * FACTOR >= max(more, 300)]
        recent = {second // HALF_HOUR for second in ends if second // HALF_HOUR > last // HALF_HOUR - 8}
        assert len(recent) <= 1


def test_symbols_are_added_as_they_come() -> None:
    """There is room for any number; those that are there keep their state."""
    tracker = _fed([*_steady(0, 7_200), *_steady(1, 7_600)], 0, 0)
    for _ in range(3_000):
        tracker.add_symbols([1])
    tracker.add(np.array([3_001], dtype=np.int32), np.array([BEGAN], dtype=np.int64))
    assert len(tracker) == 3_002
    assert _at(tracker, 7_610)[0].silent == (0,)
