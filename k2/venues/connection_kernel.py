"""Compiled reader of the numbers of connections: it looks at the top level of a message alone.

What is nested deeper is passed over, not checked. A message that it leaves may still have a number.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, compiled
from k2.venues.rows import MESSAGE_BYTES_MAX
from k2.venues.scan import ABSENT, INTEGER, NULL, STRING, read_integer, scan_scalar, skip_blanks, string_end

__all__ = ["FOUND", "IN_OBJECT", "LEFT", "NONE", "NOWHERE", "Place", "group_ids", "read_numbers"]

NONE: Final = 0
"""The message has no number."""
FOUND: Final = 1
LEFT: Final = 2
"""The message is for the reference reader."""

LAST: Final = -1
"""Stands for the last element of an array."""
IN_OBJECT: Final = -2
"""Stands for a value in an object."""
NOWHERE: Final = -3
"""Stands for a value that no message has."""
ID_DIGITS_MAX: Final = 18
_ZERO, _ONE, _TWO = np.uint64(0), np.uint64(1), np.uint64(2)
_OTHER: Final = np.uint64(100)
"""Kind of an object or array, and of text with characters that are not plain; above those of `k2.venues.scan`."""
_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = (int(character) for character in b'",:{}')
_BACKSLASH, _OPEN_ARRAY, _CLOSE_ARRAY, _MINUS = (int(character) for character in b"\\[]-")


class Place(NamedTuple):
    """Where a value is at the top level of a message."""

    key: NDArray[np.uint8]
    """uint8[bytes], the key of an object; empty for an element of an array."""
    element: int
    """The index in an array, or `LAST`, `IN_OBJECT` or `NOWHERE`."""


@allocation_free
def _text_end(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return the position of the closing quote of any text; `end` if there is none."""
    while position < end:
        if data[position] == _QUOTE:
            return position
        position += _TWO if data[position] == _BACKSLASH else _ONE
    return end


@allocation_free
def _container_end(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return the position after an object or array that begins at `position`; `end` if it does not end."""
    depth = _ZERO
    while position < end:
        character = data[position]
        if character == _QUOTE:
            position = _text_end(data, position + _ONE, end)
        elif character in (_OPEN, _OPEN_ARRAY):
            depth += _ONE
        elif character in (_CLOSE, _CLOSE_ARRAY):
            depth -= _ONE
            if depth == _ZERO:
                return position + _ONE
        position += _ONE
    return end


@allocation_free
def _value(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Scan a value; return (kind, start, end, position after it), with kind `ABSENT` if it is none."""
    if position >= end:
        return ABSENT, position, position, end
    if data[position] == _QUOTE:
        start = position + _ONE
        value_end = string_end(data, start, end)
        if value_end < end:
            return STRING, start, value_end, value_end + _ONE
        value_end = _text_end(data, start, end)
        return (_OTHER if value_end < end else ABSENT), start, value_end, value_end + _ONE
    if data[position] in (_OPEN, _OPEN_ARRAY):
        after = _container_end(data, position, end)
        return _OTHER, position, after, after
    kind, value_end = scan_scalar(data, position, end)
    return kind, position, value_end, value_end


@allocation_free
def _is_key(data: NDArray[np.uint8], start: np.uint64, end: np.uint64, key: NDArray[np.uint8]) -> bool:
    if end - start != np.uint64(len(key)):
        return False
    for character in key:
        if data[start] != character:
            return False
        start += _ONE
    return True


@allocation_free
def _set_field(fields: NDArray[np.uint64], field: int, kind: np.uint64, start: np.uint64, end: np.uint64) -> None:
    fields[field, 0], fields[field, 1], fields[field, 2] = kind, start, end


@allocation_free
def _scan_object(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64, number: Place, name: Place, fields: NDArray[np.uint64]
) -> int:
    """Scan the members of an object, from its first key on; see `_scan`."""
    while True:
        if position >= end or data[position] != _QUOTE:
            return LEFT
        key_start = position + _ONE
        key_end = string_end(data, key_start, end)
        position = skip_blanks(data, key_end + _ONE, end)
        if key_end >= end or position >= end or data[position] != _COLON:
            return LEFT
        kind, start, value_end, position = _value(data, skip_blanks(data, position + _ONE, end), end)
        if kind == ABSENT:
            return LEFT
        for field, place in enumerate((number, name)):
            if place.element == IN_OBJECT and _is_key(data, key_start, key_end, place.key):
                if fields[field, 0] != ABSENT:
                    return LEFT
                _set_field(fields, field, kind, start, value_end)
        position = skip_blanks(data, position, end)
        if position >= end or data[position] not in (_COMMA, _CLOSE):
            return LEFT
        if data[position] == _CLOSE:
            return FOUND if skip_blanks(data, position + _ONE, end) == end else LEFT
        position = skip_blanks(data, position + _ONE, end)


@allocation_free
def _scan_array(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64, number: Place, name: Place, fields: NDArray[np.uint64]
) -> int:
    """Scan the elements of an array, from its first on; see `_scan`."""
    element = 0
    while True:
        kind, start, value_end, position = _value(data, position, end)
        if kind == ABSENT:
            return LEFT
        for field, place in enumerate((number, name)):
            if place.element in (element, LAST):
                _set_field(fields, field, kind, start, value_end)
        position = skip_blanks(data, position, end)
        if position >= end or data[position] not in (_COMMA, _CLOSE_ARRAY):
            return LEFT
        if data[position] == _CLOSE_ARRAY:
            return FOUND if skip_blanks(data, position + _ONE, end) == end else LEFT
        position, element = skip_blanks(data, position + _ONE, end), element + 1


@allocation_free
def _scan(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64, number: Place, name: Place, fields: NDArray[np.uint64]
) -> int:
    """Scan data[position:end] for two values; return `FOUND` if it was scanned, `NONE` if it is another container.

    `fields` is uint64[2, 3], written with kind, start and end of the number and of the id.
    """
    fields[:, 0] = ABSENT
    is_object = number.element == IN_OBJECT
    position = skip_blanks(data, position, end)
    if position >= end or data[position] != (_OPEN if is_object else _OPEN_ARRAY):
        return NONE
    position = skip_blanks(data, position + _ONE, end)
    if position < end and data[position] == (_CLOSE if is_object else _CLOSE_ARRAY):
        return NONE
    if is_object:
        return _scan_object(data, position, end, number, name, fields)
    return _scan_array(data, position, end, number, name, fields)


@compiled
def read_numbers(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    number: Place,
    name: Place,
    numbers: NDArray[np.int64],
    id_starts: NDArray[np.int64],
    id_sizes: NDArray[np.int64],
    results: NDArray[np.int8],
) -> None:
    """Read the number and the id of n messages.

    Args:
        data: uint8[bytes].
        starts: int64[n], into `data`.
        sizes: int32[n], -1 for a null value.
        number: where the number is.
        name: where the id is.
        numbers: int64[n], written where the result is `FOUND`.
        id_starts: int64[n], into `data`, written likewise.
        id_sizes: int64[n], written likewise; 0 if no id is read.
        results: int8[n], written with `NONE`, `FOUND` or `LEFT`.
    """
    fields = np.empty((2, 3), dtype=np.uint64)
    for message in range(len(starts)):
        results[message] = NONE
        if sizes[message] <= 0 or sizes[message] > MESSAGE_BYTES_MAX:
            continue
        start = np.uint64(starts[message])
        result = _scan(data, start, start + np.uint64(sizes[message]), number, name, fields)
        if result == FOUND:
            result = _result(data, fields, name)
        if result == FOUND:
            _, numbers[message] = read_integer(data, fields[0, 1], fields[0, 2])
            id_starts[message] = np.int64(fields[1, 1])
            id_sizes[message] = np.int64(fields[1, 2] - fields[1, 1]) if name.element != NOWHERE else 0
        results[message] = result


@allocation_free
def _result(data: NDArray[np.uint8], fields: NDArray[np.uint64], name: Place) -> int:
    """Return whether a scanned message has a number; only what is plain is accepted."""
    kind = fields[0, 0]
    if kind in (ABSENT, NULL):
        return NONE
    if kind != INTEGER or data[fields[0, 1]] == _MINUS or not read_integer(data, fields[0, 1], fields[0, 2])[0]:
        return LEFT
    if name.element == NOWHERE:
        return FOUND
    kind, size = fields[1, 0], fields[1, 2] - fields[1, 1]
    if kind in (ABSENT, NULL):
        return NONE
    if kind == STRING:
        return FOUND if _ZERO < size <= np.uint64(255) else LEFT
    is_plain = kind == INTEGER and data[fields[1, 1]] != _MINUS and size <= np.uint64(ID_DIGITS_MAX)
    return FOUND if is_plain else LEFT


@compiled
def group_ids(
    data: NDArray[np.uint8],
    messages: NDArray[np.int64],
    id_starts: NDArray[np.int64],
    id_sizes: NDArray[np.int64],
    codes: NDArray[np.int32],
    firsts: NDArray[np.int64],
) -> int:
    """Number the distinct ids of m messages in the order in which they appear; return how many there are.

    Args:
        data: uint8[bytes].
        messages: int64[m], indices of the messages.
        id_starts: int64[n], by message, into `data`.
        id_sizes: int64[n], likewise.
        codes: int32[n], written for each of `messages` with the number of its id.
        firsts: int64[m], written with the first message of each id.
    """
    count, code = 0, 0
    for message in messages:
        # Messages of one connection come in runs, so the search begins with the id of the message before.
        found = -1
        for step in range(count):
            other = code + step if code + step < count else code + step - count
            if _is_same(data, id_starts, id_sizes, message, firsts[other]):
                found = other
                break
        if found < 0:
            found, count = count, count + 1
            firsts[found] = message
        code = found
        codes[message] = found
    return count


@allocation_free
def _is_same(
    data: NDArray[np.uint8], id_starts: NDArray[np.int64], id_sizes: NDArray[np.int64], message: int, other: int
) -> bool:
    if id_sizes[message] != id_sizes[other]:
        return False
    start, other_start = id_starts[message], id_starts[other]
    for idx in range(id_sizes[message]):
        if data[start + idx] != data[other_start + idx]:
            return False
    return True
