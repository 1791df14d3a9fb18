"""Venue times ahead of the Kafka timestamps of their messages, and the rejection of those too far ahead."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.reasons import Reason, RejectedError

__all__ = ["TIME_AHEAD_SECONDS_MAX", "time_ahead", "too_far_ahead"]

TIME_AHEAD_SECONDS_MAX: Final = 86_400
"""Default of `K2_TIME_AHEAD_SECONDS_MAX`."""

_KAFKA_TIME_BOUND: Final = 2**62
"""Kafka timestamps are clipped to plus or minus this bound, so that differences from venue times fit 64 bits."""
_UNITS: Final = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"))


def time_ahead(timestamps: NDArray[np.int64], kafka_timestamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how far each venue time is ahead of the Kafka timestamp of its message.

    Args:
        timestamps: int64[n], microseconds since the epoch, within the years 1 to 9999.
        kafka_timestamps: int64[n], microseconds since the epoch, any value; `NULL_TIME` for none.

    Returns:
        int64[n], microseconds; negative if the venue time is the earlier one, 0 without a Kafka timestamp.
    """
    ahead = timestamps - np.clip(kafka_timestamps, -_KAFKA_TIME_BOUND, _KAFKA_TIME_BOUND)
    ahead[kafka_timestamps == NULL_TIME] = 0
    return ahead


def too_far_ahead(field: str, timestamp: int, kafka_timestamp: int, seconds_max: int) -> RejectedError:
    """Return the rejection of a message with a trade that is dated too far ahead.

    >>> print(too_far_ahead("timestamp", 1_893_456_000_000_000, 1_893_340_800_500_000, 86_400).error)
    timestamp: 2030-01-01T00:00:00Z is 1 d 7 h 59 min 59.5 s ahead of the message's Kafka timestamp \
2029-12-30T16:00:00.500000Z; at most K2_TIME_AHEAD_SECONDS_MAX (86400) seconds are accepted: raise that setting \
if the time is right
    """
    duration = _format_duration(timestamp - kafka_timestamp)
    return RejectedError(
        Reason.INVALID,
        f"{field}: {_format_time(timestamp)} is {duration} ahead of the message's Kafka timestamp"
        f" {_format_time(kafka_timestamp)};"
        f" at most K2_TIME_AHEAD_SECONDS_MAX ({seconds_max}) seconds are accepted:"
        " raise that setting if the time is right",
    )


def _format_time(microseconds: int) -> str:
    """Format a time as RFC 3339, also outside the years 1 to 9999, which `datetime` cannot hold."""
    return str(np.datetime64(microseconds, "us")).removesuffix(".000000") + "Z"


def _format_duration(microseconds: int) -> str:
    """Format a positive duration exactly, in days, hours, minutes and seconds; parts that are 0 are omitted."""
    parts = []
    for size, unit in _UNITS:
        count, microseconds = divmod(microseconds, size)
        parts += [f"{count} {unit}"] if count else []
    if microseconds:
        seconds = f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}".rstrip("0").rstrip(".")
        parts.append(f"{seconds} s")
    return " ".join(parts)
