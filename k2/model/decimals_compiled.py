"""The compiled parser of plain decimals; `k2.model.decimals` is the specification."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free
from k2.model.decimals import SCALE
from k2.model.words_compiled import DIGITS_MAX, read_digits

__all__ = ["read_decimal", "scaled"]

_POWERS: Final = 10 ** np.arange(SCALE + 1, dtype=np.uint64)
_ZERO, _ONE, _HALF, _LOW_HALF = (np.uint64(number) for number in (0, 1, 32, 0xFFFFFFFF))
_MINUS, _POINT = (int(character) for character in b"-.")


@allocation_free
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


@allocation_free
def read_decimal(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, np.uint64, np.uint64]:
    """Parse a plain decimal of at most 18 digits; return (whether it was accepted, low word, high word).

    `parse_decimal` may accept what this function rejects (an exponent, more digits). For accepted text both return the
    same value.
    """
    negative = start < end and data[start] == _MINUS
    first = start + _ONE if negative else start
    point = first
    while point < end and data[point] != _POINT:
        point += _ONE
    is_valid, mantissa = read_digits(data, first, point)
    fraction = _ZERO
    if point < end:
        fraction = end - point - _ONE
        has_fraction, digits = read_digits(data, point + _ONE, end)
        if not has_fraction or end - first > DIGITS_MAX + _ONE:
            return False, _ZERO, _ZERO
        mantissa = mantissa * _POWERS[fraction] + digits
    if not is_valid:
        return False, _ZERO, _ZERO
    low, high = scaled(mantissa, np.uint64(SCALE) - fraction)
    if negative and mantissa != _ZERO:
        return True, _ZERO if low == _ZERO else ~low + _ONE, ~high + _ONE if low == _ZERO else ~high
    return True, low, high
