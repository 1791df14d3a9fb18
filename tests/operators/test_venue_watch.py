"""The watch over venues: skew is measured, drift counted and logged once, and nothing else depends on it."""

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import structlog
from prometheus_client import REGISTRY

from k2.model.batch import MessageBatch
from k2.venues.decode import decode
from operators.venue_watch import DEAD_LETTERS_MAX, LOGGED_MAX, VenueWatch
from tests.venues.messages import BINANCE_MESSAGE, K2_MESSAGE, batch_of

VENUE_US = 1_723_161_255_342_000
GROWN = BINANCE_MESSAGE.replace(b'"M":true', b'"M":true,"z":7')


def batch(*values: bytes, venue: str = "binance-spot", delay_us: int = 250_000) -> MessageBatch:
    """Return messages that came to Kafka some time after their trades."""
    times = np.full(len(values), VENUE_US + delay_us, dtype=np.int64)
    return replace(batch_of(values, venue), kafka_timestamps=times)


def watch(watched: VenueWatch, *batches: MessageBatch) -> list[Any]:
    """Let the watch look at batches, and return what it logs."""
    with structlog.testing.capture_logs() as logs:
        for one in batches:
            watched.add(decode(one))
    return logs


def ticking() -> VenueWatch:
    """Return a watch whose clock has gone on by a second at each batch."""
    seconds = count(0.0)
    return VenueWatch(lambda: next(seconds))


def sample(name: str, **labels: str) -> float:
    """Return the value of a series, 0 if there is none."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_change_is_counted_each_time_and_logged_once() -> None:
    """With its path, its value, when it was seen first, and where."""
    before = sample("k2_venue_drift_total", venue="binance-spot", change="new_key")
    logs = watch(ticking(), batch(BINANCE_MESSAGE), batch(GROWN), batch(GROWN, GROWN))
    assert sample("k2_venue_drift_total", venue="binance-spot", change="new_key") - before == 2
    [entry] = logs
    assert entry | {"hint": ""} == {
        "event": "venue_drift",
        "log_level": "warning",
        "venue": "binance-spot",
        "change": "new_key",
        "path": "z",
        "value": "'7'",
        "first_seen": "2024-08-08T23:54:15.592000Z",
        "example": "trades:0:100",
        "hint": "",
    }


def test_only_the_first_trade_and_the_first_dead_letters_are_compared() -> None:
    """Malformed messages are none of them; so a batch costs the same, however long it is."""
    bad = [BINANCE_MESSAGE.replace(b'"p":', b'"p%d":' % number) for number in range(20)]
    logs = watch(VenueWatch(), batch(b"{", BINANCE_MESSAGE, GROWN, *bad))
    keys = [entry["path"] for entry in logs if entry["change"] == "new_key"]
    assert keys == [f"p{number}" for number in range(DEAD_LETTERS_MAX)]
    assert [entry["path"] for entry in logs if entry["change"] == "missing_key"] == ["p"]


def test_one_trade_a_second_is_compared() -> None:
    """Of each venue; a dead letter is compared at any time, because it may be the only one."""
    times = iter([0.0, 0.5, 0.5, 1.0, 1.1])
    watched = VenueWatch(lambda: next(times))
    other = K2_MESSAGE.replace(b'"side":"sell"', b'"side":"sell","z":7')
    bad = BINANCE_MESSAGE.replace(b'"p":', b'"price":')
    assert watch(watched, batch(BINANCE_MESSAGE), batch(GROWN), batch(other, venue="k2")) == []
    assert [entry["path"] for entry in watch(watched, batch(GROWN))] == ["z"]
    assert [entry["path"] for entry in watch(watched, batch(bad))] == ["price", "p"]


def test_a_flood_of_keys_is_not_logged() -> None:
    """Further changes are counted, and neither logged nor kept."""
    before = sample("k2_venue_drift_total", venue="binance-spot", change="new_key")
    grown = [BINANCE_MESSAGE.replace(b'"M":true', b'"M":true,"z%d":7' % number) for number in range(LOGGED_MAX + 20)]
    assert len(watch(ticking(), *map(batch, grown))) == LOGGED_MAX
    assert sample("k2_venue_drift_total", venue="binance-spot", change="new_key") - before == LOGGED_MAX + 20


def test_skew_is_measured_by_venue() -> None:
    """Also of the canonical message, which has no table; a venue ahead is below 0."""
    labels = {"venue": "k2", "le": "-0.1"}
    before = sample("k2_venue_skew_seconds_bucket", **labels), sample("k2_venue_skew_seconds_count", venue="k2")
    assert watch(VenueWatch(), batch(K2_MESSAGE, venue="k2"), batch(K2_MESSAGE, venue="k2", delay_us=-250_000)) == []
    after = sample("k2_venue_skew_seconds_bucket", **labels), sample("k2_venue_skew_seconds_count", venue="k2")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 2)


def test_a_batch_without_messages_or_kafka_times_is_none() -> None:
    """The first batch of a partition is empty; a message without a Kafka timestamp has drift without a time."""
    assert watch(VenueWatch(), batch_of([], "binance-spot")) == []
    [entry] = watch(VenueWatch(), batch_of([GROWN], "binance-spot"))
    assert entry["first_seen"] is None
