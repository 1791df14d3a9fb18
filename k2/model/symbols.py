"""Numbers for (exchange, symbol) pairs, so that loops compare integers and not text.

A number is this process's own: whatever leaves the process bears names.
"""

import threading
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.key_groups import group_of

__all__ = ["EXCHANGE_BYTES_MAX", "NAME_BYTES_MAX", "SYMBOLS", "SymbolTable", "Symbols", "as_bytes", "lookup"]

NAME_BYTES_MAX: Final = 255
"""Longest symbol, in bytes of UTF-8."""
EXCHANGE_BYTES_MAX: Final = 64
"""Longest exchange, likewise: quoted, with three characters a byte, it is part of a file's path."""

_FNV_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_FNV_PRIME: Final = np.uint64(0x100000001B3)
_SEPARATOR: Final = np.uint64(0xFF)


class SymbolTable(NamedTuple):
    """An open-addressing hash table over the bytes of names, as compiled loops read it.

    Growth makes a new table, so a loop goes on safely with the one it was given; within one table
    `slots` is written last, so a reader sees a whole entry or none.
    """

    slots: NDArray[np.int32]
    """int32[power of two]: a symbol's number, or -1."""
    starts: NDArray[np.int64]
    """int64[symbols]: where the exchange's bytes start in `names`; the symbol's follow."""
    exchange_sizes: NDArray[np.int32]
    symbol_sizes: NDArray[np.int32]
    names: NDArray[np.uint8]


def as_bytes(text: str) -> NDArray[np.uint8]:
    """Return the UTF-8 of a text as an array, for compiled loops."""
    return np.frombuffer(text.encode(), dtype=np.uint8)


@compiled
def _first_slot(
    slot_count: int,
    exchange: NDArray[np.uint8],
    exchange_start: int,
    exchange_size: int,
    symbol: NDArray[np.uint8],
    symbol_start: int,
    symbol_size: int,
) -> np.uint64:
    """Return where a pair is looked for first: FNV-1a over its names, 0xFF (never in UTF-8) between them."""
    value = _FNV_OFFSET
    for place in range(exchange_start, exchange_start + exchange_size):
        value = (value ^ np.uint64(exchange[place])) * _FNV_PRIME
    value = (value ^ _SEPARATOR) * _FNV_PRIME
    for place in range(symbol_start, symbol_start + symbol_size):
        value = (value ^ np.uint64(symbol[place])) * _FNV_PRIME
    return (value ^ (value >> np.uint64(29))) & np.uint64(slot_count - 1)


@compiled
def equal_range(
    left: NDArray[np.uint8], left_start: int, right: NDArray[np.uint8], right_start: int, size: int
) -> bool:
    """Return whether two ranges of `size` bytes are the same."""
    for place in range(size):
        if left[left_start + place] != right[right_start + place]:
            return False
    return True


@compiled
def lookup(
    table: SymbolTable,
    exchange: NDArray[np.uint8],
    exchange_start: int,
    exchange_size: int,
    symbol: NDArray[np.uint8],
    symbol_start: int,
    symbol_size: int,
) -> int:
    """Return the number of a pair named by two ranges of bytes, or -1 where it has none yet."""
    slots, starts, exchange_sizes, symbol_sizes, names = table
    mask = np.uint64(len(slots) - 1)
    slot = _first_slot(len(slots), exchange, exchange_start, exchange_size, symbol, symbol_start, symbol_size)
    while True:
        number = slots[slot]
        if number < 0:
            return -1
        if exchange_sizes[number] == exchange_size and symbol_sizes[number] == symbol_size:
            start = starts[number]
            if equal_range(names, start + exchange_size, symbol, symbol_start, symbol_size) and equal_range(
                names, start, exchange, exchange_start, exchange_size
            ):
                return int(number)
        slot = (slot + np.uint64(1)) & mask


class Symbols:
    """The pairs seen by this process; safe to use from several worker threads."""

    def __init__(self, capacity: int = 1024) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[tuple[str, str], int] = {}
        self._names: list[tuple[str, str]] = []
        self._used_bytes = 0
        self.table = _empty_table(capacity)
        self.groups: NDArray[np.int32] = np.zeros(capacity, dtype=np.int32)
        """int32[at least symbols]: the key group of each."""

    def __len__(self) -> int:
        return len(self._names)

    def name(self, number: int) -> tuple[str, str]:
        """Return the (exchange, symbol) of a number."""
        return self._names[number]

    def intern(self, exchange: str, symbol: str) -> int:
        """Return the number of a pair, a new one where it has none."""
        number = self._numbers.get((exchange, symbol))
        if number is not None:
            return number
        with self._lock:
            given = self._numbers.get((exchange, symbol))
            return self._add(exchange, symbol) if given is None else given

    def _add(self, exchange: str, symbol: str) -> int:
        number = len(self._names)
        exchange_bytes, symbol_bytes = as_bytes(exchange), as_bytes(symbol)
        size = len(exchange_bytes) + len(symbol_bytes)
        if 2 * (number + 1) > len(self.table.slots) or self._used_bytes + size > len(self.table.names):
            self._grow(size)
        table, start = self.table, self._used_bytes
        table.names[start : start + size] = np.concatenate([exchange_bytes, symbol_bytes])
        table.starts[number] = start
        table.exchange_sizes[number] = len(exchange_bytes)
        table.symbol_sizes[number] = len(symbol_bytes)
        self.groups[number] = group_of(exchange, symbol)
        self._used_bytes += size
        self._names.append((exchange, symbol))
        self._numbers[exchange, symbol] = number
        _place(table, number)
        return number

    def _grow(self, size: int) -> None:
        old, count = self.table, len(self._names)
        new = _empty_table(2 * len(old.starts), 2 * len(old.names) + size)
        new.starts[:count] = old.starts[:count]
        new.exchange_sizes[:count] = old.exchange_sizes[:count]
        new.symbol_sizes[:count] = old.symbol_sizes[:count]
        new.names[: self._used_bytes] = old.names[: self._used_bytes]
        for number in range(count):
            _place(new, number)
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
def _free_slot(table: SymbolTable, number: int) -> int:
    slots, starts, exchange_sizes, symbol_sizes, names = table
    start, exchange_size = starts[number], exchange_sizes[number]
    mask = np.uint64(len(slots) - 1)
    slot = _first_slot(len(slots), names, start, exchange_size, names, start + exchange_size, symbol_sizes[number])
    while slots[slot] >= 0:
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


def _place(table: SymbolTable, number: int) -> None:
    table.slots[_free_slot(table, number)] = number


SYMBOLS = Symbols()
"""This process's pairs."""
