"""A compiled reader of flat JSON objects: where the wanted values lie, or that it is not sure.

It takes a part of RFC 8259 and no more: one object of scalars, strings of printable ASCII without escapes,
each wanted key at most once. A message that it refuses may be well-formed: the reference decoder says.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled

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
    "signed",
]

KIND: Final = 0
"""Column of a field's kind."""
START: Final = 1
"""Column of where its value starts; a string's, behind the quote."""
END: Final = 2
"""Column of where its value ends, exclusive; a string's, at the quote."""

ABSENT: Final = np.uint64(0)
STRING: Final = np.uint64(1)
INTEGER: Final = np.uint64(2)
"""A number without fraction or exponent."""
NUMBER: Final = np.uint64(3)
TRUE: Final = np.uint64(4)
FALSE: Final = np.uint64(5)
NULL: Final = np.uint64(6)

_ZERO, _ONE = np.uint64(0), np.uint64(1)
_INTEGER_DIGITS_MAX: Final = np.uint64(18)
_BLANK, _TAB, _NEWLINE, _RETURN = (int(character) for character in b" \t\n\r")
_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = (int(character) for character in b'",:{}')
_BACKSLASH, _OPEN_ARRAY, _CLOSE_ARRAY = (int(character) for character in b"\\[]")
_MINUS, _PLUS, _POINT, _DIGIT_0, _DIGIT_9 = (int(character) for character in b"-+.09")
_SMALL_E, _LARGE_E, _SMALL_T, _SMALL_F, _SMALL_N = (int(character) for character in b"eEtfn")
_ENDS_STRING: Final = np.array([not 0x20 <= byte <= 0x7E or byte in b'"\\' for byte in range(256)])
"""bool[256]: the closing quote, and what is not plain."""
_TRUE_WORD, _FALSE_WORD, _NULL_WORD = (np.frombuffer(word, dtype=np.uint8) for word in (b"true", b"false", b"null"))


class Keys(NamedTuple):
    """The keys that a venue's decoder wants, in the order in which its messages mostly bear them."""

    text: NDArray[np.uint8]
    starts: NDArray[np.uint64]
    sizes: NDArray[np.uint64]


def keys_of(*names: str) -> Keys:
    """Lay out keys for `scan_object`; a key's number is its place here."""
    sizes = np.array([len(name) for name in names], dtype=np.uint64)
    return Keys(
        np.frombuffer("".join(names).encode(), dtype=np.uint8), np.cumsum(sizes, dtype=np.uint64) - sizes, sizes
    )


@compiled
def _past_blanks(data: NDArray[np.uint8], place: np.uint64, end: np.uint64) -> np.uint64:
    while place < end:
        character = data[place]
        if character > _BLANK:
            return place
        if character not in (_BLANK, _NEWLINE, _RETURN, _TAB):
            return place
        place += _ONE
    return place


@compiled
def _string_end(data: NDArray[np.uint8], place: np.uint64, end: np.uint64) -> np.uint64:
    """Return where the closing quote lies; `end` where a character comes before it that is not plain."""
    while place < end:
        character = data[place]
        if _ENDS_STRING[character]:
            return place if character == _QUOTE else end
        place += _ONE
    return end


@compiled
def _past_digits(data: NDArray[np.uint8], place: np.uint64, end: np.uint64) -> np.uint64:
    while place < end and _DIGIT_0 <= data[place] <= _DIGIT_9:
        place += _ONE
    return place


@compiled
def _number(data: NDArray[np.uint8], place: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read a number by JSON's grammar: (its kind, where it ends); `ABSENT` where there is none."""
    if place < end and data[place] == _MINUS:
        place += _ONE
    after = _past_digits(data, place, end)
    if after == place or (data[place] == _DIGIT_0 and after > place + _ONE):
        return ABSENT, place
    kind = INTEGER
    if after < end and data[after] == _POINT:
        kind, place = NUMBER, after + _ONE
        after = _past_digits(data, place, end)
        if after == place:
            return ABSENT, place
    if after < end and (data[after] == _SMALL_E or data[after] == _LARGE_E):
        kind, place = NUMBER, after + _ONE
        if place < end and (data[place] == _MINUS or data[place] == _PLUS):
            place += _ONE
        after = _past_digits(data, place, end)
        if after == place:
            return ABSENT, place
    return kind, after


@compiled
def _is_word(data: NDArray[np.uint8], place: np.uint64, end: np.uint64, word: NDArray[np.uint8]) -> bool:
    if end - place < np.uint64(len(word)):
        return False
    for character in word:
        if data[place] != character:
            return False
        place += _ONE
    return True


@compiled
def _scalar(data: NDArray[np.uint8], place: np.uint64, end: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read what is no string: (its kind, where it ends); `ABSENT` where it is not surely understood."""
    if place >= end:
        return ABSENT, place
    character = data[place]
    if character == _SMALL_T and _is_word(data, place, end, _TRUE_WORD):
        return TRUE, place + np.uint64(4)
    if character == _SMALL_F and _is_word(data, place, end, _FALSE_WORD):
        return FALSE, place + np.uint64(5)
    if character == _SMALL_N and _is_word(data, place, end, _NULL_WORD):
        return NULL, place + np.uint64(4)
    return _number(data, place, end)


@compiled
def _find_key(data: NDArray[np.uint8], start: np.uint64, end: np.uint64, keys: Keys, guess: np.uint64) -> np.uint64:
    """Return a key's number, looked for from `guess` on and around; the count of keys where it is unknown."""
    text, starts, sizes = keys
    count, size = np.uint64(len(sizes)), end - start
    key = guess
    for _ in range(count):
        if key >= count:
            key = _ZERO
        if sizes[key] == size:
            offset, place = starts[key], _ZERO
            while place < size and data[start + place] == text[offset + place]:
                place += _ONE
            if place == size:
                return key
        key += _ONE
    return count


@compiled
def scan_object(
    data: NDArray[np.uint8], place: np.uint64, end: np.uint64, keys: Keys, fields: NDArray[np.uint64]
) -> bool:
    """Find the wanted values of the object that is all of data[place:end]; false where it is not sure.

    `fields` is uint64[keys, 3]: kind, start and end of each wanted value, of which nothing counts after a false.
    """
    fields[:, KIND] = ABSENT
    count, guess = np.uint64(len(keys.sizes)), _ZERO
    place = _past_blanks(data, place, end)
    if place >= end or data[place] != _OPEN:
        return False
    while True:
        place = _past_blanks(data, place + _ONE, end)
        if place >= end or data[place] != _QUOTE:
            return False
        key_start = place + _ONE
        key_end = _string_end(data, key_start, end)
        if key_end >= end:
            return False
        place = _past_blanks(data, key_end + _ONE, end)
        if place >= end or data[place] != _COLON:
            return False
        start = _past_blanks(data, place + _ONE, end)
        if start < end and data[start] == _QUOTE:
            start, kind = start + _ONE, STRING
            value_end = _string_end(data, start, end)
            if value_end >= end:
                return False
            place = value_end + _ONE
        else:
            kind, value_end = _scalar(data, start, end)
            if kind == ABSENT:
                return False
            place = value_end
        key = _find_key(data, key_start, key_end, keys, guess)
        if key < count:
            if fields[key, KIND] != ABSENT:
                return False
            fields[key, KIND], fields[key, START], fields[key, END] = kind, start, value_end
            guess = key + _ONE
        place = _past_blanks(data, place, end)
        if place >= end:
            return False
        if data[place] == _CLOSE:
            return bool(_past_blanks(data, place + _ONE, end) == end)
        if data[place] != _COMMA:
            return False


@compiled
def signed(place: np.uint64) -> Any:
    """Return a place as int64: numba makes a float of a sum of both kinds."""
    return np.int64(place)


@compiled
def read_integer(data: NDArray[np.uint8], start: np.uint64, end: np.uint64) -> tuple[bool, int]:
    """Read a JSON integer of at most 18 digits: (whether it is one, its value); "-0" is left aside."""
    negative = data[start] == _MINUS
    place = start + _ONE if negative else start
    if end - place > _INTEGER_DIGITS_MAX:
        return False, 0
    value = 0
    while place < end:
        value = value * 10 + (signed(data[place]) - _DIGIT_0)
        place += _ONE
    if negative:
        return bool(value != 0), -value
    return True, value


@compiled
def nesting(text: NDArray[np.uint8]) -> int:
    """Return how deep objects and arrays are nested in a JSON text; braces inside strings do not count.

    `text` uint8[bytes]; of bytes that are no JSON the answer is some number.
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
