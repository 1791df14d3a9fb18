"""Compiled readers of the fields of a table, from the ranges that the scanner found; each leaves what is not plain.

For a value that is read, the result is that of the reference decoder (`k2.venues.table_fields`).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, inlined
from k2.model.decimals_compiled import read_decimal, scaled
from k2.model.times_compiled import read_time
from k2.model.words_compiled import DIGITS_MAX, read_digits
from k2.venues.rows import EXCHANGE_SIZE, EXCHANGE_START, SYMBOL, SYMBOL_SIZE, SYMBOL_START
from k2.venues.scan import ABSENT, END, KIND, NULL, START, STRING, signed
from k2.venues.table_layout import (
    ABSENT_OR_NULL,
    ACCEPTS,
    AFFIXES,
    BY_MS_OR_US,
    BY_NANOSECONDS,
    BY_RFC_3339,
    BY_SIGN,
    CONDITION_WORDS,
    DIGITS,
    FRACTION,
    OPTIONAL,
    PATTERN,
    POWER,
    PRESENT,
    RULE,
    TEXTS,
    VALUES,
)

__all__ = [
    "accepts",
    "all_hold",
    "find_value",
    "is_absent",
    "read_name",
    "read_number",
    "read_price",
    "read_side",
    "read_when",
    "read_whole",
    "skipping_text",
    "write_symbol",
]

_ZERO, _ONE, _TWO, _THREE = (np.uint64(number) for number in range(4))
_NINE, _TEN, _DIGIT_0 = np.uint64(9), np.uint64(10), np.uint64(0x30)
_TENTH_OF_INT64: Final = (2**63 - 1) // 10
_MS_DIGITS, _US_DIGITS, _NS_DIGITS = np.uint64(13), np.uint64(16), np.uint64(19)
_EXPONENT_DIGITS_MAX: Final = np.uint64(2)
_SCALE: Final = 18
_MINUS, _PLUS, _POINT, _SMALL_E, _LARGE_E = (int(character) for character in b"-+.eE")
_POWERS: Final = 10 ** np.arange(7, dtype=np.int64)


@allocation_free
def is_absent(fields: NDArray[np.uint64], slot: np.uint64) -> bool:
    """Return whether a field is absent or null."""
    return bool(fields[slot, KIND] == ABSENT or fields[slot, KIND] == NULL)


@allocation_free
def accepts(fields: NDArray[np.uint64], slot: np.uint64, program: NDArray[np.uint64], spec: np.uint64) -> bool:
    """Return whether a field has a type that the table names."""
    return bool((program[spec + ACCEPTS] >> fields[slot, KIND]) & _ONE != _ZERO)


@allocation_free
def _has(
    data: NDArray[np.uint8], start: np.uint64, program: NDArray[np.uint64], text: np.uint64, size: np.uint64
) -> bool:
    for idx in range(size):
        if np.uint64(data[start + idx]) != program[text + idx]:
            return False
    return True


@allocation_free
def find_value(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], slot: np.uint64, program: NDArray[np.uint64], values: np.uint64
) -> np.uint64:
    """Return the result of the value of a field in a list of values; 0 if it is none of them."""
    kind, start = fields[slot, KIND], fields[slot, START]
    size, value = fields[slot, END] - start, values + _ONE
    for _ in range(program[values]):
        length, result = program[value + _TWO], np.uint64(program[value + _ONE])
        if program[value] == kind and length == size and _has(data, start, program, value + _THREE, size):
            return result
        value += _THREE + length
    return _ZERO


@allocation_free
def _between_affixes(
    data: NDArray[np.uint8], start: np.uint64, end: np.uint64, program: NDArray[np.uint64], affixes: np.uint64
) -> tuple[bool, np.uint64, np.uint64]:
    """Return (whether a text has both affixes, start and end of the text between them)."""
    before, after = program[affixes + _ONE], program[affixes + _TWO]
    if end - start < before + after + program[affixes]:
        return False, start, end
    text = affixes + _THREE
    fits = _has(data, start, program, text, before) and _has(data, end - after, program, text + before, after)
    return fits, start + before, end - after


@allocation_free
def all_hold(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], program: NDArray[np.uint64], conditions: np.uint64
) -> bool:
    """Return whether all conditions of a list hold."""
    condition = conditions + _ONE
    for _ in range(program[conditions]):
        slot, test, rule = program[condition], program[condition + _ONE], program[condition + _TWO]
        if test == PRESENT:
            holds = fields[slot, KIND] != ABSENT
        elif test == ABSENT_OR_NULL:
            holds = is_absent(fields, slot)
        elif test == AFFIXES:
            holds = fields[slot, KIND] == STRING
            holds = holds and _between_affixes(data, fields[slot, START], fields[slot, END], program, rule)[0]
        else:
            holds = find_value(data, fields, slot, program, rule) != _ZERO
        if not holds:
            return False
        condition += CONDITION_WORDS
    return True


@inlined
def skipping_text(data: NDArray[np.uint8], start: np.uint64, end: np.uint64, program: NDArray[np.uint64]) -> np.uint64:
    """Return the number of the reason why a whole message is skipped; 0 if it is not a text of the table."""
    texts: np.uint64 = program[TEXTS]
    text, size = texts + _ONE, end - start
    for _ in range(program[texts]):
        length = program[text + _ONE]
        if length == size and _has(data, start, program, text + _TWO, size):
            return np.uint64(program[text])
        text += _TWO + length
    return _ZERO


@allocation_free
def read_name(
    data: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    slot: np.uint64,
    program: NDArray[np.uint64],
    spec: np.uint64,
    bytes_max: int,
) -> tuple[bool, int, int]:
    """Return (whether a name or id was accepted, start, size) of its bytes."""
    if not accepts(fields, slot, program, spec):
        return False, 0, 0
    start, end = fields[slot, START], fields[slot, END]
    if program[spec + PATTERN] != _ZERO:
        fits, start, end = _between_affixes(data, start, end, program, program[spec + PATTERN])
        if not fits:
            return False, 0, 0
    size = signed(end) - signed(start)
    return bool(0 < size <= bytes_max), signed(start), size


@allocation_free
def _digits(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, Any]:
    """Parse 1 to 18 digits; return (whether it was accepted, value)."""
    is_valid, value = read_digits(data, start, end)
    return is_valid, signed(value)


@allocation_free
def read_number(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, int]:
    """Parse a whole number of 64 bits in the form that Python prints; return (whether it was accepted, value)."""
    negative = start < end and data[start] == _MINUS
    first = start + _ONE if negative else start
    if end - first > DIGITS_MAX + _ONE:
        return False, 0
    is_long = end - first > DIGITS_MAX
    is_valid, value = _digits(data, first, end - _ONE if is_long else end)
    if is_valid and is_long:
        last = np.uint64(data[end - _ONE]) ^ _DIGIT_0
        is_valid, value = bool(value < _TENTH_OF_INT64 and last <= _NINE), value * 10 + signed(last)
    if not is_valid or (np.uint64(data[first]) == _DIGIT_0 and (negative or end - first > _ONE)):
        return False, 0
    return True, -value if negative else value


@allocation_free
def read_whole(
    data: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    slot: np.uint64,
    program: NDArray[np.uint64],
    spec: np.uint64,
) -> tuple[bool, int, int, int]:
    """Read a whole number; return (whether it was accepted, start, size, value)."""
    if not accepts(fields, slot, program, spec):
        return False, 0, 0, 0
    start, end = fields[slot, START], fields[slot, END]
    if program[spec + PATTERN] != _ZERO:
        fits, start, end = _between_affixes(data, start, end, program, program[spec + PATTERN])
        if not fits:
            return False, 0, 0, 0
    is_valid, number = read_number(data, start, end)
    return is_valid, signed(start), signed(end) - signed(start), number


@inlined
def write_symbol(
    rows: NDArray[np.int64],
    row: int,
    symbol_id: int,
    exchange_start: int,
    exchange_size: int,
    start: int,
    size: int,
) -> None:
    """Write the symbol of a row, and where its names are if it has no id yet."""
    rows[row, SYMBOL] = symbol_id
    if symbol_id < 0:
        rows[row, EXCHANGE_START], rows[row, EXCHANGE_SIZE] = exchange_start, exchange_size
        rows[row, SYMBOL_START], rows[row, SYMBOL_SIZE] = start, size


@allocation_free
def read_price(
    data: NDArray[np.uint8], start: np.uint64, end: np.uint64, absolute: np.uint64, scale: int
) -> tuple[bool, np.uint64, np.uint64]:
    """Parse a decimal, without its sign unless `absolute` is 0, times 10**scale.

    Returns (whether accepted, low word, high word).
    """
    if absolute != _ZERO and start < end and data[start] == _MINUS:
        start += _ONE
        if start < end and data[start] == _MINUS:
            return False, _ZERO, _ZERO
    if scale == 0:
        is_valid, low, high = read_decimal(data, start, end)
        if is_valid:
            return is_valid, low, high
    mark = start
    while mark < end and data[mark] != _SMALL_E and data[mark] != _LARGE_E:
        mark += _ONE
    if mark == end and scale == 0:
        return False, _ZERO, _ZERO
    return _with_exponent(data, start, mark, end, scale)


@allocation_free
def _with_exponent(
    data: NDArray[np.uint8], start: np.uint64, mark: np.uint64, end: np.uint64, scale: int
) -> tuple[bool, np.uint64, np.uint64]:
    """Parse a positive decimal of at most 18 digits, times 10**scale; its exponent, if any, begins at `mark`."""
    point = start
    while point < mark and data[point] != _POINT:
        point += _ONE
    is_valid, mantissa = _digits(data, start, point)
    fraction = 0
    if point < mark:
        fraction = signed(mark) - signed(point) - 1
        has_fraction, digits = _digits(data, point + _ONE, mark)
        if not has_fraction or signed(mark) - signed(start) > _SCALE + 1:
            return False, _ZERO, _ZERO
        for _ in range(fraction):
            mantissa *= 10
        mantissa += digits
    first = mark + _ONE
    negative = first < end and data[first] == _MINUS
    if first < end and (negative or data[first] == _PLUS):
        first += _ONE
    has_exponent, exponent = _digits(data, first, end) if mark < end else (True, 0)
    if not is_valid or not has_exponent or (mark < end and end - first > _EXPONENT_DIGITS_MAX):
        return False, _ZERO, _ZERO
    power = _SCALE - fraction + scale + (-exponent if negative else exponent)
    if not 0 <= power <= _SCALE:
        return False, _ZERO, _ZERO
    low, high = scaled(np.uint64(mantissa), np.uint64(power))
    return True, low, high


@allocation_free
def read_side(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], slot: np.uint64, program: NDArray[np.uint64], spec: np.uint64
) -> tuple[bool, int]:
    """Return (whether a side was accepted, side)."""
    if program[spec + VALUES] == _ZERO or (program[spec + OPTIONAL] != _ZERO and is_absent(fields, slot)):
        return True, 0
    values = program[spec + VALUES]
    if program[spec + RULE] == BY_SIGN:
        start = fields[slot, START]
        if not accepts(fields, slot, program, spec):
            return False, 0
        if fields[slot, KIND] == STRING and not read_decimal(data, start, fields[slot, END])[0]:
            return False, 0
        is_negative = start < fields[slot, END] and data[start] == _MINUS
        return True, signed(program[values + _ONE if is_negative else values]) - 1
    side = find_value(data, fields, slot, program, values)
    return bool(side != _ZERO), signed(side) - 1


@allocation_free
def read_when(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], slot: np.uint64, program: NDArray[np.uint64], spec: np.uint64
) -> tuple[bool, int]:
    """Return (whether a time was accepted, microseconds since the epoch)."""
    if not accepts(fields, slot, program, spec):
        return False, 0
    start, end, rule = fields[slot, START], fields[slot, END], program[spec + RULE]
    if rule == BY_RFC_3339:
        return read_time(data, signed(start), signed(end))
    point = start if program[spec + FRACTION] != _ZERO else end
    while point < end and data[point] != _POINT:
        point += _ONE
    digits = point - start
    if point < end and not _digits(data, point + _ONE, end)[0]:
        return False, 0
    power = signed(program[spec + POWER])
    if rule == BY_MS_OR_US:
        power = 3 if digits == _MS_DIGITS else 0
        is_right = digits in (_MS_DIGITS, _US_DIGITS)
    elif rule == BY_NANOSECONDS:
        return _read_nanoseconds(data, start, point)
    else:
        is_right = digits == program[spec + DIGITS]
    is_valid, value = _digits(data, start, point)
    if not is_right or not is_valid or np.uint64(data[start]) == _DIGIT_0:
        return False, 0
    return True, value * _POWERS[power] + _fraction(data, point + _ONE, end, power)


@allocation_free
def _fraction(data: NDArray[np.uint8], start: np.uint64, end: np.uint64, digits: int) -> int:
    """Return the first digits after a point as a whole number; 0 if there is no fraction."""
    value: Any = 0
    for _ in range(digits):
        value *= 10
        if start < end:
            value += signed(np.uint64(data[start]) ^ _DIGIT_0)
        start += _ONE
    return int(value)


@allocation_free
def _read_nanoseconds(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, int]:
    """Return (whether 19 digits within 63 bits were accepted, microseconds)."""
    if end - start != _NS_DIGITS:
        return False, 0
    is_valid, value = _digits(data, start, end - _THREE)
    first = np.uint64(data[start]) ^ _DIGIT_0
    return bool(is_valid and _digits(data, end - _THREE, end)[0] and _ZERO < first < _NINE), value
