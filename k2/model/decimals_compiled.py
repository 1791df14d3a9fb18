"""The compiled parser of plain decimals; `k2.model.decimals` is the specification."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free
from k2.model.decimals import SCALE

__all__ = ["read_decimal", "scaled"]

_DIGITS_MAX: Final = np.uint64(18)
_POWERS: Final = 10 ** np.arange(SCALE + 1, dtype=np.uint64)
_ZERO, _ONE, _NINE, _TEN, _HALF, _LOW_HALF = (np.uint64(number) for number in (0, 1, 9, 10, 32, 0xFFFFFFFF))
_MINUS, _POINT = (int(character) for character in b"-.")
_DIGIT_0: Final = np.uint64(0x30)


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


@allocation_free
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
