"""Compiled decoder of the Binance spot trade event; accepts a subset of the table `binance-spot` with equal results."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.compiled import compiled
from k2.model.decimals_compiled import read_decimal
from k2.model.symbol_names import SYMBOL_BYTES_MAX, SymbolTable
from k2.model.symbols import lookup
from k2.model.trade import BUY, SELL
from k2.venues.rows import (
    EXCHANGE_SIZE,
    EXCHANGE_START,
    HAS_SEQUENCE,
    ID_SIZE,
    ID_START,
    MESSAGE,
    MESSAGE_BYTES_MAX,
    PRICE,
    QUANTITY,
    RECEIVED,
    SEQUENCE,
    SIDE,
    SYMBOL,
    SYMBOL_SIZE,
    SYMBOL_START,
    TIMESTAMP,
)
from k2.venues.scan import (
    ABSENT,
    END,
    FALSE,
    INTEGER,
    KIND,
    START,
    STRING,
    TRUE,
    keys_of,
    read_integer,
    scan_object,
    signed,
)

__all__ = ["decode_binance_spot"]

_KEYS: Final = keys_of("e", "s", "t", "p", "q", "T", "m", "result", "data")
_E, _S, _ID, _P, _Q, _TIME, _M, _RESULT, _DATA = range(9)
_EXCHANGE: Final = np.frombuffer(b"binance", dtype=np.uint8)
_TRADE: Final = np.frombuffer(b"trade", dtype=np.uint8)
_ZERO: Final = np.uint64(0)
_SIGN: Final = np.uint64(1 << 63)


@compiled
def decode_binance_spot(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    table: SymbolTable,
    rows: NDArray[np.int64],
    left: NDArray[np.int32],
) -> int:
    """Write a row for each message that is certainly a trade; see `k2.venues.venue.CompiledDecoder`."""
    fields = np.empty((len(_KEYS.sizes), 3), dtype=np.uint64)
    words, row = rows.view(np.uint64), 0
    for message in range(len(starts)):
        start, size = np.uint64(starts[message]), sizes[message]
        if 0 < size <= MESSAGE_BYTES_MAX and _decode_one(
            data, start, start + np.uint64(size), fields, table, rows[row], words[row]
        ):
            rows[row, MESSAGE] = message
            row += 1
        else:
            left[message - row] = message
    return row


@compiled
def _decode_one(
    data: NDArray[np.uint8],
    start: np.uint64,
    end: np.uint64,
    fields: NDArray[np.uint64],
    table: SymbolTable,
    row: NDArray[np.int64],
    words: NDArray[np.uint64],
) -> bool:
    """Write the row of one message; return false if the message is left, in which case the row is undefined."""
    return (
        scan_object(data, start, end, _KEYS, fields)
        and _is_trade(data, fields)
        and _read_numbers(data, fields, row)
        and _read_values(data, fields, words)
        and _read_symbol(data, fields, table, row)
    )


@compiled
def _is_trade(data: NDArray[np.uint8], fields: NDArray[np.uint64]) -> bool:
    """Return whether the event is a trade and its fields have the types of a trade."""
    start = fields[_E, START]
    if fields[_E, KIND] != STRING or fields[_E, END] - start != np.uint64(len(_TRADE)):
        return False
    for idx in range(len(_TRADE)):
        if data[start + np.uint64(idx)] != _TRADE[idx]:
            return False
    return bool(
        fields[_S, KIND] == STRING
        and fields[_ID, KIND] == INTEGER
        and fields[_P, KIND] == STRING
        and fields[_Q, KIND] == STRING
        and fields[_TIME, KIND] == INTEGER
        and (fields[_M, KIND] == TRUE or fields[_M, KIND] == FALSE)
        and fields[_RESULT, KIND] == ABSENT
        and fields[_DATA, KIND] == ABSENT
    )


@compiled
def _read_numbers(data: NDArray[np.uint8], fields: NDArray[np.uint64], row: NDArray[np.int64]) -> bool:
    is_valid, number = read_integer(data, fields[_ID, START], fields[_ID, END])
    is_time_valid, time = read_integer(data, fields[_TIME, START], fields[_TIME, END])
    if not is_valid or not is_time_valid:
        return False
    if 10**12 <= time < 10**13:
        time *= 1000
    elif not 10**15 <= time < 10**16:
        return False
    row[SEQUENCE], row[HAS_SEQUENCE] = number, True
    row[ID_START] = fields[_ID, START]
    row[ID_SIZE] = fields[_ID, END] - fields[_ID, START]
    row[TIMESTAMP], row[RECEIVED] = time, NULL_TIME
    row[SIDE] = SELL if fields[_M, KIND] == TRUE else BUY
    return True


@compiled
def _read_values(data: NDArray[np.uint8], fields: NDArray[np.uint64], words: NDArray[np.uint64]) -> bool:
    is_valid, low, high = read_decimal(data, fields[_P, START], fields[_P, END])
    if not is_valid:
        return False
    words[PRICE], words[PRICE + 1] = low, high
    is_valid, low, high = read_decimal(data, fields[_Q, START], fields[_Q, END])
    words[QUANTITY], words[QUANTITY + 1] = low, high
    return bool(is_valid and high < _SIGN and (low | high) != _ZERO)


@compiled
def _read_symbol(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], table: SymbolTable, row: NDArray[np.int64]
) -> bool:
    start = signed(fields[_S, START])
    size = signed(fields[_S, END]) - start
    if size < 1 or size > SYMBOL_BYTES_MAX:
        return False
    symbol_id = lookup(table, _EXCHANGE, 0, len(_EXCHANGE), data, start, size)
    row[SYMBOL] = symbol_id
    if symbol_id < 0:
        row[EXCHANGE_START], row[EXCHANGE_SIZE] = 0, 0
        row[SYMBOL_START], row[SYMBOL_SIZE] = start, size
    return True
