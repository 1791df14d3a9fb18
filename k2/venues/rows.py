"""Row layout of compiled decoders: one row of 64-bit words per trade, from which columns are copied.

A single matrix, because a compiled loop that passes a dozen arrays to its rules spends more time on reference counting
than on decoding (1.1 us per message instead of 0.5).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeColumns
from k2.model.compiled import compiled
from k2.model.symbols import Symbols
from k2.model.words_compiled import compact

__all__ = [
    "EXCHANGE_SIZE",
    "EXCHANGE_START",
    "FIRST_SEQUENCE",
    "HAS_SEQUENCE",
    "HEAD_SIDE",
    "ID_SIZE",
    "ID_START",
    "INDEX",
    "MESSAGE",
    "MESSAGE_BYTES_MAX",
    "PRICE",
    "QUANTITY",
    "REASON",
    "RECEIVED",
    "SEQUENCE",
    "SIDE",
    "SYMBOL",
    "SYMBOL_SIZE",
    "SYMBOL_START",
    "TIMESTAMP",
    "TRADES_MAX",
    "WIDTH",
    "columns_of",
]

MESSAGE_BYTES_MAX: Final = 1_048_576
"""A larger value is rejected without decoding."""

TRADES_MAX: Final = 256
"""A compiled decoder leaves a message with more trades."""

MESSAGE: Final = 0
SYMBOL: Final = 1
"""Symbol id; -1 for a pair that has none yet."""
SEQUENCE: Final = 2
HAS_SEQUENCE: Final = 3
PRICE: Final = 4
"""Two words, low first."""
QUANTITY: Final = 6
"""Two words, low first; 0, which no market trade has, for a non-market trade."""
SIDE: Final = 8
"""`HEAD_SIDE` for a row that only names the last number of its symbol."""
HEAD_SIDE: Final = -1
TIMESTAMP: Final = 9
RECEIVED: Final = 10
ID_START: Final = 11
ID_SIZE: Final = 12
EXCHANGE_START: Final = 13
"""This column and the next three are defined only if `SYMBOL` is -1: positions of the names in the data."""
EXCHANGE_SIZE: Final = 14
SYMBOL_START: Final = 15
SYMBOL_SIZE: Final = 16
INDEX: Final = 17
"""Index of the trade in its message."""
FIRST_SEQUENCE: Final = 18
"""Defined only for venues whose trades stand for ranges of numbers."""
WIDTH: Final = 19

REASON: Final = 1
"""Column of the messages without rows, after their index: the number of the reason why a message is skipped (see
`k2.venues.skipped`), 0 if it is left to the reference decoder."""


def columns_of(
    rows: NDArray[np.int64], text: NDArray[np.uint8], symbols: Symbols, *, has_ranges: bool = False
) -> TradeColumns:
    """Copy rows into columns, with their ids; all rows must have symbol ids.

    `rows` is int64[n, WIDTH], `text` uint8[bytes] the buffer that contains the trade ids, `symbols` the registry of the
    symbol ids. `has_ranges`: whether the rows have first numbers.

    The rows of a key group are far apart. The next steps would wait for memory at each id, if they read it from among
    the bytes of the messages.
    """
    count = len(rows)
    id_sizes = rows[:, ID_SIZE].astype(np.int32)
    ids, id_starts = compact(text, rows[:, ID_START].copy(), id_sizes)
    sequences = np.empty(count, dtype=np.int64)
    columns = TradeColumns(
        symbols=np.empty(count, dtype=np.int32),
        names=symbols,
        sequences=sequences,
        first_sequences=rows[:, FIRST_SEQUENCE].copy() if has_ranges else sequences,
        has_sequence=np.empty(count, dtype=np.bool_),
        prices=np.empty((count, 2), dtype=np.uint64),
        quantities=np.empty((count, 2), dtype=np.uint64),
        sides=np.empty(count, dtype=np.int8),
        timestamps=np.empty(count, dtype=np.int64),
        received=np.empty(count, dtype=np.int64),
        text=ids,
        id_starts=id_starts,
        id_sizes=id_sizes,
        messages=np.empty(count, dtype=np.int32),
        indexes=np.empty(count, dtype=np.int32),
    )
    _copy_numbers(rows, columns.messages, columns.indexes, columns.symbols, columns.sequences, columns.has_sequence)
    _copy_values(rows.view(np.uint64), columns.prices, columns.quantities)
    _copy_rest(rows, columns.sides, columns.timestamps, columns.received)
    return columns


@compiled
def _copy_numbers(
    rows: NDArray[np.int64],
    messages: NDArray[np.int32],
    indexes: NDArray[np.int32],
    symbols: NDArray[np.int32],
    sequences: NDArray[np.int64],
    has_sequence: NDArray[np.bool_],
) -> None:
    for row in range(len(rows)):
        messages[row], indexes[row] = rows[row, MESSAGE], rows[row, INDEX]
        symbols[row] = rows[row, SYMBOL]
        sequences[row] = rows[row, SEQUENCE]
        has_sequence[row] = rows[row, HAS_SEQUENCE] != 0


@compiled
def _copy_values(words: NDArray[np.uint64], prices: NDArray[np.uint64], quantities: NDArray[np.uint64]) -> None:
    for row in range(len(words)):
        prices[row, 0], prices[row, 1] = words[row, PRICE], words[row, PRICE + 1]
        quantities[row, 0], quantities[row, 1] = words[row, QUANTITY], words[row, QUANTITY + 1]


@compiled
def _copy_rest(
    rows: NDArray[np.int64],
    sides: NDArray[np.int8],
    timestamps: NDArray[np.int64],
    received: NDArray[np.int64],
) -> None:
    for row in range(len(rows)):
        sides[row] = rows[row, SIDE]
        timestamps[row], received[row] = rows[row, TIMESTAMP], rows[row, RECEIVED]
