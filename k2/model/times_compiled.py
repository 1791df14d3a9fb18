"""The compiled parser of plain RFC 3339 times; `k2.model.times` is the specification."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free
from k2.model.times import DAY_US, FRACTION_DIGITS_MAX, SECOND_US

__all__ = ["read_time"]

_DATE_TIME_CHARACTERS: Final = 19
_DASH, _COLON, _POINT, _LETTER_T, _LETTER_Z, _DIGIT_0 = (int(character) for character in b"-:.TZ0")
# Not literals, each of which is a type of its own, for which `_digits` would be compiled.
_TWO: Final[Any] = np.int64(2)
_FOUR: Final[Any] = np.int64(4)
_MONTH_DAYS: Final = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


@allocation_free
def _digits(data: NDArray[np.uint8], start: int, count: int) -> int:
    """Return the value of `count` digits; -1 if one of the characters is not a digit."""
    value = 0
    for idx in range(start, start + count):
        digit: Any = np.int64(data[idx]) ^ _DIGIT_0
        if digit > 9:
            return -1
        value = value * 10 + digit
    return value


@allocation_free
def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01, by Howard Hinnant's `days_from_civil`."""
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return int(era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468)


@allocation_free
def _is_day(year: int, month: int, day: int) -> bool:
    if year < 1 or month < 1 or month > 12 or day < 1:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return bool(day <= _MONTH_DAYS[month - 1] + (1 if leap and month == 2 else 0))


@allocation_free
def _has_separators(data: NDArray[np.uint8], start: int) -> bool:
    return bool(
        data[start + 4] == _DASH
        and data[start + 7] == _DASH
        and data[start + 10] == _LETTER_T
        and data[start + 13] == _COLON
        and data[start + 16] == _COLON
    )


@allocation_free
def _microseconds(data: NDArray[np.uint8], start: int, end: int) -> int:
    """Parse `.` and one to nine digits as whole microseconds; -1 if invalid, 0 for an empty range."""
    if start == end:
        return 0
    count = end - start - 1
    if data[start] != _POINT or count < 1 or count > FRACTION_DIGITS_MAX:
        return -1
    value = _digits(data, start + 1, count)
    if value < 0:
        return -1
    for _ in range(count, 6):
        value *= 10
    for _ in range(6, count):
        value //= 10
    return value


@allocation_free
def read_time(data: NDArray[np.uint8], start: int, end: int) -> tuple[bool, int]:
    """Parse the plain format `YYYY-MM-DDTHH:MM:SS[.f]Z`; return (whether accepted, microseconds since the epoch).

    `parse_time` may accept what this function rejects (an offset, lower-case letters). For accepted text both return
    the same value.
    """
    fraction = start + _DATE_TIME_CHARACTERS
    if end <= fraction or data[end - 1] != _LETTER_Z or not _has_separators(data, start):
        return False, 0
    year, month, day = _digits(data, start, _FOUR), _digits(data, start + 5, _TWO), _digits(data, start + 8, _TWO)
    hour, minute = _digits(data, start + 11, _TWO), _digits(data, start + 14, _TWO)
    second, micros = _digits(data, start + 17, _TWO), _microseconds(data, fraction, end - 1)
    if not _is_day(year, month, day) or not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return False, 0
    seconds = hour * 3600 + minute * 60 + second
    return micros >= 0, _days(year, month, day) * DAY_US + seconds * SECOND_US + micros
