"""Symbol ids: integers for (exchange, symbol) pairs, so that compiled loops compare integers instead of text.

Symbol ids are valid only together with the registry that assigned them: data that leaves the process contains names.
"""

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, compiled, inlined
from k2.model.key_groups import group_of
from k2.model.symbol_names import SymbolNames, SymbolTable
from k2.model.words_compiled import equal_bytes, word_at

__all__ = ["BEGIN", "Symbols", "as_bytes", "lookup"]

_ZERO, _EIGHT, _HALF = (np.uint64(number) for number in (0, 8, 32))
BEGIN: Final[Any] = np.int64(0)
"""Start of a text for `lookup`; the literal 0 is another type, for which it would be compiled again."""
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio."""


def as_bytes(text: str) -> NDArray[np.uint8]:
    """Encode text as uint8[bytes] of UTF-8, for compiled loops; it can be written, as all arrays that loops take."""
    return np.frombuffer(bytearray(text.encode()), dtype=np.uint8)


@allocation_free
def _first_slot(
    slot_count: int,
    exchange: NDArray[np.uint8],
    exchange_start: int,
    exchange_size: int,
    symbol: NDArray[np.uint8],
    symbol_start: int,
    symbol_size: int,
) -> np.uint64:
    """Return the first slot to probe for a pair."""
    value = _mixed(np.uint64(exchange_size), exchange, np.uint64(exchange_start), np.uint64(exchange_size))
    value = _mixed(value, symbol, np.uint64(symbol_start), np.uint64(symbol_size))
    return value & np.uint64(slot_count - 1)


@inlined
def _mixed(value: np.uint64, text: NDArray[np.uint8], start: np.uint64, size: np.uint64) -> np.uint64:
    """Mix a text into a hash, eight bytes at a time; the last word begins within the one before it."""
    if size < _EIGHT:
        word = _ZERO
        for idx in range(size):
            word = (word << _EIGHT) | np.uint64(text[start + idx])
        return _step(value, word)
    position, last = start, start + size - _EIGHT
    while position < last:
        value = _step(value, word_at(text, position))
        position += _EIGHT
    return _step(value, word_at(text, last))


@inlined
def _step(value: np.uint64, word: np.uint64) -> np.uint64:
    product = (value ^ word) * _FACTOR
    return product ^ (product >> _HALF)


@allocation_free
def lookup(
    table: SymbolTable,
    exchange: NDArray[np.uint8],
    exchange_start: int,
    exchange_size: int,
    symbol: NDArray[np.uint8],
    symbol_start: int,
    symbol_size: int,
) -> int:
    """Return the symbol id of a pair named by two byte ranges; -1 if it has none yet."""
    slots, starts, exchange_sizes, symbol_sizes, names = table
    mask = np.uint64(len(slots) - 1)
    slot = _first_slot(len(slots), exchange, exchange_start, exchange_size, symbol, symbol_start, symbol_size)
    while True:
        symbol_id = slots[slot]
        if symbol_id < 0:
            return -1
        if exchange_sizes[symbol_id] == exchange_size and symbol_sizes[symbol_id] == symbol_size:
            start, size = np.uint64(starts[symbol_id]), np.uint64(exchange_size)
            if equal_bytes(
                names, start + size, symbol, np.uint64(symbol_start), np.uint64(symbol_size)
            ) and equal_bytes(names, start, exchange, np.uint64(exchange_start), size):
                return int(symbol_id)
        slot = (slot + np.uint64(1)) & mask


class Symbols:
    """Registry of (exchange, symbol) pairs; thread-safe.

    The job has one per process, which all its workers share: the ids of a batch then need no conversion from one step
    to the next. Results do not depend on that, because each step first converts ids of another registry (`ids_of`).
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], int] = {}
        self._names: list[tuple[str, str]] = []
        self._used_bytes = 0
        self.table = _empty_table(capacity)
        self.groups: NDArray[np.int32] = np.zeros(capacity, dtype=np.int32)
        """int32[at least symbols]: key group of each symbol id."""

    def __len__(self) -> int:
        return len(self._names)

    def name(self, symbol_id: int, /) -> tuple[str, str]:
        """Return the (exchange, symbol) of a symbol id."""
        return self._names[symbol_id]

    def intern(self, exchange: str, symbol: str) -> int:
        """Return the symbol id of a pair; assign one if it has none."""
        symbol_id = self._ids.get((exchange, symbol))
        return self.intern_all([(exchange, symbol)])[0] if symbol_id is None else symbol_id

    def intern_all(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Return the symbol ids of (exchange, symbol) pairs; assign one to each that has none."""
        with self._lock:
            if new := [pair for pair in dict.fromkeys(pairs) if pair not in self._ids]:
                self._add(new)
        return [self._ids[pair] for pair in pairs]

    def ids_of(self, symbols: NDArray[np.int32], names: SymbolNames) -> NDArray[np.int32]:
        """Return int32[n]: the symbol ids here of the pairs that int32[n] `symbols` denotes in `names`."""
        if names is self:
            return symbols
        present, codes = np.unique(symbols, return_inverse=True)
        ids = self.intern_all([names.name(symbol_id) for symbol_id in present.tolist()])
        return np.array(ids, dtype=np.int32)[codes]

    def _add(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Assign the next symbol ids to pairs without one, none of which occurs twice."""
        parts = [part.encode() for pair in pairs for part in pair]
        text, first = b"".join(parts), len(self._names)
        last = first + len(pairs)
        if 2 * last > len(self.table.slots) or self._used_bytes + len(text) > len(self.table.names):
            self._grow(len(pairs), len(text))
        table, sizes = self.table, np.array([len(part) for part in parts], dtype=np.int32).reshape(-1, 2)
        table.names[self._used_bytes : self._used_bytes + len(text)] = np.frombuffer(text, dtype=np.uint8)
        lengths = sizes.sum(axis=1, dtype=np.int64)
        table.starts[first:last] = self._used_bytes + np.cumsum(lengths) - lengths
        table.exchange_sizes[first:last], table.symbol_sizes[first:last] = sizes[:, 0], sizes[:, 1]
        self.groups[first:last] = [group_of(*pair) for pair in pairs]
        self._used_bytes += len(text)
        self._names.extend(pairs)
        self._ids.update(zip(pairs, range(first, last), strict=True))
        _insert(table, first, last)

    def _grow(self, pairs: int, size: int) -> None:
        """Make a larger table, with room for some more pairs and bytes of names."""
        old, count = self.table, len(self._names)
        # Powers of two, as the slots are masked.
        capacity = max(2 * len(old.starts), 1 << (count + pairs - 1).bit_length())
        new = _empty_table(capacity, 2 * len(old.names) + size)
        new.starts[:count] = old.starts[:count]
        new.exchange_sizes[:count] = old.exchange_sizes[:count]
        new.symbol_sizes[:count] = old.symbol_sizes[:count]
        new.names[: self._used_bytes] = old.names[: self._used_bytes]
        _insert(new, 0, count)
        groups = np.zeros(len(new.starts), dtype=np.int32)
        groups[:count] = self.groups[:count]
        self.groups = groups
        self.table = new


def _empty_table(capacity: int, name_bytes: int = 16_384) -> SymbolTable:
    return SymbolTable(
        slots=np.full(2 * capacity, -1, dtype=np.int32),
        starts=np.zeros(capacity, dtype=np.int64),
        exchange_sizes=np.zeros(capacity, dtype=np.int32),
        symbol_sizes=np.zeros(capacity, dtype=np.int32),
        names=np.zeros(name_bytes, dtype=np.uint8),
    )


@compiled
def _insert(table: SymbolTable, first: int, last: int) -> None:
    """Insert the entries of the symbol ids `first` <= id < `last`, which are complete, into the slots."""
    slots, starts, exchange_sizes, symbol_sizes, names = table
    mask = np.uint64(len(slots) - 1)
    for symbol_id in range(first, last):
        start = starts[symbol_id]
        # As others call it, so that it is compiled once.
        exchange_size: Any = np.int64(exchange_sizes[symbol_id])
        symbol_size: Any = np.int64(symbol_sizes[symbol_id])
        slot = _first_slot(len(slots), names, start, exchange_size, names, start + exchange_size, symbol_size)
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = symbol_id
