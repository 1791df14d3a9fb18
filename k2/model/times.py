"""Times as integers: microseconds since the epoch, UTC. Other units are rejected, never guessed."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.decimals import clipped

__all__ = [
    "DAY_US",
    "EPOCH",
    "MICROSECONDS_MAX",
    "MICROSECONDS_MIN",
    "SECOND_US",
    "TIME_AHEAD_TOLERANCE_US",
    "checked_time",
    "parse_time",
    "read_time",
    "time_of",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
MICROSECONDS_MIN: Final = 10**14
"""March 1973. A smaller number may be seconds or milliseconds."""
MICROSECONDS_MAX: Final = 10**16
"""The year 2286, exclusive. A number from here on may be nanoseconds."""
TIME_AHEAD_TOLERANCE_US: Final = 5_000_000
"""Tolerated clock difference by which a venue time may be ahead of the Kafka timestamp of its message."""

_MICROSECOND: Final = timedelta(microseconds=1)
_UNITS: Final = (
    (10**8, 10**11, "seconds"),
    (10**11, MICROSECONDS_MIN, "milliseconds"),
    (10**17, 10**19, "nanoseconds"),
)
_FRACTION_DIGITS_MAX: Final = 9
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
    if len(fraction) > _FRACTION_DIGITS_MAX:
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


_DATE_TIME_CHARACTERS: Final = 19
_DASH, _COLON, _POINT, _LETTER_T, _LETTER_Z, _DIGIT_0 = (int(character) for character in b"-:.TZ0")
_MONTH_DAYS: Final = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


@compiled
def _digits(data: NDArray[np.uint8], start: int, count: int) -> int:
    """Return the value of `count` digits; -1 if one of the characters is not a digit."""
    value = 0
    for idx in range(start, start + count):
        digit: Any = np.int64(data[idx]) ^ _DIGIT_0
        if digit > 9:
            return -1
        value = value * 10 + digit
    return value


@compiled
def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01, by Howard Hinnant's `days_from_civil`."""
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return int(era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468)


@compiled
def _is_day(year: int, month: int, day: int) -> bool:
    if year < 1 or month < 1 or month > 12 or day < 1:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return bool(day <= _MONTH_DAYS[month - 1] + (1 if leap and month == 2 else 0))


@compiled
def _has_separators(data: NDArray[np.uint8], start: int) -> bool:
    return bool(
        data[start + 4] == _DASH
        and data[start + 7] == _DASH
        and data[start + 10] == _LETTER_T
        and data[start + 13] == _COLON
        and data[start + 16] == _COLON
    )


@compiled
def _microseconds(data: NDArray[np.uint8], start: int, end: int) -> int:
    """Parse `.` and one to nine digits as whole microseconds; -1 if invalid, 0 for an empty range."""
    if start == end:
        return 0
    count = end - start - 1
    if data[start] != _POINT or count < 1 or count > _FRACTION_DIGITS_MAX:
        return -1
    value = _digits(data, start + 1, count)
    if value < 0:
        return -1
    for _ in range(count, 6):
        value *= 10
    for _ in range(6, count):
        value //= 10
    return value


@compiled
def read_time(data: NDArray[np.uint8], start: int, end: int) -> tuple[bool, int]:
    """Parse the plain format `YYYY-MM-DDTHH:MM:SS[.f]Z`; return (whether accepted, microseconds since the epoch).

    `parse_time` may accept what this function rejects (an offset, lower-case letters). For accepted text both return
    the same value.
    """
    fraction = start + _DATE_TIME_CHARACTERS
    if end <= fraction or data[end - 1] != _LETTER_Z or not _has_separators(data, start):
        return False, 0
    year, month, day = _digits(data, start, 4), _digits(data, start + 5, 2), _digits(data, start + 8, 2)
    hour, minute = _digits(data, start + 11, 2), _digits(data, start + 14, 2)
    second, micros = _digits(data, start + 17, 2), _microseconds(data, fraction, end - 1)
    if not _is_day(year, month, day) or not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return False, 0
    seconds = hour * 3600 + minute * 60 + second
    return micros >= 0, _days(year, month, day) * DAY_US + seconds * SECOND_US + micros


def time_of(microseconds: int) -> datetime:
    """Return the UTC time of microseconds since the epoch.

    Raises:
        OverflowError: the year is not within 1 to 9999.
    """
    return EPOCH + microseconds * _MICROSECOND
