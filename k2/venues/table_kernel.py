"""The compiled decoder of all tables: one loop that reads a table's program, so that no table needs a compiler.

It accepts a subset of what the reference decoder of the table accepts (`k2.venues.table_decoder`), with equal results.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.compiled import allocation_free, inlined
from k2.model.symbol_names import EXCHANGE_BYTES_MAX, SYMBOL_BYTES_MAX, SymbolTable
from k2.model.symbols import as_bytes, lookup
from k2.model.trade import NO_SIDE
from k2.venues import rows as layout
from k2.venues.reading import ID_BYTES_MAX, RANGE_NUMBERS_MAX
from k2.venues.rows import (
    EXCHANGE_START,
    FIRST_SEQUENCE,
    HAS_SEQUENCE,
    ID_SIZE,
    ID_START,
    INDEX,
    MESSAGE,
    MESSAGE_BYTES_MAX,
    REASON,
    RECEIVED,
    SYMBOL_SIZE,
    TIMESTAMP,
    TRADES_MAX,
)
from k2.venues.scan import END, KIND, START, signed
from k2.venues.skipped import reason_number
from k2.venues.table import VenueTable
from k2.venues.table_forms import form_of, is_of_item, slot_of, spec_of
from k2.venues.table_heads import write_head
from k2.venues.table_layout import (
    ACCEPTS,
    ARRAY,
    BOUND,
    EXCHANGE,
    FIXED_FIELDS,
    FORM_GROUP,
    FORM_HEAD,
    FORM_LIST,
    FORM_NEWEST_FIRST,
    ITEM_SLOTS,
    KINDS,
    LEFT_OUT,
    MARKET,
    OPTIONAL,
    PRICE,
    QUANTITY,
    ROOT_SLOTS,
    RULE,
    SCALE,
    SEQUENCE,
    SIDE,
    SYMBOL,
    TIME,
    TRADE_ID,
    UNKNOWN,
)
from k2.venues.table_program import program_of
from k2.venues.table_scan import DEPTH_MAX, scan_message
from k2.venues.table_values import (
    accepts,
    find_value,
    is_absent,
    read_name,
    read_price,
    read_side,
    read_when,
    read_whole,
    skipping_text,
    write_symbol,
)
from k2.venues.venue import CompiledDecoder

__all__ = ["compiled_decoder", "decode_table"]

_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_SIGN: Final = np.uint64(1 << 63)
_NO_TRADES: Final = np.uint64(reason_number("no_trades"))
_ENTRIES_LEFT_OUT: Final = np.uint64(reason_number("non_market"))


def compiled_decoder(table: VenueTable) -> CompiledDecoder | None:
    """Return the compiled decoder of a table; None if the table has what only the reference decoder reads."""
    program = program_of(table)
    if program is None:
        return None
    exchange = as_bytes(table.exchange if isinstance(table.exchange, str) else "")
    slots = int(program[ROOT_SLOTS]) + TRADES_MAX * int(program[ITEM_SLOTS])

    def decode(
        data: NDArray[np.uint8],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int32],
        symbols: SymbolTable,
        rows: NDArray[np.int64],
        left: NDArray[np.int32],
    ) -> tuple[int, int, int]:
        fields, stack = np.empty((slots, 3), dtype=np.uint64), np.empty((DEPTH_MAX, 4), dtype=np.uint64)
        return decode_table(program, exchange, data, starts, sizes, symbols, rows, left, fields, stack)

    return decode


@allocation_free
def decode_table(
    program: NDArray[np.uint64],
    exchange: NDArray[np.uint8],
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    symbols: SymbolTable,
    rows: NDArray[np.int64],
    left: NDArray[np.int32],
    fields: NDArray[np.uint64],
    stack: NDArray[np.uint64],
) -> tuple[int, int, int]:
    """Write the rows of each message that is certainly one of trades, and why others are certainly skipped.

    See `k2.venues.venue.CompiledDecoder`.

    Args:
        program: uint64[words], the table (see `k2.venues.table_layout`).
        exchange: uint8[bytes], the name of the exchange; empty if the messages have it.
        data: as for all compiled decoders, like those that follow.
        starts: int64[messages].
        sizes: int32[messages].
        symbols: the symbol table.
        rows: int64[n, WIDTH].
        left: int32[messages, 2].
        fields: uint64[slots, 3], scratch for the fields of the message and of all its elements.
        stack: uint64[DEPTH_MAX, 4], scratch.
    """
    # Not the literal 0, which is another type at first, so that what takes it would be compiled twice.
    words, row, left_count = rows.view(np.uint64), signed(_ZERO), signed(_ZERO)
    for message in range(len(starts)):
        if len(rows) - row < TRADES_MAX:
            return message, row, left_count
        start, size, count = np.uint64(starts[message]), sizes[message], signed(_ZERO)
        if 0 < size <= MESSAGE_BYTES_MAX:
            end = start + np.uint64(size)
            form, items, reason = _ZERO, _ZERO, skipping_text(data, start, end, program)
            if reason == _ZERO:
                items = scan_message(data, start, end, program, stack, fields)
            if items != _ZERO:
                form, reason = form_of(data, program, fields)
            if form != _ZERO and reason == _ZERO:
                count = _write_rows(data, program, exchange, fields, form, items - _ONE, symbols, rows, words, row)
            else:
                count = -signed(reason)
        for idx in range(row, row + count):
            rows[idx, MESSAGE] = message
        if count > 0:
            row += count
        else:
            left[left_count, 0], left[left_count, REASON] = message, -count
            left_count += 1
    return len(starts), row, left_count


@allocation_free
def _write_rows(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    exchange: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    form: np.uint64,
    items: np.uint64,
    table: SymbolTable,
    rows: NDArray[np.int64],
    words: NDArray[np.uint64],
    row: int,
) -> Any:
    """Write the rows of a message of a form; return their number, or as a negative one why it is skipped; 0 if left."""
    if program[form + FORM_HEAD] != _ZERO:
        return write_head(data, program, exchange, fields, program[form + FORM_HEAD], table, rows, words, row)
    group, count, is_empty = program[form + FORM_GROUP], signed(_ZERO), True
    newest_first = program[form + FORM_NEWEST_FIRST] != _ZERO
    is_single = group == _ZERO
    for idx in range(_ONE if is_single else items):
        item = items - _ONE - idx if newest_first else idx
        base = _ZERO if is_single else program[ROOT_SLOTS] + item * program[ITEM_SLOTS]
        if is_single or fields[base, KIND] == group:
            is_empty = False
            kind = _write_row(data, program, exchange, fields, form, base, table, rows, words, row + count, count)
            if kind == UNKNOWN:
                return signed(_ZERO)
            if kind != LEFT_OUT:
                rows[row + count, INDEX] = count
                count += 1
    if count > 0:
        return count
    slot = program[form + FORM_LIST]
    if is_empty and (slot == _ZERO or fields[slot, KIND] != ARRAY):
        return signed(_ZERO)
    return -signed(_NO_TRADES if is_empty else _ENTRIES_LEFT_OUT)


@inlined
def _write_row(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    exchange: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    form: np.uint64,
    base: np.uint64,
    table: SymbolTable,
    rows: NDArray[np.int64],
    words: NDArray[np.uint64],
    row: int,
    index: int,
) -> np.uint64:
    """Write the row of one trade; return its kind: `UNKNOWN` if the message is left, and the row is undefined.

    `index` is the number of rows before it that are of the same message.
    """
    kind = _kind_of(data, program, fields, form, base)
    if kind in (UNKNOWN, LEFT_OUT):
        return kind
    rows[row, layout.SIDE], rows[row, RECEIVED] = NO_SIDE, NULL_TIME
    words[row, layout.PRICE], words[row, layout.PRICE + 1] = _ZERO, _ZERO
    words[row, layout.QUANTITY], words[row, layout.QUANTITY + 1] = _ZERO, _ZERO
    if kind == MARKET:
        has_side, side = read_side(data, fields, slot_of(program, form, SIDE, base), program, spec_of(program, SIDE))
        rows[row, layout.SIDE] = side
        if not has_side or not _read_values(data, program, fields, form, base, words, row):
            return UNKNOWN
    has_time, time = read_when(data, fields, slot_of(program, form, TIME, base), program, spec_of(program, TIME))
    rows[row, TIMESTAMP] = time
    is_valid = (
        has_time
        and _read_identity(data, program, fields, form, base, rows, row)
        and _read_symbol(data, program, exchange, fields, form, base, table, rows, row, index)
    )
    return kind if is_valid else UNKNOWN


@inlined
def _kind_of(
    data: NDArray[np.uint8], program: NDArray[np.uint64], fields: NDArray[np.uint64], form: np.uint64, base: np.uint64
) -> np.uint64:
    """Return the kind of a trade by all kinds of the table: the first that ends the question, as in their order."""
    kinds, kind = program[KINDS], MARKET
    for idx in range(program[kinds]):
        slot, rule = slot_of(program, form, FIXED_FIELDS + idx, base), kinds + _ONE + idx * _TWO
        if program[rule] == _ZERO or not is_absent(fields, slot):
            found = find_value(data, fields, slot, program, program[rule + _ONE])
            if found in (UNKNOWN, LEFT_OUT):
                return found
            kind = max(kind, found)
    return kind


@inlined
def _read_values(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    fields: NDArray[np.uint64],
    form: np.uint64,
    base: np.uint64,
    words: NDArray[np.uint64],
    row: int,
) -> bool:
    has_price, low, high = _read_decimal(data, program, fields, form, base, PRICE)
    if not has_price:
        return False
    words[row, layout.PRICE], words[row, layout.PRICE + 1] = low, high
    has_quantity, low, high = _read_decimal(data, program, fields, form, base, QUANTITY)
    words[row, layout.QUANTITY], words[row, layout.QUANTITY + 1] = low, high
    return bool(has_quantity and high < _SIGN and (low | high) != _ZERO)


@inlined
def _read_decimal(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    fields: NDArray[np.uint64],
    form: np.uint64,
    base: np.uint64,
    field: np.uint64,
) -> tuple[bool, np.uint64, np.uint64]:
    """Read a decimal field of a trade; return (whether it was accepted, low word, high word)."""
    spec, slot = spec_of(program, field), slot_of(program, form, field, base)
    if not accepts(fields, slot, program, spec):
        return False, _ZERO, _ZERO
    absolute, scale = program[spec + RULE], signed(program[spec + SCALE])
    return read_price(data, fields[slot, START], fields[slot, END], absolute, scale)


@inlined
def _read_identity(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    fields: NDArray[np.uint64],
    form: np.uint64,
    base: np.uint64,
    rows: NDArray[np.int64],
    row: int,
) -> bool:
    """Write number and id, which is the text of the number if the table has no field of it."""
    has_number = program[spec_of(program, SEQUENCE) + ACCEPTS] != _ZERO
    rows[row, layout.SEQUENCE], rows[row, HAS_SEQUENCE] = 0, has_number
    rows[row, ID_START], rows[row, ID_SIZE] = 0, -1
    if has_number and not _read_sequence(data, program, fields, form, base, rows, row):
        return False
    spec, slot = spec_of(program, TRADE_ID), slot_of(program, form, TRADE_ID, base)
    if program[spec + ACCEPTS] == _ZERO or (program[spec + OPTIONAL] != _ZERO and is_absent(fields, slot)):
        return True
    is_valid, start_of_id, size = read_name(data, fields, slot, program, spec, ID_BYTES_MAX)
    rows[row, ID_START], rows[row, ID_SIZE] = start_of_id, size
    return is_valid


@inlined
def _read_sequence(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    fields: NDArray[np.uint64],
    form: np.uint64,
    base: np.uint64,
    rows: NDArray[np.int64],
    row: int,
) -> bool:
    """Write the number, its text as the id, and the first number of a range."""
    spec, slot = spec_of(program, SEQUENCE), slot_of(program, form, SEQUENCE, base)
    is_valid, start, size, number = read_whole(data, fields, slot, program, spec)
    rows[row, layout.SEQUENCE], rows[row, FIRST_SEQUENCE] = number, number
    rows[row, ID_START], rows[row, ID_SIZE] = start, size
    spec, slot = spec_of(program, BOUND), slot_of(program, form, BOUND, base)
    if program[spec + ACCEPTS] == _ZERO or (program[spec + OPTIONAL] != _ZERO and is_absent(fields, slot)):
        return is_valid
    has_bound, _, _, bound = read_whole(data, fields, slot, program, spec)
    if program[spec + RULE] == _ZERO:
        # Not by their difference, which may exceed 64 bits.
        is_near = number - RANGE_NUMBERS_MAX < number and number - RANGE_NUMBERS_MAX < bound <= number
        rows[row, FIRST_SEQUENCE] = bound
        return is_valid and has_bound and is_near
    rows[row, FIRST_SEQUENCE] = number - bound + 1
    return is_valid and has_bound and 1 <= bound <= RANGE_NUMBERS_MAX and number - bound < number


@inlined
def _read_symbol(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    exchange: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    form: np.uint64,
    base: np.uint64,
    table: SymbolTable,
    rows: NDArray[np.int64],
    row: int,
    index: int,
) -> bool:
    if index > 0 and not (is_of_item(program, form, SYMBOL) or is_of_item(program, form, EXCHANGE)):
        rows[row, layout.SYMBOL] = rows[row - 1, layout.SYMBOL]
        for column in range(EXCHANGE_START, SYMBOL_SIZE + 1):
            rows[row, column] = rows[row - 1, column]
        return True
    spec, slot = spec_of(program, SYMBOL), slot_of(program, form, SYMBOL, base)
    is_valid, start, size = read_name(data, fields, slot, program, spec, SYMBOL_BYTES_MAX)
    if not is_valid:
        return False
    exchange_start, exchange_size = signed(_ZERO), signed(_ZERO)
    if len(exchange) == 0:
        spec, slot = spec_of(program, EXCHANGE), slot_of(program, form, EXCHANGE, base)
        is_valid, exchange_start, exchange_size = read_name(data, fields, slot, program, spec, EXCHANGE_BYTES_MAX)
        if not is_valid:
            return False
        symbol_id = lookup(table, data, exchange_start, exchange_size, data, start, size)
    else:
        symbol_id = lookup(table, exchange, exchange_start, len(exchange), data, start, size)
    write_symbol(rows, row, symbol_id, exchange_start, exchange_size, start, size)
    return True
