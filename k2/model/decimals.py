"""decimal(38, 18) as 128-bit integers scaled by 10**18; values are never converted to float."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled

__all__ = [
    "PRECISION",
    "SCALE",
    "as_words",
    "clipped",
    "from_words",
    "parse_decimal",
    "read_decimal",
    "scaled",
    "spell_decimal",
]

PRECISION: Final = 38
SCALE: Final = 18

_GRAMMAR: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_EXACT: Final = Context(prec=PRECISION, traps=[Inexact, InvalidOperation])
"""Raises instead of rounding, also for an exponent beyond its limits."""
_LAST_PLACE: Final = Decimal(1).scaleb(-SCALE)
_SHOWN_CHARACTERS_MAX: Final = 60
_LOW_WORD: Final = (1 << 64) - 1
_SIGN_WORD: Final = 1 << 63


def parse_decimal(text: str) -> int:
    """Parse a decimal exactly; return its value times 10**18.

    The grammar is that of JSON numbers, with leading zeros allowed: no NaN, no infinity, no leading plus, no blanks.

    Raises:
        ValueError: the text is not a decimal, or decimal(38, 18) cannot hold it exactly; values are never rounded.

    >>> parse_decimal("-0.5e1") == -5 * 10**18
    True
    """
    if _GRAMMAR.fullmatch(text) is None:
        raise ValueError(f"not a decimal: {clipped(text)}")
    try:
        value = _EXACT.quantize(_EXACT.create_decimal(text), _LAST_PLACE)
    except ArithmeticError:
        raise ValueError(f"does not fit decimal({PRECISION}, {SCALE}): {clipped(text)}") from None
    return int(value.scaleb(SCALE, _EXACT))


def clipped(value: object) -> str:
    """Return a value quoted for an error message, truncated if it is long."""
    text = str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "...")


def as_words(values: Sequence[int]) -> NDArray[np.uint64]:
    """Convert integers within 128 bits to uint64[n, 2], two's complement, low word first."""
    words = [(value & _LOW_WORD, (value >> 64) & _LOW_WORD) for value in values]
    return np.array(words, dtype=np.uint64).reshape(-1, 2)


def from_words(low: int, high: int) -> int:
    """Return the 128-bit integer of two words; the inverse of `as_words`.

    >>> [from_words(*as_words([value])[0].tolist()) for value in (-1, 0, 10**37)] == [-1, 0, 10**37]
    True
    """
    return low + ((high ^ _SIGN_WORD) - _SIGN_WORD) * (_LOW_WORD + 1)


def spell_decimal(value: int) -> str:
    """Format a decimal as its shortest plain text; `value` is the decimal times 10**18.

    >>> [spell_decimal(value) for value in (0, 10**20, -5 * 10**17, 1)]
    ['0', '100', '-0.5', '0.000000000000000001']
    """
    whole, fraction = divmod(abs(value), 10**SCALE)
    digits = f"{fraction:0{SCALE}}".rstrip("0")
    return f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"


_DIGITS_MAX: Final = np.uint64(18)
_POWERS: Final = 10 ** np.arange(SCALE + 1, dtype=np.uint64)
_ZERO, _ONE, _NINE, _TEN, _HALF, _LOW_HALF = (np.uint64(number) for number in (0, 1, 9, 10, 32, 0xFFFFFFFF))
_MINUS, _POINT = (int(character) for character in b"-.")
_DIGIT_0: Final = np.uint64(0x30)


@compiled
def scaled(mantissa: np.uint64, power: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return mantissa * 10**power as (low, high) words; both factors are at most 10**18, so the product fits."""
    factor = _POWERS[power]
    left_low, left_high = mantissa & _LOW_HALF, mantissa >> _HALF
    right_low, right_high = factor & _LOW_HALF, factor >> _HALF
    low = left_low * right_low
    middle = left_high * right_low + (low >> _HALF)
    carry = left_low * right_high + (middle & _LOW_HALF)
    high = left_high * right_high + (middle >> _HALF) + (carry >> _HALF)
    return (carry << _HALF) | (low & _LOW_HALF), high


@compiled
def read_decimal(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, np.uint64, np.uint64]:
    """Parse a plain decimal of at most 18 digits; return (whether it was accepted, low word, high word).

    `parse_decimal` may accept what this function rejects (an exponent, more digits). For accepted text both return the
    same value.
    """
    negative = start < end and data[start] == _MINUS
    first = start + _ONE if negative else start
    if end - first > _DIGITS_MAX + _ONE:
        return False, _ZERO, _ZERO
    mantissa, idx = _digits(data, first, end, _ZERO)
    digits, fraction = idx - first, _ZERO
    if digits > _ZERO and idx < end and data[idx] == _POINT:
        mantissa, after = _digits(data, idx + _ONE, end, mantissa)
        fraction = after - idx - _ONE
        digits, idx = digits + fraction, after if fraction > _ZERO else idx
    if idx != end or digits == _ZERO or digits > _DIGITS_MAX:
        return False, _ZERO, _ZERO
    low, high = scaled(mantissa, np.uint64(SCALE) - fraction)
    if negative and mantissa != _ZERO:
        return True, _ZERO if low == _ZERO else ~low + _ONE, ~high + _ONE if low == _ZERO else ~high
    return True, low, high


@compiled
def _digits(
    data: NDArray[np.uint8], idx: np.uint64, end: np.uint64, mantissa: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Append digits to a mantissa; return (mantissa, end of the digits)."""
    while idx < end:
        # XOR instead of a difference: other characters become greater than nine without wrapping around.
        digit = np.uint64(data[idx]) ^ _DIGIT_0
        if digit > _NINE:
            break
        mantissa = mantissa * _TEN + digit
        idx += _ONE
    return mantissa, idx
