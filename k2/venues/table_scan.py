"""Compiled scanner of JSON messages by the states of a table: finds the values of all its paths, or leaves the message.

It accepts a subset of RFC 8259: escapes only in values that no path names, and each key that the table names at most
once in its object. A message that is left may still be well-formed; the reference decoder decides.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, inlined
from k2.venues.rows import TRADES_MAX
from k2.venues.scan import (
    ABSENT,
    END,
    INTEGER,
    KIND,
    START,
    STRING,
    scan_scalar,
    short_string_end,
    skip_blanks,
    string_end,
)
from k2.venues.scan_text import text_end
from k2.venues.table_layout import (
    ARRAY,
    CLOSES,
    EDGE_BIT,
    EDGE_CHILD,
    EDGE_KEY,
    EDGE_MASK,
    EDGE_NEXT,
    EDGE_SIZE,
    ELEMENTS,
    FIRST_EDGES,
    GROUP,
    ITEM_SLOT,
    ITEM_SLOTS,
    OBJECT,
    OPENS,
    ROOT_SLOT,
    ROOT_SLOTS,
    ROOT_STATE,
    TAKES_ARRAYS,
)

__all__ = ["DEPTH_MAX", "clear", "scan_message"]

DEPTH_MAX: Final = 16
"""Nesting of objects and arrays beyond which a message is left."""

_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_DEPTH_MAX, _ITEMS_MAX = np.uint64(DEPTH_MAX), np.uint64(TRADES_MAX)
_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = (int(character) for character in b'",:{}')
_OPEN_ARRAY, _CLOSE_ARRAY, _MINUS, _DIGIT_0 = (int(character) for character in b"[]-0")
_STATE, _BASE, _CLOSING, _SEEN = range(4)
"""Columns of the stack: what is known of a container while the scanner is within it.

Seen is, of an object, the bits of its keys so far, and of an array, where the state of the next element is.
"""
_OBJECT_END, _ARRAY_END = np.uint64(_CLOSE), np.uint64(_CLOSE_ARRAY)


@inlined
def clear(fields: NDArray[np.uint64], first: np.uint64, count: np.uint64) -> None:
    """Mark fields as absent."""
    for field in range(count):
        fields[first + field, KIND] = ABSENT


@inlined
def _record(
    fields: NDArray[np.uint64],
    program: NDArray[np.uint64],
    state: np.uint64,
    base: np.uint64,
    kind: np.uint64,
    start: np.uint64,
    end: np.uint64,
) -> None:
    """Write kind, start and end of a value to its slots; slot 0 takes values that no path names."""
    slot = program[state + ROOT_SLOT]
    fields[slot, KIND], fields[slot, START], fields[slot, END] = kind, start, end
    slot = program[state + ITEM_SLOT]
    if slot != _ZERO:
        slot += base
        fields[slot, KIND], fields[slot, START], fields[slot, END] = kind, start, end


@inlined
def _edge(
    data: NDArray[np.uint8], start: np.uint64, end: np.uint64, program: NDArray[np.uint64], state: np.uint64
) -> np.uint64:
    """Return the edge of a key; 0 if the table does not name it there."""
    edge: np.uint64 = program[state + FIRST_EDGES + (np.uint64(data[start]) & EDGE_MASK)]
    size = end - start
    while edge != _ZERO:
        if program[edge + EDGE_SIZE] == size:
            key, idx = edge + EDGE_KEY, _ZERO
            while idx < size and np.uint64(data[start + idx]) == program[key + idx]:
                idx += _ONE
            if idx == size:
                return edge
        edge = program[edge + EDGE_NEXT]
    return edge


@inlined
def _scan_scalar(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64, program: NDArray[np.uint64], state: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Scan a scalar; return (kind, start, end, position after it), with kind `ABSENT` if the message is left."""
    if data[position] == _QUOTE:
        start = position + _ONE
        value_end = string_end(data, start, end)
        if value_end >= end:
            is_verbatim, value_end = text_end(data, start, end)
            is_used = program[state + ROOT_SLOT] != _ZERO or program[state + ITEM_SLOT] != _ZERO
            value_end = end if is_used and not is_verbatim else value_end
        return (STRING if value_end < end else ABSENT), start, value_end, value_end + _ONE
    kind, value_end = scan_scalar(data, position, end)
    is_negative_digit = kind == INTEGER and value_end - position == _TWO and data[position] == _MINUS
    if is_negative_digit and data[position + _ONE] == _DIGIT_0:
        # -0 is the number 0, whose text is another one.
        kind = ABSENT
    return kind, position, value_end, value_end


@inlined
def _scan_key(
    data: NDArray[np.uint8],
    position: np.uint64,
    end: np.uint64,
    program: NDArray[np.uint64],
    state: np.uint64,
) -> tuple[np.uint64, np.uint64]:
    """Scan a key and its colon; return (edge of the key, position of its value), which is `end` if it is left."""
    if position >= end or data[position] != _QUOTE:
        return _ZERO, end
    start = position + _ONE
    key_end = short_string_end(data, start, end)
    if key_end >= end:
        is_verbatim, key_end = text_end(data, start, end)
        if key_end >= end or not is_verbatim:
            return _ZERO, end
    edge = _edge(data, start, key_end, program, state)
    position = skip_blanks(data, key_end + _ONE, end)
    if position >= end or data[position] != _COLON:
        return _ZERO, end
    return edge, skip_blanks(data, position + _ONE, end)


@inlined
def _begin_item(
    fields: NDArray[np.uint64], program: NDArray[np.uint64], state: np.uint64, item: np.uint64
) -> np.uint64:
    """Clear the fields of an element; return the first of them."""
    base: np.uint64 = program[ROOT_SLOTS] + item * program[ITEM_SLOTS]
    clear(fields, base, program[ITEM_SLOTS])
    fields[base, KIND] = program[state + GROUP]
    return base


@inlined
def _next_child(
    data: NDArray[np.uint8],
    position: np.uint64,
    end: np.uint64,
    program: NDArray[np.uint64],
    stack: NDArray[np.uint64],
    depth: np.uint64,
) -> tuple[np.uint64, np.uint64]:
    """Go to the next value of a container; return (its state, its position), which is `end` if the message is left."""
    parent, seen = stack[depth, _STATE], stack[depth, _SEEN]
    if stack[depth, _CLOSING] == _ARRAY_END:
        stack[depth, _SEEN] = seen + (_ONE if program[seen + _ONE] != _ZERO else _ZERO)
        return np.uint64(program[seen]), position
    edge, position = _scan_key(data, position, end, program, parent)
    bit = program[edge + EDGE_BIT]
    if seen & bit != _ZERO:
        return _ZERO, end
    stack[depth, _SEEN] = seen | bit
    return np.uint64(program[edge + EDGE_CHILD]), position


@allocation_free
def scan_message(
    data: NDArray[np.uint8],
    position: np.uint64,
    end: np.uint64,
    program: NDArray[np.uint64],
    stack: NDArray[np.uint64],
    fields: NDArray[np.uint64],
) -> np.uint64:
    """Scan data[position:end], which must be an object or array, for the values of a table's paths.

    Args:
        data: uint8[bytes].
        position: start of the message.
        end: its exclusive end.
        program: uint64[words], the table.
        stack: uint64[DEPTH_MAX, 4], scratch.
        fields: uint64[slots, 3], written with kind, start and end of the value of each path: first those of the
            message, then those of each element with a trade, whose slot 0 has the number of its list.

    Returns:
        The number of elements plus one; 0 if the message is left, in which case the fields are undefined.
    """
    items, due, depth, state = _ZERO, _ZERO, _ZERO, program[ROOT_STATE]
    stack[depth, _BASE], stack[depth, _CLOSING] = _ZERO, _ZERO
    clear(fields, _ZERO, program[ROOT_SLOTS])
    position = skip_blanks(data, position, end)
    if position >= end or (
        data[position] != _OPEN and (data[position] != _OPEN_ARRAY or program[TAKES_ARRAYS] == _ZERO)
    ):
        return _ZERO
    while True:
        # A value begins here.
        if position >= end:
            return _ZERO
        base = stack[depth, _BASE]
        if program[state + GROUP] != _ZERO:
            if items == _ITEMS_MAX:
                return _ZERO
            base = _begin_item(fields, program, state, items)
            items += _ONE
        due += program[state + OPENS]
        is_array = data[position] == _OPEN_ARRAY
        is_first = is_array or data[position] == _OPEN
        if is_first:
            depth += _ONE
            if depth == _DEPTH_MAX:
                return _ZERO
            _record(fields, program, state, base, ARRAY if is_array else OBJECT, position, position)
            stack[depth, _STATE], stack[depth, _BASE] = state, base
            stack[depth, _SEEN] = program[state + ELEMENTS] if is_array else _ZERO
            stack[depth, _CLOSING] = _ARRAY_END if is_array else _OBJECT_END
            due -= program[state + CLOSES] if is_array else _ZERO
            position += _ONE
        else:
            kind, start, value_end, position = _scan_scalar(data, position, end, program, state)
            if kind == ABSENT:
                return _ZERO
            _record(fields, program, state, base, kind, start, value_end)
        # A value, or the beginning of a container, ends here, and with it perhaps the containers around it.
        position = skip_blanks(data, position, end)
        while position < end and np.uint64(data[position]) == stack[depth, _CLOSING]:
            depth, is_first = depth - _ONE, False
            position = skip_blanks(data, position + _ONE, end)
        if depth == _ZERO:
            return items + _ONE if due == _ZERO and position == end else _ZERO
        if not is_first:
            if position >= end or data[position] != _COMMA:
                return _ZERO
            position = skip_blanks(data, position + _ONE, end)
        state, position = _next_child(data, position, end, program, stack, depth)
