"""The content of a trade as a fingerprint: price, quantity, side, and the trade id where the message names one.

A time is no content: the same trade is sent with its time cut to milliseconds, rounded, or replaced by the time of
sending. A trade id that only repeats the sequence number names nothing.

A fingerprint has 48 bits and is made under a key of this process's own, so nobody can make two contents with the same
one. By chance a trade with the number of a stored one and other content passes for its copy once in 2^48: at a
hundred million such comparisons a day, once in 7,700 years.
"""

import secrets
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled

__all__ = ["CONTENT_KEY", "NON_MARKET", "UNKNOWN", "ContentColumns", "content_at", "content_of", "contents", "id_word"]

UNKNOWN: Final = 0
"""Stands for content that nobody knows (any longer)."""
NON_MARKET: Final = 1
"""The content of what consumes a sequence number and is no market trade."""
CONTENT_KEY: Final = np.uint64(secrets.randbits(64))
"""This process's. It is never stored: no fingerprint leaves the process."""

_BITS: Final = np.uint64((1 << 48) - 1)
_HALF: Final = np.uint64(32)
_SHIFT: Final = np.uint64(29)
_FACTOR: Final = np.uint64(0xBF58476D1CE4E5B9)
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_EIGHT: Final = np.uint64(8)
_ONE: Final = np.uint64(1)
_TEN: Final = np.uint64(10)
_MINUS: Final = 45
_DIGIT_0: Final = 48


class ContentColumns(NamedTuple):
    """The columns of n trades that make their content."""

    sequences: NDArray[np.int64]
    """int64[n]; 0 where a trade has none."""
    prices: NDArray[np.uint64]
    """uint64[n, 2]: decimal(38, 18), low word first."""
    quantities: NDArray[np.uint64]
    """uint64[n, 2], likewise."""
    sides: NDArray[np.int8]
    """int8[n]"""
    text: NDArray[np.uint8]
    """uint8[bytes]: where the ids lie."""
    id_starts: NDArray[np.int64]
    """int64[n], into `text`."""
    id_sizes: NDArray[np.int32]
    """int32[n], bytes; -1 where a trade has no id."""


@compiled
def _mixed(state: np.uint64, word: np.uint64) -> np.uint64:
    """Take a word into a state: one round of SplitMix64, whose every output bit depends on every input bit."""
    state = (state ^ word) + _STEP
    state = (state ^ (state >> _SHIFT)) * _FACTOR
    return state ^ (state >> _HALF)


@compiled
def _is_decimal_of(sequence: int, text: NDArray[np.uint8], start: int, size: int) -> bool:
    """Return whether an id is the decimal form of a number."""
    # Two's complement: also right for the least of 64 bits.
    rest = np.uint64(np.int64(sequence))
    if sequence < 0:
        if size < 2 or text[start] != _MINUS:
            return False
        rest = np.uint64(0) - rest
        start, size = start + 1, size - 1
    for place in range(start + size - 1, start - 1, -1):
        if text[place] != np.uint64(_DIGIT_0) + rest % _TEN:
            return False
        rest //= _TEN
        if rest == 0:
            return bool(place == start)
    return False


@compiled
def id_word(sequence: int, text: NDArray[np.uint8], start: int, size: int, key: np.uint64) -> np.uint64:
    """Return 0 for an id that is absent or repeats the number, else an odd hash of its bytes."""
    if size < 0 or _is_decimal_of(sequence, text, start, size):
        return np.uint64(0)
    state = _mixed(key, np.uint64(size))
    word = np.uint64(0)
    for place in range(size):
        word = (word << _EIGHT) | np.uint64(text[start + place])
        if place % 8 == 7:
            state = _mixed(state, word)
            word = np.uint64(0)
    return _mixed(state, word) | _ONE


@compiled
def content_of(
    named: np.uint64,
    side: int,
    price_low: np.uint64,
    price_high: np.uint64,
    quantity_low: np.uint64,
    quantity_high: np.uint64,
    key: np.uint64,
) -> int:
    """Return the fingerprint of one trade's content: 48 bits, neither `UNKNOWN` nor `NON_MARKET`.

    `named` is of `id_word`. It takes numbers and no arrays: a tuple of arrays is counted in and out at each call, which
    costs more than the hash.
    """
    state = _mixed(key, np.uint64(side) ^ (named << _EIGHT))
    state = _mixed(_mixed(state, price_low), price_high)
    state = _mixed(_mixed(state, quantity_low), quantity_high)
    found = np.int64(state & _BITS)
    return int(found) if found > NON_MARKET else int(found + 2)


@compiled
def content_at(columns: ContentColumns, row: int, key: np.uint64) -> int:
    """Return the fingerprint of one trade's content."""
    sequences, prices, quantities, sides, text, id_starts, id_sizes = columns
    named = id_word(sequences[row], text, id_starts[row], id_sizes[row], key)
    return content_of(named, sides[row], prices[row, 0], prices[row, 1], quantities[row, 0], quantities[row, 1], key)


@compiled
def _write_contents(columns: ContentColumns, key: np.uint64, into: NDArray[np.int64]) -> None:
    for row in range(len(into)):
        into[row] = content_at(columns, row, key)


def contents(columns: ContentColumns) -> NDArray[np.int64]:
    """Return int64[n], the fingerprint of each of n trades."""
    found = np.empty(len(columns.sides), dtype=np.int64)
    _write_contents(columns, CONTENT_KEY, found)
    return found
