"""A sample of messages decoded by a venue's rule, to see whether it is the venue of those messages."""

import time
from collections.abc import Sequence

import numpy as np

from k2.model.batch import MessageBatch
from k2.venues import VENUES
from k2.venues.decode import Decoded, decode_by_reference

__all__ = ["decode_sample", "fitting_venue"]


def decode_sample(topic: str, venue: str, values: Sequence[bytes], time_ahead_seconds_max: int) -> Decoded:
    """Decode the values of messages as the job would now; their places in the sample are their offsets."""
    sizes = np.array([len(value) for value in values], dtype=np.int32)
    batch = MessageBatch(
        topic=topic,
        partition=0,
        venue=venue,
        first_offset=0,
        next_offset=len(values),
        offsets=np.arange(len(values), dtype=np.int64),
        kafka_timestamps=np.full(len(values), time.time_ns() // 1_000, dtype=np.int64),
        data=np.frombuffer(b"".join(values), dtype=np.uint8),
        value_starts=np.cumsum(sizes, dtype=np.int64) - sizes,
        value_sizes=sizes,
        key_starts=np.zeros(len(values), dtype=np.int64),
        key_sizes=np.full(len(values), -1, dtype=np.int32),
    )
    return decode_by_reference(batch, time_ahead_seconds_max)


def fitting_venue(topic: str, venue: str, values: Sequence[bytes], time_ahead_seconds_max: int) -> str | None:
    """Return the other venue that decodes the most trades and rejects at most half of the values; None if none does."""
    trades: dict[str, int] = {}
    for name in VENUES:
        decoded = decode_sample(topic, name, values, time_ahead_seconds_max)
        if name != venue and len(decoded.trades.columns) and 2 * len(decoded.rejected) <= len(values):
            trades[name] = len(decoded.trades.columns)
    return max(trades, key=lambda name: trades[name], default=None)
