"""Compiled scanner of flat JSON objects: finds the positions of requested values, or rejects the message.

It accepts a subset of RFC 8259: one object of scalars, strings of printable ASCII without escapes, each requested key
at most once. A rejected message may still be well-formed; the reference decoder decides.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free, inlined
from k2.model.words_compiled import HIGH_BITS, ONES, equal_bytes, first_flagged, read_digits, word_at

__all__ = [
    "ABSENT",
    "END",
    "FALSE",
    "INTEGER",
    "KIND",
    "NULL",
    "NUMBER",
    "START",
    "STRING",
    "TRUE",
    "Keys",
    "keys_of",
    "nesting",
    "read_integer",
    "scan_object",
    "scan_scalar",
    "short_string_end",
    "signed",
    "skip_blanks",
    "string_end",
]

KIND: Final = 0
"""Column of the kind of a field."""
START: Final = 1
"""Column of the start of the value; for a string, after the opening quote."""
END: Final = 2
"""Column of the exclusive end of the value; for a string, the closing quote."""

ABSENT: Final = np.uint64(0)
STRING: Final = np.uint64(1)
INTEGER: Final = np.uint64(2)
"""A number without fraction or exponent."""
NUMBER: Final = np.uint64(3)
TRUE: Final = np.uint64(4)
FALSE: Final = np.uint64(5)
NULL: Final = np.uint64(6)

_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
_AROUND_KEY: Final = np.uint64(3)
"""Two quotes and the colon."""
_QUOTES, _BACKSLASHES, _BLANKS = (np.uint64(byte) * ONES for byte in b'"\\ ')
_BLANK, _TAB, _NEWLINE, _RETURN = (int(character) for character in b" \t\n\r")
_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = (int(character) for character in b'",:{}')
_BACKSLASH, _OPEN_ARRAY, _CLOSE_ARRAY = (int(character) for character in b"\\[]")
_MINUS, _PLUS, _POINT, _DIGIT_0, _DIGIT_9 = (int(character) for character in b"-+.09")
_SMALL_E, _LARGE_E, _SMALL_T, _SMALL_F, _SMALL_N = (int(character) for character in b"eEtfn")
_ENDS_STRING: Final = np.array([not 0x20 <= byte <= 0x7E or byte in b'"\\' for byte in range(256)])
"""bool[256]: characters that end a plain string: the closing quote, and those that are not accepted in one."""
_TRUE_WORD, _FALSE_WORD, _NULL_WORD = (np.frombuffer(word, dtype=np.uint8) for word in (b"true", b"false", b"null"))


class Keys(NamedTuple):
    """The keys that a decoder requests, in the usual order of its messages."""

    text: NDArray[np.uint8]
    """uint8[bytes]: all keys as they are written, with quotes and colon, concatenated."""
    starts: NDArray[np.uint64]
    """uint64[keys], into `text`: the quote before the key."""
    sizes: NDArray[np.uint64]
    """uint64[keys], bytes of the key alone."""


def keys_of(*names: str) -> Keys:
    """Lay out keys for `scan_object`; the index of a key is its position in `names`."""
    written = [f'"{name}":'.encode() for name in names]
    sizes = np.array([len(text) for text in written], dtype=np.uint64)
    return Keys(
        np.frombuffer(b"".join(written), dtype=np.uint8),
        np.cumsum(sizes, dtype=np.uint64) - sizes,
        sizes - _AROUND_KEY,
    )


@allocation_free
def skip_blanks(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return the position of the next character that is not a blank; `end` if there is none."""
    while position < end:
        character = data[position]
        if character > _BLANK:
            return position
        if character not in (_BLANK, _NEWLINE, _RETURN, _TAB):
            return position
        position += _ONE
    return position


@allocation_free
def string_end(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return the position of the closing quote; `end` if a character before it is not plain."""
    while position + _EIGHT <= end:
        word = word_at(data, position)
        # The highest bit is set of the bytes 0x22 and 0x5C, of those below 0x20 and of those above 0x7E, and perhaps of
        # others after the first of these, by a carry.
        flags = ((word ^ _QUOTES) - ONES) | ((word ^ _BACKSLASHES) - ONES) | (word - _BLANKS) | (word + ONES) | word
        if flags & HIGH_BITS != _ZERO:
            position += first_flagged(flags & HIGH_BITS)
            return position if data[position] == _QUOTE else end
        position += _EIGHT
    return short_string_end(data, position, end)


@inlined
def short_string_end(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return what `string_end` does, byte by byte: faster for the few characters of most keys."""
    while position < end:
        character = data[position]
        if _ENDS_STRING[character]:
            return position if character == _QUOTE else end
        position += _ONE
    return end


@inlined
def _skip_digits(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    while position < end and _DIGIT_0 <= data[position] <= _DIGIT_9:
        position += _ONE
    return position


@inlined
def _number(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Scan a number by the JSON grammar; return (kind, end of the value), with kind `ABSENT` if there is none."""
    if position < end and data[position] == _MINUS:
        position += _ONE
    after = _skip_digits(data, position, end)
    if after == position or (data[position] == _DIGIT_0 and after > position + _ONE):
        return ABSENT, position
    kind = INTEGER
    if after < end and data[after] == _POINT:
        kind, position = NUMBER, after + _ONE
        after = _skip_digits(data, position, end)
        if after == position:
            return ABSENT, position
    if after < end and (data[after] == _SMALL_E or data[after] == _LARGE_E):
        kind, position = NUMBER, after + _ONE
        if position < end and (data[position] == _MINUS or data[position] == _PLUS):
            position += _ONE
        after = _skip_digits(data, position, end)
        if after == position:
            return ABSENT, position
    return kind, after


@allocation_free
def _matches(data: NDArray[np.uint8], position: np.uint64, end: np.uint64, word: NDArray[np.uint8]) -> bool:
    if end - position < np.uint64(len(word)):
        return False
    for character in word:
        if data[position] != character:
            return False
        position += _ONE
    return True


@inlined
def scan_scalar(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Scan a scalar other than a string; return (kind, end of the value), with kind `ABSENT` if it is rejected."""
    if position >= end:
        return ABSENT, position
    character = data[position]
    if character == _SMALL_T and _matches(data, position, end, _TRUE_WORD):
        return TRUE, position + np.uint64(4)
    if character == _SMALL_F and _matches(data, position, end, _FALSE_WORD):
        return FALSE, position + np.uint64(5)
    if character == _SMALL_N and _matches(data, position, end, _NULL_WORD):
        return NULL, position + np.uint64(4)
    return _number(data, position, end)


@allocation_free
def _key_idx(data: NDArray[np.uint8], start: np.uint64, end: np.uint64, keys: Keys, guess: np.uint64) -> np.uint64:
    """Return the index of a key, searched cyclically from `guess`; the number of keys if it is unknown."""
    text, starts, sizes = keys
    count, size = np.uint64(len(sizes)), end - start
    key = guess
    for _ in range(count):
        if key >= count:
            key = _ZERO
        if sizes[key] == size:
            offset, position = starts[key] + _ONE, _ZERO
            while position < size and data[start + position] == text[offset + position]:
                position += _ONE
            if position == size:
                return key
        key += _ONE
    return count


@inlined
def _after_guess(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64, keys: Keys, guess: np.uint64
) -> np.uint64:
    """Return the position after a key that is written as guessed, without blanks; 0 if something else is there."""
    text, starts, sizes = keys
    if guess >= np.uint64(len(sizes)):
        return _ZERO
    size = sizes[guess] + _AROUND_KEY
    if position + size > end or not equal_bytes(data, position, text, starts[guess], size):
        return _ZERO
    return position + size


@allocation_free
def scan_object(
    data: NDArray[np.uint8], position: np.uint64, end: np.uint64, keys: Keys, fields: NDArray[np.uint64]
) -> bool:
    """Scan data[position:end], which must be one object, for the requested values; return whether it was accepted.

    `fields` is uint64[keys, 3], written with kind, start and end of each requested value. It is undefined if the result
    is false.
    """
    fields[:, KIND] = ABSENT
    count, guess = np.uint64(len(keys.sizes)), _ZERO
    position = skip_blanks(data, position, end)
    if position >= end or data[position] != _OPEN:
        return False
    while True:
        key, start = guess, _after_guess(data, position + _ONE, end, keys, guess)
        if start == _ZERO:
            position = skip_blanks(data, position + _ONE, end)
            if position >= end or data[position] != _QUOTE:
                return False
            key_start = position + _ONE
            key_end = string_end(data, key_start, end)
            if key_end >= end:
                return False
            position = skip_blanks(data, key_end + _ONE, end)
            if position >= end or data[position] != _COLON:
                return False
            start = position + _ONE
            key = _key_idx(data, key_start, key_end, keys, guess)
        start = skip_blanks(data, start, end)
        if start < end and data[start] == _QUOTE:
            start, kind = start + _ONE, STRING
            value_end = string_end(data, start, end)
            if value_end >= end:
                return False
            position = value_end + _ONE
        else:
            kind, value_end = scan_scalar(data, start, end)
            if kind == ABSENT:
                return False
            position = value_end
        if key < count:
            if fields[key, KIND] != ABSENT:
                return False
            fields[key, KIND], fields[key, START], fields[key, END] = kind, start, value_end
            guess = key + _ONE
        position = skip_blanks(data, position, end)
        if position >= end:
            return False
        if data[position] == _CLOSE:
            return bool(skip_blanks(data, position + _ONE, end) == end)
        if data[position] != _COMMA:
            return False


@allocation_free
def signed(position: np.uint64) -> Any:
    """Return a position as int64, because numba converts a sum of int64 and uint64 to float."""
    return np.int64(position)


@allocation_free
def read_integer(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, int]:
    """Parse a JSON integer of at most 18 digits; return (whether it was accepted, value). "-0" is rejected."""
    negative = data[start] == _MINUS
    is_valid, digits = read_digits(data, start + _ONE if negative else start, end)
    value = signed(digits)
    return is_valid and not (negative and value == 0), -value if negative else value


@allocation_free
def nesting(text: NDArray[np.uint8]) -> int:
    """Return the nesting depth of objects and arrays in a JSON text; brackets inside strings are ignored.

    `text` is uint8[bytes]. The result is undefined if it is not JSON.
    """
    depth, deepest, in_string, escaped = 0, 0, False, False
    for byte in text:
        if escaped:
            escaped = False
        elif in_string:
            escaped = byte == _BACKSLASH
            in_string = byte != _QUOTE
        elif byte == _QUOTE:
            in_string = True
        elif byte in (_OPEN, _OPEN_ARRAY):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (_CLOSE, _CLOSE_ARRAY):
            depth -= 1
    return deepest
