"""Times: microseconds since the epoch in UTC, or rejected."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.times import checked_time, parse_time
from k2.model.times_compiled import read_time

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
TIMES: Final = [
    ("1970-01-01T00:00:00Z", 0),
    ("1970-01-01T00:00:00.000001Z", 1),
    ("1969-12-31T23:59:59.999999999Z", -1),
    ("1969-12-31T23:59:59.9999990Z", -1),
    ("2024-08-08T23:54:15.342Z", 1_723_161_255_342_000),
    ("2024-08-09t09:24:15.3+09:30", 1_723_161_255_300_000),
    ("2024-08-09T23:53:15+23:59", 1_723_161_255_000_000),
    ("2024-08-08T20:54:15-03:00", 1_723_161_255_000_000),
    ("2024-08-08T23:54:15-00:00", 1_723_161_255_000_000),
    ("2024-02-29T00:00:00z", 1_709_164_800_000_000),
    ("2000-02-29T00:00:00Z", 951_782_400_000_000),
    ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
    ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
]
NO_TIMES: Final = [
    ("", "not an RFC 3339 time"),
    ("2024-08-08", "not an RFC 3339 time"),
    ("2024-08-08 23:54:15Z", "not an RFC 3339 time"),
    ("2024-08-08T23:54Z", "not an RFC 3339 time"),
    ("2024-08-08T23:54:15.Z", "not an RFC 3339 time"),
    ("2024-08-08T23:54:15+0200", "not an RFC 3339 time"),
    ("2024-08-08T23:54:15Z\n", "not an RFC 3339 time"),
    ("1723161255342000", "not an RFC 3339 time"),
    ("2024-08-08T23:54:15", "time without a zone"),
    ("2024-08-08T23:54:15.0123456789Z", "more than nine fractional digits"),
    ("2023-02-29T00:00:00Z", "day is out of range"),
    ("1900-02-29T00:00:00Z", "day is out of range"),
    ("2024-13-01T00:00:00Z", "month must be in 1..12"),
    ("2024-00-01T00:00:00Z", "month must be in 1..12"),
    ("2024-04-31T00:00:00Z", "day is out of range"),
    ("0000-01-01T00:00:00Z", "year 0 is out of range"),
    ("2024-08-08T24:00:00Z", "hour must be in 0..23"),
    ("2024-08-08T23:60:00Z", "minute must be in 0..59"),
    ("2024-08-08T23:59:61Z", "second must be in 0..59"),
    ("2016-12-31T23:59:60Z", "leap second"),
    ("2024-08-08T23:54:15+24:00", "not an RFC 3339 time"),
    ("2024-08-08T23:54:15+02:60", "not an RFC 3339 time"),
    ("0001-01-01T00:00:00+00:01", "outside the years"),
    ("9999-12-31T23:59:59-00:01", "outside the years"),
    ("9999-12-31T23:59:00-00:01", "outside the years"),
]
NUMBERS: Final = [
    (10**8 - 1, "not microseconds since the epoch"),
    (10**8, "looks like seconds"),
    (10**11 - 1, "looks like seconds"),
    (10**11, "looks like milliseconds"),
    (10**17 - 1, "not microseconds since the epoch"),
    (10**17, "looks like nanoseconds"),
    (10**19 - 1, "looks like nanoseconds"),
    (10**19, "not microseconds since the epoch"),
    (1_723_161_255, "looks like seconds"),
    (1_723_161_255_342, "looks like milliseconds"),
    (10**14 - 1, "looks like milliseconds"),
    (10**16, "not microseconds since the epoch"),
    (1_723_161_255_342_000_000, "looks like nanoseconds"),
    (0, "not microseconds since the epoch"),
    (-1_723_161_255_342_000, "not microseconds since the epoch"),
]

FIRST: Final = datetime.fromisoformat("0001-01-03")
LAST: Final = datetime.fromisoformat("9999-12-29")
times_of_day = st.datetimes(timezones=st.just(UTC))


def _read(text: str) -> int | None:
    """Read with the compiled rule, from a position within other bytes."""
    data = np.frombuffer(bytearray(b"9" + text.encode() + b"Z"), dtype=np.uint8)
    plain, micros = read_time(data, 1, len(data) - 1)
    return int(micros) if plain else None


@pytest.mark.parametrize(("text", "micros"), TIMES)
def test_a_time_is_microseconds_in_utc(text: str, micros: int) -> None:
    """Offsets are subtracted and finer digits truncated towards the past, also before 1970."""
    assert parse_time(text) == micros
    assert _read(text) in (micros, None)


@pytest.mark.parametrize(("text", "what"), NO_TIMES)
def test_an_invalid_time_is_rejected(text: str, what: str) -> None:
    """The error names the part that is wrong, and the compiled rule accepts none of them."""
    with pytest.raises(ValueError, match=what) as caught:
        parse_time(text)
    assert f": {text!r}" in str(caught.value)
    assert _read(text) is None


@pytest.mark.parametrize(("number", "what"), NUMBERS)
def test_another_unit_is_rejected(number: int, what: str) -> None:
    """Seconds, milliseconds and nanoseconds are named in the error, not guessed."""
    with pytest.raises(ValueError, match=what) as caught:
        checked_time(number)
    assert f"{number}" in str(caught.value)


@pytest.mark.parametrize("number", [10**14, 1_723_161_255_342_000, 10**16 - 1])
def test_microseconds_are_unchanged(number: int) -> None:
    """The valid range is 1973 to 2286."""
    assert checked_time(number) == number


@given(times_of_day)
def test_both_readers_agree_with_the_standard_library(moment: datetime) -> None:
    """`datetime` decides the value, over all its years."""
    text = moment.isoformat().replace("+00:00", "Z")
    micros = (moment - EPOCH) // MICROSECOND
    assert parse_time(text) == micros
    assert _read(text) == micros


@given(
    st.datetimes(min_value=FIRST, max_value=LAST),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_offsets_agree_with_the_standard_library(moment: datetime, minutes: int) -> None:
    """A local time minus its offset is UTC."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_time(aware.isoformat()) == (aware - EPOCH) // MICROSECOND


@given(times_of_day, st.integers(0, 40), st.sampled_from("0123456789-:.TZtz+ /"))
def test_the_compiled_reader_agrees_on_mutated_times(moment: datetime, place: int, character: str) -> None:
    """It may leave a text to the parser, but never returns another time, nor accepts an invalid one."""
    text = moment.isoformat().replace("+00:00", "Z")
    text = text[:place] + character + text[place + 1 :]
    micros = _read(text)
    assert micros is None or micros == parse_time(text)
