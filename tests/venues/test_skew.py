"""The skew of a batch: Kafka timestamps minus venue times of some of its trades."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import NULL_TIME
from k2.venues.decode import decode
from k2.venues.skew import ROWS_MAX, skew_seconds
from tests.venues.messages import BINANCE_MESSAGE, batch_of

VENUE_MS = 1_723_161_255_342


@given(st.lists(st.integers(-3_600_000, 3_600_000) | st.none(), max_size=50))
def test_skews_are_those_of_messages_at_equal_distances(delays_ms: list[int | None]) -> None:
    """Of all rows if there are few, else of the first, the last and some between; a null Kafka timestamp has none."""
    times = [NULL_TIME if delay is None else (VENUE_MS + delay) * 1_000 for delay in delays_ms]
    batch = replace(
        batch_of([BINANCE_MESSAGE] * len(times), "binance-spot"), kafka_timestamps=np.array(times, dtype=np.int64)
    )
    found = skew_seconds(decode(batch, time_ahead_seconds_max=86_400).trades).tolist()
    expected = [delay / 1_000 for delay in delays_ms if delay is not None]
    assert len(found) == len(expected) or (len(times) > ROWS_MAX and len(found) <= ROWS_MAX)
    assert {*found} <= {*expected}
    if expected and None not in (delays_ms[0], delays_ms[-1]):
        assert (found[0], found[-1]) == (expected[0], expected[-1])


def test_a_venue_ahead_has_a_negative_skew() -> None:
    """By how much the trade's time is later than that of Kafka."""
    batch = replace(
        batch_of([BINANCE_MESSAGE], "binance-spot"), kafka_timestamps=np.array([VENUE_MS * 1_000 - 250_000])
    )
    assert skew_seconds(decode(batch).trades).tolist() == [-0.25]


def test_a_head_number_has_no_skew() -> None:
    """It names a trade without its time, which is not 1970."""
    heartbeat = b'{"type":"heartbeat","last_trade_id":20,"product_id":"BTC-USD","time":"2024-08-08T23:54:15.3Z"}'
    decoded = decode(replace(batch_of([heartbeat], "coinbase"), kafka_timestamps=np.array([VENUE_MS * 1_000])))
    assert len(decoded.heads) == 1
    assert skew_seconds(decoded.trades).tolist() == []
