"""Symbol ids of the pairs that a compiled decoder meets for the first time."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.symbol_names import SymbolTable
from k2.model.symbols import BEGIN, Symbols, as_bytes, lookup
from k2.venues.rows import EXCHANGE_SIZE, EXCHANGE_START, SYMBOL, SYMBOL_SIZE, SYMBOL_START

__all__ = ["intern_new_symbols"]

INTERNED_FIRST: Final = 64
"""Rows whose pairs are interned before the others are looked up again."""


def intern_new_symbols(
    data: NDArray[np.uint8], exchange: str | None, rows: NDArray[np.int64], symbols: Symbols
) -> None:
    """Assign symbol ids to the pairs that the kernel did not know.

    In the first batch these are all rows, of a few pairs or of thousands. So a few rows are interned in plain Python,
    what they make known is looked up for the others, and twice as many are interned next.
    """
    new, count, own_exchange = np.flatnonzero(rows[:, SYMBOL] < 0), INTERNED_FIRST, as_bytes(exchange or "")
    while len(new):
        named = rows[new[:count], EXCHANGE_START : SYMBOL_SIZE + 1].tolist()
        pairs = [
            (_text(data, exchange_start, exchange_size) if exchange is None else exchange, _text(data, start, size))
            for exchange_start, exchange_size, start, size in named
        ]
        rows[new[:count], SYMBOL] = symbols.intern_all(pairs)
        new = new[count:]
        new = new[: _look_up_again(new, rows, data, own_exchange, symbols.table)]
        count *= 2


def _text(data: NDArray[np.uint8], start: int, size: int) -> str:
    return data[start : start + size].tobytes().decode()


@compiled
def _look_up_again(
    new: NDArray[np.int64],
    rows: NDArray[np.int64],
    data: NDArray[np.uint8],
    own_exchange: NDArray[np.uint8],
    table: SymbolTable,
) -> int:
    """Write the ids of the rows `new` whose pairs are known by now; move the others to the front, and count them.

    uint8[bytes] `own_exchange` is that of the venue, empty if its messages name theirs.
    """
    unknown = 0
    for row in new:
        start, size = rows[row, SYMBOL_START], rows[row, SYMBOL_SIZE]
        if len(own_exchange):
            symbol_id = lookup(table, own_exchange, BEGIN, len(own_exchange), data, start, size)
        else:
            symbol_id = lookup(table, data, rows[row, EXCHANGE_START], rows[row, EXCHANGE_SIZE], data, start, size)
        if symbol_id < 0:
            new[unknown], unknown = row, unknown + 1
        else:
            rows[row, SYMBOL] = symbol_id
    return unknown
