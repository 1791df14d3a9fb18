"""The watch for silence: what it makes of batches near the head of a topic, and far behind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import structlog
from prometheus_client import REGISTRY

from k2.model.batch import MessageBatch
from k2.model.symbols import Symbols
from k2.venues.decode import decode
from operators.silence_watch import SilenceWatch
from tests.venues.messages import batch_of

BEGAN = 1_700_000_400
STEP = 20
MESSAGE = b'{"exchange":"%s","symbol":"%s","sequence":%d,"price":"1","quantity":"1","timestamp":1700000000000000}'


class _Market:
    """Two hours and more of trades every 20 seconds, at a clock that goes with them."""

    def __init__(self, exchange: str, lag: Callable[[], float] = lambda: 0.0, behind: int = 0) -> None:
        self._exchange, self._behind, self._symbols = exchange.encode(), behind, Symbols()
        self.now = float(BEGAN)
        self.watch = SilenceWatch(lag, lambda: self.now + self._behind)

    def trade(self, seconds: float, *symbols: bytes, step: float = STEP, **marks: Any) -> list[Any]:
        """Let symbols trade for some time, all at each step; return the log lines."""
        with structlog.testing.capture_logs() as logs:
            for _ in range(round(seconds / step)):
                self.now += step
                values = [MESSAGE % (self._exchange, symbol, int(self.now)) for symbol in symbols]
                if values:
                    self.watch.add(decode(self._batch(values, **marks), symbols=self._symbols))
        return logs

    def _batch(self, values: list[bytes], **marks: Any) -> MessageBatch:
        times = np.full(len(values), int(self.now * 1_000_000), dtype=np.int64)
        return replace(batch_of(values, "k2"), kafka_timestamps=times, **marks)

    def gauges(self) -> tuple[float, float]:
        """Return the number of silent symbols, and whether the exchange is silent, as a scrape sees them."""
        labels = {"exchange": self._exchange.decode()}
        found = [REGISTRY.get_sample_value(f"k2_{name}", labels) for name in ("silent_symbols", "exchange_silent")]
        assert None not in found
        return found[0] or 0.0, found[1] or 0.0


def test_a_silent_symbol_is_named_once_in_a_while() -> None:
    """In the log, and counted in the gauge, until it trades again."""
    market = _Market("silent-one")
    assert market.trade(7_200, b"A", b"B", b"C") == []
    logs = market.trade(900, b"B", b"C")
    assert [(one["event"], one["symbols"], one["silent"], one["steady"]) for one in logs] == [
        ("symbols_silent", ["A"], 1, 3)
    ]
    assert market.gauges() == (1, 0)
    assert market.trade(40, b"A", b"B", b"C") == []
    assert market.gauges() == (0, 0)


def test_trades_that_are_held_count_at_a_scrape() -> None:
    """Those of less than a second are added together; a scrape does not wait for more."""
    market = _Market("held")
    market.trade(7_200, b"A", b"B", b"C")
    market.trade(900, b"B", b"C")
    assert market.gauges() == (1, 0)
    market.trade(0.5, b"A", step=0.5)
    market.trade(20)
    assert market.gauges() == (0, 0)


def test_a_silent_exchange_is_seen_at_a_scrape() -> None:
    """No batch comes any more."""
    market = _Market("silent-exchange")
    market.trade(7_200, b"A", b"B")
    with structlog.testing.capture_logs() as logs:
        market.trade(400)
        assert market.gauges() == (2, 1)
    assert [one["event"] for one in logs] == ["exchange_silent"]


@pytest.mark.parametrize(("lag", "behind"), [(30_000.0, 0), (float("nan"), 0), (0.0, 86_400)])
def test_what_is_read_from_far_behind_is_not_judged(lag: float, behind: int) -> None:
    """Neither while messages are unread, nor if that is not known, nor in a recording of another day."""
    market = _Market(f"behind-{lag}-{behind}", lambda: lag, behind)
    market.trade(7_200, b"A", b"B", b"C")
    assert market.trade(900, b"B", b"C") == []
    assert market.gauges() == (0, 0)


def test_a_process_must_have_been_near_the_head_for_a_while() -> None:
    """Just after a catch-up, one partition may still be before another."""
    lags = {"now": 30_000.0}
    market = _Market("catching-up", lambda: lags["now"])
    market.trade(7_200, b"A", b"B", b"C")
    market.trade(400, b"B", b"C")
    lags["now"] = 0.0
    assert market.trade(60, b"B", b"C") == []
    assert [one["event"] for one in market.trade(40, b"B", b"C")] == ["symbols_silent"]
