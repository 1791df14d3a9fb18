"""Compiled reader of messages that only name the last number of their symbol."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.compiled import inlined
from k2.model.symbol_names import SYMBOL_BYTES_MAX, SymbolTable
from k2.model.symbols import lookup
from k2.venues.rows import (
    FIRST_SEQUENCE,
    HAS_SEQUENCE,
    HEAD_SIDE,
    ID_SIZE,
    ID_START,
    INDEX,
    PRICE,
    QUANTITY,
    RECEIVED,
    SEQUENCE,
    SIDE,
    TIMESTAMP,
)
from k2.venues.scan import signed
from k2.venues.table_layout import HEAD_NAME, HEAD_NAME_SLOT, HEAD_NONE, HEAD_NUMBER, HEAD_NUMBER_SLOT
from k2.venues.table_values import find_value, read_name, read_whole, write_symbol

__all__ = ["write_head"]

_ZERO, _ONE = np.uint64(0), np.uint64(1)


@inlined
def write_head(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    exchange: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    head: np.uint64,
    table: SymbolTable,
    rows: NDArray[np.int64],
    words: NDArray[np.uint64],
    row: int,
) -> Any:
    """Write the row of a message that only names the last number of its symbol; return 1, or 0 if it is left."""
    slot = program[head + HEAD_NUMBER_SLOT]
    is_valid, _, _, number = read_whole(data, fields, slot, program, head + HEAD_NUMBER)
    if not is_valid or find_value(data, fields, slot, program, program[head + HEAD_NONE]) != _ZERO:
        return signed(_ZERO)
    is_valid, start, size = read_name(
        data, fields, program[head + HEAD_NAME_SLOT], program, head + HEAD_NAME, SYMBOL_BYTES_MAX
    )
    if not is_valid:
        return signed(_ZERO)
    rows[row, SIDE], rows[row, RECEIVED], rows[row, TIMESTAMP] = HEAD_SIDE, NULL_TIME, 0
    words[row, PRICE], words[row, PRICE + 1] = _ZERO, _ZERO
    words[row, QUANTITY], words[row, QUANTITY + 1] = _ZERO, _ZERO
    rows[row, SEQUENCE], rows[row, FIRST_SEQUENCE], rows[row, HAS_SEQUENCE] = number, number, 1
    rows[row, ID_START], rows[row, ID_SIZE], rows[row, INDEX] = 0, -1, 0
    symbol_id = lookup(table, exchange, signed(_ZERO), len(exchange), data, start, size)
    write_symbol(rows, row, symbol_id, signed(_ZERO), signed(_ZERO), start, size)
    return signed(_ONE)
