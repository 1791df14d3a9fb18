"""Decimals: exact, or rejected."""

from decimal import Context, Decimal
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.decimals import PRECISION, SCALE, as_words, clipped, parse_decimal
from k2.model.decimals_compiled import read_decimal, scaled

FITS: Final = [
    ("0", 0),
    ("-0", 0),
    ("-0.000", 0),
    ("0e999999999", 0),
    ("007.50", 7_500_000_000_000_000_000),
    ("-37.63", -37_630_000_000_000_000_000),
    ("0.000000000000000001", 1),
    ("1e-18", 1),
    ("10e-19", 1),
    ("1e-000000000018", 1),
    ("1e+0000000000003", 1000 * 10**18),
    ("1.5E+3", 1500 * 10**18),
    ("99999999999999999999.999999999999999999", 10**38 - 1),
    ("-99999999999999999999.999999999999999999", 1 - 10**38),
    ("0." + "0" * 40 + "5e41", 5 * 10**18),
    ("1" + "0" * 500 + "e-500", 10**18),
]
TOO_MUCH: Final = [
    "1e-19",
    "0.0000000000000000001",
    "1e20",
    "100000000000000000000",
    "99999999999999999999.9999999999999999999",
    "1e999999999",
    "-1e-999999999",
    "1e" + "9" * 5000,
    "1e-" + "9" * 5000,
]
NO_DECIMALS: Final = [
    "",
    "-",
    "abc",
    "NaN",
    "Infinity",
    "+1",
    " 1",
    "1 ",
    "1_000",
    ".5",
    "5.",
    "1e",
    "1e+",
    "--1",
    "1.2.3",
    "0x10",
    "\u0661",
    "1\n",
]

plain = st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True)
anything = st.one_of(plain, st.text("-+.eE0123456789", max_size=24), st.text(max_size=12))


def _read(text: str) -> int | None:
    """Read with the compiled rule, from a position within other bytes."""
    data = np.frombuffer(bytearray(b"9" + text.encode() + b"9"), dtype=np.uint8)
    plain, low, high = read_decimal(data, np.uint64(1), np.uint64(len(data) - 1))
    return _value(int(low), int(high)) if plain else None


def _value(low: int, high: int) -> int:
    value = (high << 64) | low
    return value - (1 << 128) if high >> 63 else value


@pytest.mark.parametrize(("text", "value"), FITS)
def test_a_decimal_that_fits_is_exact(text: str, value: int) -> None:
    """What decimal(38, 18) can represent is returned times 10**18."""
    assert parse_decimal(text) == value


@pytest.mark.parametrize("text", TOO_MUCH)
def test_a_decimal_that_does_not_fit_is_rejected(text: str) -> None:
    """Nothing is rounded, and a hostile exponent gives a short error."""
    with pytest.raises(ValueError, match=r"does not fit decimal\(38, 18\): '") as error:
        parse_decimal(text)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("text", NO_DECIMALS)
def test_an_invalid_decimal_is_rejected(text: str) -> None:
    """The grammar is JSON's for numbers, with leading zeros allowed."""
    with pytest.raises(ValueError, match="not a decimal: "):
        parse_decimal(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("it's", '"it\'s"'),
        (5, "'5'"),
        (ValueError("odd"), "'odd'"),
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, repr("x" * 60 + "...")),
    ],
)
def test_a_value_in_an_error_is_short_and_quoted(value: object, shown: str) -> None:
    """At most sixty characters of it are shown."""
    assert clipped(value) == shown


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_parsed_decimal_equals_the_standard_librarys(number: Decimal) -> None:
    """`Decimal` decides the value, and whether it fits."""
    text = str(number)
    try:
        value = parse_decimal(text)
    except ValueError:
        digits = number.normalize(Context(prec=1_000)).as_tuple()
        assert isinstance(digits.exponent, int)
        assert digits.exponent < -SCALE or len(digits.digits) + digits.exponent > PRECISION - SCALE
    else:
        assert Decimal(value).scaleb(-SCALE).compare_total(number) in (-1, 0, 1)
        assert Decimal(f"{value}e-{SCALE}") == number


@given(anything)
def test_the_compiled_rule_agrees_on_each_text_it_accepts(text: str) -> None:
    """It may leave a text to the parser, but never returns another value."""
    value = _read(text)
    assert value is None or value == parse_decimal(text)


@given(plain)
def test_the_compiled_rule_accepts_plain_decimals(text: str) -> None:
    """It handles up to 18 digits without an exponent."""
    digits = sum(character.isdigit() for character in text)
    assert (_read(text) is not None) == (digits <= 18)


@pytest.mark.parametrize("text", ["", "-", ".", "-.", ".5", "5.", "1..2", "1.2.3", "1-", "/", ":", "1/", "1" * 19])
def test_the_compiled_rule_rejects_what_is_not_plain(text: str) -> None:
    """ASCII characters next to the digits, and lone signs or points, are not digits."""
    assert _read(text) is None


@given(st.integers(0, 10**18 - 1), st.integers(0, 18))
def test_a_scaled_mantissa_is_the_product(mantissa: int, power: int) -> None:
    """Two words contain the exact product of two words."""
    low, high = scaled(np.uint64(mantissa), np.uint64(power))
    assert (int(high) << 64) | int(low) == mantissa * 10**power


@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1)))
def test_words_encode_the_value(values: list[int]) -> None:
    """Two's complement over 128 bits, low word first."""
    words = as_words(values)
    assert words.shape == (len(values), 2)
    assert [_value(int(low), int(high)) for low, high in words] == values
