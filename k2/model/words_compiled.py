"""Compiled reading of text eight bytes at a time: digits to numbers, comparison, and copies."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, compiled, inlined

__all__ = [
    "DIGITS_MAX",
    "HIGH_BITS",
    "ONES",
    "compact",
    "copy_bytes",
    "equal_bytes",
    "first_bytes",
    "first_flagged",
    "read_digits",
    "word_at",
]

DIGITS_MAX: Final = np.uint64(18)
"""Digits of the longest number that is read: those of any fit 64 bits, with the sign."""
_ZERO, _ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX, _SEVEN, _EIGHT = (np.uint64(number) for number in range(9))
_NINE, _TEN, _BITS = np.uint64(9), np.uint64(10), np.uint64(64)
_BYTE_2, _BYTE_3, _BYTE_4, _BYTE_5, _BYTE_6, _BYTE_7, _BYTE_8 = (np.uint64(8 * number) for number in range(1, 8))
_WORDS_BYTES: Final = np.uint64(24)
"""Bytes of the words that the longest number is in."""
_DIGIT_0: Final = np.uint64(0x30)
ONES, HIGH_BITS, _DIGITS_0, _BEYOND_9 = (np.uint64(byte * 0x0101010101010101) for byte in (0x01, 0x80, 0x30, 0x76))
_HUNDRED_MILLION: Final = np.uint64(10**8)
_PAIRS: Final = np.uint64(0x000000FF000000FF)
_LOW_PAIRS, _HIGH_PAIRS = np.uint64(100 + (1_000_000 << 32)), np.uint64(1 + (10_000 << 32))


@inlined
def word_at(data: NDArray[np.uint8], idx: np.uint64) -> np.uint64:
    """Return eight bytes as a word, the first in its lowest bits. The compiler makes one load of it."""
    return (
        np.uint64(data[idx])
        | (np.uint64(data[idx + _ONE]) << _BYTE_2)
        | (np.uint64(data[idx + _TWO]) << _BYTE_3)
        | (np.uint64(data[idx + _THREE]) << _BYTE_4)
        | (np.uint64(data[idx + _FOUR]) << _BYTE_5)
        | (np.uint64(data[idx + _FIVE]) << _BYTE_6)
        | (np.uint64(data[idx + _SIX]) << _BYTE_7)
        | (np.uint64(data[idx + _SEVEN]) << _BYTE_8)
    )


@inlined
def first_flagged(flags: np.uint64) -> np.uint64:
    """Return the index of the first byte, from the lowest, of which the highest bit is set; there must be one.

    No other bits may be set. The bytes up to that one are counted by their lowest bits.
    """
    return ((((flags - _ONE) & ~flags & ONES) * ONES) >> _BYTE_8) - _ONE


@inlined
def _value(digits: np.uint64) -> np.uint64:
    """Return the value of eight digits, 0 to 9 each, the first in the lowest bits: first of pairs, then of all four."""
    pairs = digits * _TEN + (digits >> _BYTE_2)
    return ((pairs & _PAIRS) * _LOW_PAIRS + ((pairs >> _BYTE_3) & _PAIRS) * _HIGH_PAIRS) >> _BYTE_5


@inlined
def read_digits(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, np.uint64]:
    """Parse 1 to 18 digits; return (whether it was accepted, value)."""
    count = end - start
    if start >= end or count > DIGITS_MAX:
        return False, _ZERO
    if end < _WORDS_BYTES:
        return _read_first_digits(data, start, end)
    # From the last digit: the bytes before the first are cut off, as leading zeros are.
    value, scale, others = _ZERO, _ONE, _ZERO
    while True:
        end -= _EIGHT
        digits = word_at(data, end) ^ _DIGITS_0
        if count <= _EIGHT:
            cut = _BITS - (count << _THREE)
            digits = (digits >> cut) << cut
            others |= (digits + _BEYOND_9) | digits
            return bool(others & HIGH_BITS == _ZERO), value + _value(digits) * scale
        others |= (digits + _BEYOND_9) | digits
        value += _value(digits) * scale
        scale *= _HUNDRED_MILLION
        count -= _EIGHT


@allocation_free
def _read_first_digits(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, np.uint64]:
    """Parse digits one by one: those at the beginning of an array, where a word would begin before it."""
    value = _ZERO
    for idx in range(start, end):
        digit = np.uint64(data[idx]) ^ _DIGIT_0
        if digit > _NINE:
            return False, _ZERO
        value = value * _TEN + digit
    return True, value


@inlined
def equal_bytes(
    left: NDArray[np.uint8], left_start: np.uint64, right: NDArray[np.uint8], right_start: np.uint64, size: np.uint64
) -> bool:
    """Return whether two ranges of `size` bytes are equal."""
    idx = _ZERO
    while idx + _EIGHT <= size:
        if word_at(left, left_start + idx) != word_at(right, right_start + idx):
            return False
        idx += _EIGHT
    if size >= _EIGHT:
        # The last word may begin within the one before it.
        last = size - _EIGHT
        return bool(word_at(left, left_start + last) == word_at(right, right_start + last))
    while idx < size:
        if left[left_start + idx] != right[right_start + idx]:
            return False
        idx += _ONE
    return True


@inlined
def first_bytes(data: NDArray[np.uint8], start: np.uint64, count: np.uint64) -> np.uint64:
    """Return `count` bytes, 0 to 7, as a word, the first in its lowest bits; the others are 0."""
    if start + _EIGHT <= np.uint64(len(data)):
        return word_at(data, start) & ((_ONE << (count << _THREE)) - _ONE)
    word = _ZERO
    for idx in range(count):
        word |= np.uint64(data[start + idx]) << (idx << _THREE)
    return word


@inlined
def copy_bytes(
    source: NDArray[np.uint8], start: np.uint64, target: NDArray[np.uint8], to: np.uint64, size: np.uint64
) -> None:
    """Copy `size` bytes. Up to seven bytes of the target after them are undefined, so copies are made in its order."""
    end = start + size
    while start < end:
        if start + _EIGHT > np.uint64(len(source)) or to + _EIGHT > np.uint64(len(target)):
            target[to] = source[start]
            start, to = start + _ONE, to + _ONE
            continue
        word = word_at(source, start)
        target[to] = word
        target[to + _ONE] = word >> _BYTE_2
        target[to + _TWO] = word >> _BYTE_3
        target[to + _THREE] = word >> _BYTE_4
        target[to + _FOUR] = word >> _BYTE_5
        target[to + _FIVE] = word >> _BYTE_6
        target[to + _SIX] = word >> _BYTE_7
        target[to + _SEVEN] = word >> _BYTE_8
        start, to = start + _EIGHT, to + _EIGHT


def compact(
    data: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Copy byte ranges into one buffer, one after the other; return it and the new start of each range.

    `starts` and `sizes` are [n], in bytes; a size of -1 is that of nothing, and takes no bytes.
    """
    lengths = np.maximum(sizes, 0).astype(np.int64)
    new_starts = np.cumsum(lengths) - lengths
    copied = np.empty(int(lengths.sum()), dtype=np.uint8)
    if len(copied):
        _copy_ranges(data, starts, lengths, copied)
    return copied, new_starts


@compiled
def _copy_ranges(
    source: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64], target: NDArray[np.uint8]
) -> None:
    """Copy byte ranges one after the other to a target that has just their size."""
    end = _ZERO
    for idx in range(len(starts)):
        size = np.uint64(sizes[idx])
        copy_bytes(source, np.uint64(starts[idx]), target, end, size)
        end += size
