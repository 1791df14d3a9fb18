"""Compiled decoder of the canonical message; accepts a subset of `k2.venues.k2` with equal results."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.compiled import allocation_free, compiled
from k2.model.decimals_compiled import read_decimal
from k2.model.symbol_names import EXCHANGE_BYTES_MAX, SYMBOL_BYTES_MAX, SymbolTable
from k2.model.symbols import lookup
from k2.model.times import MICROSECONDS_MAX, MICROSECONDS_MIN
from k2.model.times_compiled import read_time
from k2.model.trade import BUY, NO_SIDE, SELL
from k2.venues.reading import ID_BYTES_MAX
from k2.venues.rows import (
    EXCHANGE_SIZE,
    EXCHANGE_START,
    HAS_SEQUENCE,
    ID_SIZE,
    ID_START,
    INDEX,
    MESSAGE,
    MESSAGE_BYTES_MAX,
    PRICE,
    QUANTITY,
    REASON,
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
    INTEGER,
    KIND,
    NULL,
    NUMBER,
    START,
    STRING,
    keys_of,
    read_integer,
    scan_object,
    signed,
)

__all__ = ["decode_k2"]

_KEYS: Final = keys_of(
    "exchange", "symbol", "trade_id", "sequence", "price", "quantity", "side", "timestamp", "received"
)
# Not literals, each of which is a type of its own: what takes them would be compiled for each.
_FIELDS: Final[Any] = np.arange(9)
_EXCHANGE, _SYMBOL, _TRADE_ID, _SEQUENCE, _PRICE, _QUANTITY, _SIDE, _TIMESTAMP, _RECEIVED = _FIELDS
_SYMBOL_BYTES_MAX: Final = np.uint64(SYMBOL_BYTES_MAX)
_TRADE_ID_BYTES_MAX: Final = np.uint64(ID_BYTES_MAX)
_EXCHANGE_BYTES_MAX: Final = np.uint64(EXCHANGE_BYTES_MAX)
_ZERO: Final = np.uint64(0)
_SIGN: Final = np.uint64(1 << 63)


@compiled
def decode_k2(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    table: SymbolTable,
    rows: NDArray[np.int64],
    left: NDArray[np.int32],
) -> tuple[int, int, int]:
    """Write a row for each message that is certainly a trade; see `k2.venues.venue.CompiledDecoder`."""
    fields = np.empty((len(_KEYS.sizes), 3), dtype=np.uint64)
    words, row = rows.view(np.uint64), 0
    for message in range(len(starts)):
        start, size = np.uint64(starts[message]), sizes[message]
        if 0 < size <= MESSAGE_BYTES_MAX and _decode_one(
            data, start, start + np.uint64(size), fields, table, rows[row], words[row]
        ):
            rows[row, MESSAGE], rows[row, INDEX] = message, 0
            row += 1
        else:
            left[message - row, 0], left[message - row, REASON] = message, 0
    return len(starts), row, len(starts) - row


@allocation_free
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
        and _read_identity(data, fields, row)
        and _read_values(data, fields, words)
        and _read_side(data, fields, row)
        and _read_times(data, fields, row)
        and _read_names(data, fields, table, row)
    )


@allocation_free
def _is_name(fields: NDArray[np.uint64], field: int, bytes_max: np.uint64) -> bool:
    size = fields[field, END] - fields[field, START]
    return bool(fields[field, KIND] == STRING and _ZERO < size <= bytes_max)


@allocation_free
def _read_names(
    data: NDArray[np.uint8], fields: NDArray[np.uint64], table: SymbolTable, row: NDArray[np.int64]
) -> bool:
    if not _is_name(fields, _EXCHANGE, _EXCHANGE_BYTES_MAX) or not _is_name(fields, _SYMBOL, _SYMBOL_BYTES_MAX):
        return False
    exchange, symbol = signed(fields[_EXCHANGE, START]), signed(fields[_SYMBOL, START])
    exchange_size = signed(fields[_EXCHANGE, END]) - exchange
    symbol_size = signed(fields[_SYMBOL, END]) - symbol
    symbol_id = lookup(table, data, exchange, exchange_size, data, symbol, symbol_size)
    row[SYMBOL] = symbol_id
    if symbol_id < 0:
        row[EXCHANGE_START], row[EXCHANGE_SIZE] = exchange, exchange_size
        row[SYMBOL_START], row[SYMBOL_SIZE] = symbol, symbol_size
    return True


@allocation_free
def _read_identity(data: NDArray[np.uint8], fields: NDArray[np.uint64], row: NDArray[np.int64]) -> bool:
    kind, id_kind, id_field = fields[_SEQUENCE, KIND], fields[_TRADE_ID, KIND], _TRADE_ID
    row[HAS_SEQUENCE] = kind == INTEGER
    row[SEQUENCE] = 0
    if kind == INTEGER:
        is_valid, number = read_integer(data, fields[_SEQUENCE, START], fields[_SEQUENCE, END])
        if not is_valid:
            return False
        row[SEQUENCE] = number
    elif kind not in (ABSENT, NULL):
        return False
    if id_kind == STRING:
        if not _is_name(fields, _TRADE_ID, _TRADE_ID_BYTES_MAX):
            return False
    elif id_kind not in (ABSENT, NULL):
        return False
    elif kind == INTEGER:
        id_field = _SEQUENCE
    else:
        row[ID_START], row[ID_SIZE] = 0, -1
        return bool(id_kind == NULL)
    row[ID_START] = fields[id_field, START]
    row[ID_SIZE] = fields[id_field, END] - fields[id_field, START]
    return True


@allocation_free
def _is_decimal(fields: NDArray[np.uint64], field: int) -> bool:
    kind = fields[field, KIND]
    return bool(kind in (STRING, INTEGER, NUMBER))


@allocation_free
def _read_values(data: NDArray[np.uint8], fields: NDArray[np.uint64], words: NDArray[np.uint64]) -> bool:
    if not _is_decimal(fields, _PRICE) or not _is_decimal(fields, _QUANTITY):
        return False
    is_valid, low, high = read_decimal(data, fields[_PRICE, START], fields[_PRICE, END])
    if not is_valid:
        return False
    words[PRICE], words[PRICE + 1] = low, high
    is_valid, low, high = read_decimal(data, fields[_QUANTITY, START], fields[_QUANTITY, END])
    words[QUANTITY], words[QUANTITY + 1] = low, high
    return bool(is_valid and high < _SIGN and (low | high) != _ZERO)


@allocation_free
def _read_side(data: NDArray[np.uint8], fields: NDArray[np.uint64], row: NDArray[np.int64]) -> bool:
    kind, start = fields[_SIDE, KIND], fields[_SIDE, START]
    if kind in (ABSENT, NULL):
        row[SIDE] = NO_SIDE
        return True
    if kind != STRING:
        return False
    size = fields[_SIDE, END] - start
    if size == np.uint64(3) and _has(data, start, _BUY):
        row[SIDE] = BUY
        return True
    row[SIDE] = SELL
    return bool(size == np.uint64(4) and _has(data, start, _SELL))


_BUY: Final = np.frombuffer(b"buy", dtype=np.uint8)
_SELL: Final = np.frombuffer(b"sell", dtype=np.uint8)


@allocation_free
def _has(data: NDArray[np.uint8], idx: np.uint64, word: NDArray[np.uint8]) -> bool:
    for character in word:
        if data[idx] != character:
            return False
        idx += np.uint64(1)
    return True


@allocation_free
def _read_times(data: NDArray[np.uint8], fields: NDArray[np.uint64], row: NDArray[np.int64]) -> bool:
    is_valid, micros = _time(data, fields, _TIMESTAMP)
    if not is_valid:
        return False
    row[TIMESTAMP], row[RECEIVED] = micros, NULL_TIME
    kind = fields[_RECEIVED, KIND]
    if kind in (ABSENT, NULL):
        return True
    is_valid, micros = _time(data, fields, _RECEIVED)
    row[RECEIVED] = micros
    return is_valid


@allocation_free
def _time(data: NDArray[np.uint8], fields: NDArray[np.uint64], field: int) -> tuple[bool, int]:
    kind, start, end = fields[field, KIND], fields[field, START], fields[field, END]
    if kind == STRING:
        return read_time(data, signed(start), signed(end))
    if kind != INTEGER:
        return False, 0
    is_valid, micros = read_integer(data, start, end)
    return is_valid and MICROSECONDS_MIN <= micros < MICROSECONDS_MAX, micros
