"""The compiled loops over the newest trades of each symbol."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trades.compiled import compiled

__all__ = ["RECENT", "Ring", "content", "contents", "recall", "remember", "remember_all"]

RECENT: Final = 256
"""How many trades of a symbol are kept; a power of two."""


class Ring(NamedTuple):
    """The newest trades of each symbol, a row a symbol, each written round and round."""

    numbers: NDArray[np.int64]
    """int64[slots, 256]"""
    marks: NDArray[np.uint64]
    """uint64[slots, 256]: session in the upper half, content in the lower."""
    counts: NDArray[np.int64]
    """int64[slots]: how many trades were ever kept."""


_MASK: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_SHIFT: Final = np.uint64(29)
_FACTOR: Final = np.uint64(0xBF58476D1CE4E5B9)
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


@compiled
def _mixed(state: np.uint64, word: np.uint64) -> np.uint64:
    """Take a word into a state: one round of SplitMix64, whose every output bit depends on every input bit."""
    state = (state ^ word) + _STEP
    state = (state ^ (state >> _SHIFT)) * _FACTOR
    return state ^ (state >> _HALF)


@compiled
def content(price: NDArray[np.uint64], quantity: NDArray[np.uint64], side: int, timestamp: int) -> int:
    """Give 32 bits of a trade's content, the same in every process: price and quantity are uint64[2]."""
    state = _mixed(np.uint64(side), np.int64(timestamp).view(np.uint64))
    state = _mixed(_mixed(state, price[0]), price[1])
    state = _mixed(_mixed(state, quantity[0]), quantity[1])
    return int(state & _MASK)


@compiled
def contents(
    prices: NDArray[np.uint64],
    quantities: NDArray[np.uint64],
    sides: NDArray[np.int8],
    timestamps: NDArray[np.int64],
    into: NDArray[np.int64],
) -> None:
    """Write the content of n trades: uint64[n, 2] twice, int8[n], int64[n]; into int64[n]."""
    for row in range(len(timestamps)):
        into[row] = content(prices[row], quantities[row], sides[row], timestamps[row])


@compiled
def _mark(session: int, content: int) -> np.uint64:
    return np.uint64((np.uint64(session) << _HALF) | np.uint64(content))


@compiled
def remember(
    ring: Ring,
    slot: int,
    session: int,
    sequence: int,
    content: int,
) -> None:
    """Keep a stored trade in a slot's row, in the place of the oldest where the row is full."""
    place = ring.counts[slot] & (RECENT - 1)
    ring.numbers[slot, place] = sequence
    ring.marks[slot, place] = _mark(session, content)
    ring.counts[slot] += 1


@compiled
def remember_all(
    ring: Ring,
    slots: NDArray[np.int64],
    sessions: NDArray[np.int64],
    sequences: NDArray[np.int64],
    contents: NDArray[np.int64],
) -> None:
    """Keep n stored trades, int64[n] each, the oldest first."""
    for row in range(len(slots)):
        remember(ring, slots[row], sessions[row], sequences[row], contents[row])


@compiled
def recall(
    ring: Ring,
    slot: int,
    session: int,
    sequence: int,
    content: int,
) -> bool:
    """Tell whether a slot's row holds that number of that session with other content; the newest are tried first."""
    wanted = _mark(session, content)
    for back in range(1, min(ring.counts[slot], RECENT) + 1):
        place = (ring.counts[slot] - back) & (RECENT - 1)
        if ring.numbers[slot, place] == sequence and (ring.marks[slot, place] ^ wanted) >> _HALF == 0:
            return bool(ring.marks[slot, place] != wanted)
    return False
