"""Times as integers: microseconds since the epoch, UTC. Other units are rejected, never guessed."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from k2.model.decimals import clipped

__all__ = [
    "DAY_US",
    "EPOCH",
    "FRACTION_DIGITS_MAX",
    "MICROSECONDS_MAX",
    "MICROSECONDS_MIN",
    "MILLISECONDS_END",
    "SECOND_US",
    "TIME_AHEAD_TOLERANCE_US",
    "checked_time",
    "parse_time",
    "time_of",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
MICROSECONDS_MIN: Final = 10**14
"""March 1973. A smaller number may be seconds or milliseconds."""
MICROSECONDS_MAX: Final = 10**16
"""The year 2286, exclusive. A number from here on may be nanoseconds."""
MILLISECONDS_END: Final = 253_402_300_800_000
"""End of the year 9999, the last that `datetime` supports."""
TIME_AHEAD_TOLERANCE_US: Final = 5_000_000
"""Tolerated clock difference by which a venue time may be ahead of the Kafka timestamp of its message."""

_MICROSECOND: Final = timedelta(microseconds=1)
_UNITS: Final = (
    (10**8, 10**11, "seconds"),
    (10**11, MICROSECONDS_MIN, "milliseconds"),
    (10**17, 10**19, "nanoseconds"),
)
FRACTION_DIGITS_MAX: Final = 9
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:([0-9]{2})(?:\.([0-9]+))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)


def checked_time(number: int) -> int:
    """Return a time in microseconds since the epoch, unchanged.

    Raises:
        ValueError: the number is outside the years 1973 to 2286, as a time in another unit would be.
    """
    if MICROSECONDS_MIN <= number < MICROSECONDS_MAX:
        return number
    for first, end, unit in _UNITS:
        if first <= number < end:
            raise ValueError(f"looks like {unit}: {number}; send microseconds")
    raise ValueError(f"not microseconds since the epoch between 1973 and 2286: {clipped(number)}")


def parse_time(text: str) -> int:
    """Parse an RFC 3339 time; return microseconds since the epoch, UTC.

    Digits beyond the microsecond are truncated towards the past, also before 1970. The format is that of RFC 3339
    section 5.6 with at most nine fractional digits, without leap seconds.

    Raises:
        ValueError: the text is not such a time.

    >>> parse_time("2024-08-08T23:54:15.342999999Z"), parse_time("2024-08-09t01:54:15.342+02:00")
    (1723161255342999, 1723161255342000)
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {clipped(text)}")
    second, fraction, zone = match.groups(default="")
    if not zone:
        raise ValueError(f"time without a zone: {clipped(text)}; append Z or an offset")
    if len(fraction) > FRACTION_DIGITS_MAX:
        raise ValueError(f"more than nine fractional digits: {clipped(text)}")
    if second == "60":
        raise ValueError(f"leap second: {clipped(text)}")
    try:
        time = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"outside the years 0001 to 9999 in UTC: {clipped(text)}") from None
    except ValueError as error:
        raise ValueError(f"{error}: {clipped(text)}") from None
    return (time - EPOCH) // _MICROSECOND


def time_of(microseconds: int) -> datetime:
    """Return the UTC time of microseconds since the epoch.

    Raises:
        OverflowError: the year is not within 1 to 9999.
    """
    return EPOCH + microseconds * _MICROSECOND
