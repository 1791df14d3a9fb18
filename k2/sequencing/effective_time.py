"""The time by which a trade is ordered, as a plain rule; `k2.sequencing.tracker_kernel` compiles the same function."""

from typing import Final

import numpy as np

from k2.model.batch import NULL_TIME
from k2.model.times import TIME_AHEAD_TOLERANCE_US

__all__ = ["effective_time"]

_TIME_MAX: Final = np.iinfo(np.int64).max


def effective_time(timestamp: int, kafka_timestamp: int) -> int:
    """Return the time by which a trade is ordered, microseconds.

    It is the venue time, or the Kafka timestamp of the message if the venue time is more than 5 seconds ahead of it.
    A misdated trade therefore does not hide that numbering began again.
    """
    if kafka_timestamp == NULL_TIME or kafka_timestamp > _TIME_MAX - TIME_AHEAD_TOLERANCE_US:
        return timestamp
    return kafka_timestamp if timestamp > kafka_timestamp + TIME_AHEAD_TOLERANCE_US else timestamp
