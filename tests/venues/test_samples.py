"""A sample of messages is decoded as the job would, and another venue that fits it is found."""

import time

import pytest

from k2.venues.samples import decode_sample, fitting_venue

AHEAD_SECONDS_MAX = 60


def trade(sequence: int, timestamp: int = 1_723_161_255_342_000, symbol: str = "A-B") -> bytes:
    """Return a canonical message."""
    text = '{{"exchange":"x","symbol":"{}","sequence":{},"price":"1","quantity":"2","side":"buy","timestamp":{}}}'
    return text.format(symbol, sequence, timestamp).encode()


def binance(number: int) -> bytes:
    """Return a trade of Binance spot."""
    return (
        b'{"e":"trade","E":1723161255342,"s":"BTCUSDT","t":%d,"p":"61837.63","q":"0.1","T":1723161255341,"m":true,"M":true}'
        % number
    )


def test_values_are_decoded_one_by_one() -> None:
    """Each by its own bytes; the offsets of those that are rejected are their places in the sample."""
    values = [trade(1), b"x", trade(22, symbol="LONGER-SYMBOL"), b"", trade(333)]
    decoded = decode_sample("t", "k2", values, AHEAD_SECONDS_MAX)
    assert decoded.trades.columns.sequences.tolist() == [1, 22, 333]
    assert [offset for offset, _ in decoded.rejected] == [1, 3]


@pytest.mark.parametrize(("ahead_seconds", "rejected"), [(-AHEAD_SECONDS_MAX, 0), (10, 0), (3_600, 1)])
def test_times_are_compared_with_now(ahead_seconds: int, rejected: int) -> None:
    """As if the messages had been published at this moment."""
    timestamp = time.time_ns() // 1_000 + ahead_seconds * 1_000_000
    assert len(decode_sample("t", "k2", [trade(1, timestamp)], AHEAD_SECONDS_MAX).rejected) == rejected


def test_the_venue_that_reads_most_trades_is_found() -> None:
    """It may reject half of the values; none fits values that no venue reads, and the venue itself is no answer."""
    assert fitting_venue("t", "k2", [binance(1), binance(2), trade(3)], AHEAD_SECONDS_MAX) == "binance-spot"
    assert fitting_venue("t", "okx", [trade(1), b"x"], AHEAD_SECONDS_MAX) == "k2"
    assert fitting_venue("t", "okx", [trade(1), b"x", b"y"], AHEAD_SECONDS_MAX) is None
    assert fitting_venue("t", "binance-spot", [binance(1)], AHEAD_SECONDS_MAX) is None
    assert fitting_venue("t", "k2", [b"x"], AHEAD_SECONDS_MAX) is None
