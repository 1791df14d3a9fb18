"""decimal(38, 18) as 128-bit integers scaled by 10**18; values are never converted to float."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PRECISION",
    "SCALE",
    "as_words",
    "clipped",
    "from_words",
    "parse_decimal",
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


def parse_decimal(text: str, power: int = 0) -> int:
    """Parse a decimal exactly; return its value times 10**18, and times 10**`power` if its unit is another one.

    The grammar is that of JSON numbers, with leading zeros allowed: no NaN, no infinity, no leading plus, no blanks.

    Raises:
        ValueError: the text is not a decimal, or decimal(38, 18) cannot hold it exactly; values are never rounded.

    >>> parse_decimal("-0.5e1") == parse_decimal("-5000", -3) == -5 * 10**18
    True
    """
    if _GRAMMAR.fullmatch(text) is None:
        raise ValueError(f"not a decimal: {clipped(text)}")
    try:
        number = _EXACT.create_decimal(text)
        value = _EXACT.quantize(number.scaleb(power, _EXACT) if power else number, _LAST_PLACE)
    except ArithmeticError:
        times = f" times 1e{power}" if power else ""
        raise ValueError(f"does not fit decimal({PRECISION}, {SCALE}): {clipped(text)}{times}") from None
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
