"""Content fingerprints: price, quantity, side, and the trade id if the message names one.

Times are not content, because feeds resend the same trade with its time truncated to milliseconds, rounded, or replaced
by the send time. A trade id that only repeats the sequence number is not content either.

A fingerprint has 48 bits and is keyed with a secret of this process, so that nobody can craft two contents with the
same fingerprint. A trade with the sequence number of a stored trade and other content is taken for a copy by chance
once in 2^48 comparisons: at a hundred million such comparisons a day, once in 7,700 years.
"""

import secrets
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.words_compiled import first_bytes, word_at

__all__ = [
    "CONTENT_KEY",
    "COVERED",
    "NON_MARKET_CONTENT",
    "UNKNOWN",
    "ContentColumns",
    "fingerprint_at",
    "fingerprint_of",
    "fingerprints",
    "id_word",
]

UNKNOWN: Final = 0
"""Content that is not known, or not known any longer."""
NON_MARKET_CONTENT: Final = 1
"""Content of a non-market trade, which only consumes a sequence number."""
COVERED: Final = 2
"""Content of a number that belongs to the range of a trade with a higher number."""
CONTENT_KEY: Final = np.uint64(secrets.randbits(64))
"""Key of this process. It is never stored, and no fingerprint leaves the process."""

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
    """The columns that the content of n trades is computed from."""

    sequences: NDArray[np.int64]
    """int64[n]; 0 if a trade has none."""
    prices: NDArray[np.uint64]
    """uint64[n, 2]: decimal(38, 18), low word first."""
    quantities: NDArray[np.uint64]
    """uint64[n, 2]: decimal(38, 18), low word first."""
    sides: NDArray[np.int8]
    """int8[n]"""
    text: NDArray[np.uint8]
    """uint8[bytes]: buffer that contains the trade ids."""
    id_starts: NDArray[np.int64]
    """int64[n], into `text`."""
    id_sizes: NDArray[np.int32]
    """int32[n], bytes; -1 if a trade has no id."""


@compiled
def _mix(state: np.uint64, word: np.uint64) -> np.uint64:
    """Mix a word into a state: one round of SplitMix64, in which every output bit depends on every input bit."""
    state = (state ^ word) + _STEP
    state = (state ^ (state >> _SHIFT)) * _FACTOR
    return state ^ (state >> _HALF)


@compiled
def _is_decimal_of(sequence: int, text: NDArray[np.uint8], start: int, size: int) -> bool:
    """Return whether an id is the decimal form of a sequence number."""
    # Two's complement: also correct for the least int64.
    rest = np.uint64(np.int64(sequence))
    if sequence < 0:
        if size < 2 or text[start] != _MINUS:
            return False
        rest = np.uint64(0) - rest
        start, size = start + 1, size - 1
    for idx in range(start + size - 1, start - 1, -1):
        if text[idx] != np.uint64(_DIGIT_0) + rest % _TEN:
            return False
        rest //= _TEN
        if rest == 0:
            return bool(idx == start)
    return False


@compiled
def id_word(sequence: int, text: NDArray[np.uint8], start: int, size: int, key: np.uint64) -> np.uint64:
    """Return 0 if the id is absent or repeats the sequence number, else an odd hash of its bytes."""
    if size < 0 or _is_decimal_of(sequence, text, start, size):
        return np.uint64(0)
    state = _mix(key, np.uint64(size))
    position, rest = np.uint64(start), np.uint64(size)
    while rest >= _EIGHT:
        state = _mix(state, word_at(text, position))
        position, rest = position + _EIGHT, rest - _EIGHT
    return _mix(state, first_bytes(text, position, rest)) | _ONE


@compiled
def fingerprint_of(
    id_hash: np.uint64,
    side: int,
    price_low: np.uint64,
    price_high: np.uint64,
    quantity_low: np.uint64,
    quantity_high: np.uint64,
    key: np.uint64,
) -> int:
    """Return the content fingerprint of one trade: 48 bits, none of `UNKNOWN`, `NON_MARKET_CONTENT` and `COVERED`.

    `id_hash` is the result of `id_word`. The arguments are scalars, because numba counts the references of a tuple of
    arrays at each call, which costs more than the hash.
    """
    state = _mix(key, np.uint64(side) ^ (id_hash << _EIGHT))
    state = _mix(_mix(state, price_low), price_high)
    state = _mix(_mix(state, quantity_low), quantity_high)
    found = np.int64(state & _BITS)
    return int(found) if found > COVERED else int(found + 3)


@compiled
def fingerprint_at(columns: ContentColumns, row: int, key: np.uint64) -> int:
    """Return the content fingerprint of one row."""
    sequences, prices, quantities, sides, text, id_starts, id_sizes = columns
    id_hash = id_word(sequences[row], text, id_starts[row], id_sizes[row], key)
    return fingerprint_of(
        id_hash, sides[row], prices[row, 0], prices[row, 1], quantities[row, 0], quantities[row, 1], key
    )


@compiled
def _write_fingerprints(columns: ContentColumns, key: np.uint64, out: NDArray[np.int64]) -> None:
    for row in range(len(out)):
        out[row] = fingerprint_at(columns, row, key)


def fingerprints(columns: ContentColumns) -> NDArray[np.int64]:
    """Return int64[n], the content fingerprint of each of n trades."""
    found = np.empty(len(columns.sides), dtype=np.int64)
    _write_fingerprints(columns, CONTENT_KEY, found)
    return found
