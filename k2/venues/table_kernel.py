"""The compiled decoder of all tables: one loop that reads a table's program, so that no table needs a compiler.

It accepts a subset of what the reference decoder of the table accepts (`k2.venues.table_decoder`), with equal results.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import NULL_TIME
from k2.model.compiled import allocation_free, inlined
from k2.model.symbol_names import EXCHANGE_BYTES_MAX, SYMBOL_BYTES_MAX, SymbolTable
from k2.model.symbols import as_bytes, lookup
from k2.venues import rows as layout
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
    RECEIVED,
    SYMBOL_SIZE,
    SYMBOL_START,
    TIMESTAMP,
    TRADES_MAX,
)
from k2.venues.scan import ABSENT, END, KIND, START, signed
from k2.venues.table import VenueTable
from k2.venues.table_layout import (
    ACCEPTS,
    BARE_FORMS,
    EXCHANGE,
    FIELD_WORDS,
    FIXED_FIELDS,
    FORM_FIELDS,
    FORM_GROUP,
    FORM_NEWEST_FIRST,
    FORM_SKIPS,
    FORM_WHEN,
    ITEM_SLOTS,
    KINDS,
    OBJECT,
    OPTIONAL,
    OWN,
    PRICE,
    QUANTITY,
    ROOT_SLOTS,
    RULE,
    SCALE,
    SEQUENCE,
    SIDE,
    SPEC_WORDS,
    SPECS,
    SYMBOL,
    TAKES_ARRAYS,
    TIME,
    TRADE_ID,
    WRAPPED,
    WRAPPED_FORMS,
)
from k2.venues.table_program import program_of
from k2.venues.table_scan import DEPTH_MAX, scan_message
from k2.venues.table_values import (
    accepts,
    all_hold,
    find_value,
    is_absent,
    read_name,
    read_number,
    read_price,
    read_side,
    read_when,
)
from k2.venues.venue import CompiledDecoder

__all__ = ["compiled_decoder", "decode_table"]

_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_SIGN: Final = np.uint64(1 << 63)
_OPEN: Final = int(b"{"[0])


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
        # An array that can be written is another type, for which the kernel would be compiled again.
        text = data.view()
        text.flags.writeable = False
        return decode_table(program, exchange, text, starts, sizes, symbols, rows, left, fields, stack)

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
    """Write the rows of each message that is certainly one of trades; see `k2.venues.venue.CompiledDecoder`.

    Args:
        program: uint64[words], the table (see `k2.venues.table_layout`).
        exchange: uint8[bytes], the name of the exchange; empty if the messages have it.
        data: as for all compiled decoders, like those that follow.
        starts: int64[messages].
        sizes: int32[messages].
        symbols: the symbol table.
        rows: int64[n, WIDTH].
        left: int32[messages].
        fields: uint64[slots, 3], scratch for the fields of the message and of all its elements.
        stack: uint64[DEPTH_MAX, 4], scratch.
    """
    # Not the literal 0, which is another type at first, so that what takes it would be compiled twice.
    words, row, left_count = rows.view(np.uint64), signed(_ZERO), signed(_ZERO)
    for message in range(len(starts)):
        if len(rows) - row < TRADES_MAX:
            return message, row, left_count
        start, size, count = np.uint64(starts[message]), sizes[message], 0
        if 0 < size <= MESSAGE_BYTES_MAX:
            items = scan_message(data, start, start + np.uint64(size), program, stack, fields)
            if items != _ZERO:
                count = _write_rows(data, program, exchange, fields, items - _ONE, symbols, rows, words, row)
        for idx in range(row, row + count):
            rows[idx, MESSAGE] = message
        row += count
        if count == 0:
            left[left_count] = message
            left_count += 1
    return len(starts), row, left_count


@allocation_free
def _form_of(data: NDArray[np.uint8], program: NDArray[np.uint64], fields: NDArray[np.uint64]) -> np.uint64:
    """Return the form of a message; 0 if it fits none, or is skipped."""
    is_wrapped = (
        program[WRAPPED_FORMS] != _ZERO
        and fields[program[OWN], KIND] == ABSENT
        and fields[program[WRAPPED], KIND] != ABSENT
    )
    forms = program[WRAPPED_FORMS if is_wrapped else BARE_FORMS]
    if is_wrapped and fields[program[WRAPPED], KIND] != OBJECT and program[TAKES_ARRAYS] == _ZERO:
        return _ZERO
    for idx in range(program[forms]):
        form: np.uint64 = program[forms + _ONE + idx]
        if all_hold(data, fields, program, program[form + FORM_WHEN]):
            skips = program[form + FORM_SKIPS]
            for skip in range(program[skips]):
                if all_hold(data, fields, program, program[skips + _ONE + skip]):
                    return _ZERO
            return form
    return _ZERO


@allocation_free
def _write_rows(
    data: NDArray[np.uint8],
    program: NDArray[np.uint64],
    exchange: NDArray[np.uint8],
    fields: NDArray[np.uint64],
    items: np.uint64,
    table: SymbolTable,
    rows: NDArray[np.int64],
    words: NDArray[np.uint64],
    row: int,
) -> int:
    """Write the rows of a message; return their number, 0 if the message is left."""
    form = _form_of(data, program, fields)
    if form == _ZERO:
        return 0
    group, count = program[form + FORM_GROUP], 0
    newest_first = program[form + FORM_NEWEST_FIRST] != _ZERO
    if group == _ZERO:
        is_read = _write_row(data, program, exchange, fields, form, _ZERO, table, rows, words, row)
        rows[row, INDEX] = 0
        return 1 if is_read else 0
    for idx in range(items):
        item = items - _ONE - idx if newest_first else idx
        base = program[ROOT_SLOTS] + item * program[ITEM_SLOTS]
        if fields[base, KIND] == group:
            if not _write_row(data, program, exchange, fields, form, base, table, rows, words, row + count):
                return 0
            rows[row + count, INDEX] = count
            count += 1
    return count


@inlined
def _slot(program: NDArray[np.uint64], form: np.uint64, field: np.uint64, base: np.uint64) -> np.uint64:
    """Return the slot of a field: one of the message, or one of an element."""
    place = form + FORM_FIELDS + field * FIELD_WORDS
    slot: np.uint64 = program[place]
    return slot + (base if program[place + _ONE] != _ZERO else _ZERO)


@inlined
def _spec(program: NDArray[np.uint64], field: np.uint64) -> np.uint64:
    specs: np.uint64 = program[SPECS]
    return specs + field * SPEC_WORDS


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
) -> bool:
    """Write the row of one trade; return false if the message is left, in which case the row is undefined."""
    side_slot, time_slot = _slot(program, form, SIDE, base), _slot(program, form, TIME, base)
    has_side, side = read_side(data, fields, side_slot, program, _spec(program, SIDE))
    has_time, time = read_when(data, fields, time_slot, program, _spec(program, TIME))
    rows[row, layout.SIDE], rows[row, TIMESTAMP], rows[row, RECEIVED] = side, time, NULL_TIME
    return (
        has_side
        and has_time
        and _is_market(data, program, fields, form, base)
        and _read_values(data, program, fields, form, base, words, row)
        and _read_identity(data, program, fields, form, base, rows, row)
        and _read_symbol(data, program, exchange, fields, form, base, table, rows, row)
    )


@inlined
def _is_market(
    data: NDArray[np.uint8], program: NDArray[np.uint64], fields: NDArray[np.uint64], form: np.uint64, base: np.uint64
) -> bool:
    """Return whether a trade is surely of the market, by all kinds of the table."""
    kinds = program[KINDS]
    for idx in range(program[kinds]):
        slot, rule = _slot(program, form, FIXED_FIELDS + idx, base), kinds + _ONE + idx * _TWO
        is_missing = program[rule] != _ZERO and is_absent(fields, slot)
        if not is_missing and find_value(data, fields, slot, program, program[rule + _ONE]) == _ZERO:
            return False
    return True


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
    spec, slot = _spec(program, field), _slot(program, form, field, base)
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
    spec, slot = _spec(program, SEQUENCE), _slot(program, form, SEQUENCE, base)
    has_number = program[spec + ACCEPTS] != _ZERO
    rows[row, layout.SEQUENCE], rows[row, HAS_SEQUENCE] = 0, has_number
    rows[row, ID_START], rows[row, ID_SIZE] = 0, -1
    if has_number:
        start, end = fields[slot, START], fields[slot, END]
        if not accepts(fields, slot, program, spec):
            return False
        is_valid, number = read_number(data, start, end)
        if not is_valid:
            return False
        rows[row, layout.SEQUENCE] = number
        rows[row, ID_START], rows[row, ID_SIZE] = signed(start), signed(end) - signed(start)
    spec, slot = _spec(program, TRADE_ID), _slot(program, form, TRADE_ID, base)
    if program[spec + ACCEPTS] == _ZERO or (program[spec + OPTIONAL] != _ZERO and is_absent(fields, slot)):
        return True
    is_valid, start_of_id, size = read_name(data, fields, slot, program, spec, ID_BYTES_MAX)
    rows[row, ID_START], rows[row, ID_SIZE] = start_of_id, size
    return is_valid


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
) -> bool:
    spec, slot = _spec(program, SYMBOL), _slot(program, form, SYMBOL, base)
    is_valid, start, size = read_name(data, fields, slot, program, spec, SYMBOL_BYTES_MAX)
    if not is_valid:
        return False
    exchange_start, exchange_size = signed(_ZERO), signed(_ZERO)
    if len(exchange) == 0:
        spec, slot = _spec(program, EXCHANGE), _slot(program, form, EXCHANGE, base)
        is_valid, exchange_start, exchange_size = read_name(data, fields, slot, program, spec, EXCHANGE_BYTES_MAX)
        if not is_valid:
            return False
        symbol_id = lookup(table, data, exchange_start, exchange_size, data, start, size)
    else:
        symbol_id = lookup(table, exchange, exchange_start, len(exchange), data, start, size)
    rows[row, layout.SYMBOL] = symbol_id
    if symbol_id < 0:
        rows[row, EXCHANGE_START], rows[row, EXCHANGE_SIZE] = exchange_start, exchange_size
        rows[row, SYMBOL_START], rows[row, SYMBOL_SIZE] = start, size
    return True
