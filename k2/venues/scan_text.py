"""Compiled scanner of JSON strings that are not plain: with escapes, or characters beyond ASCII.

It accepts a subset of RFC 8259 and of UTF-8: no surrogate without its other half.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import allocation_free

__all__ = ["text_end"]

_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(number) for number in range(5))
_ESCAPE_SIZE, _UNICODE_SIZE = _TWO, np.uint64(6)
_QUOTE, _BACKSLASH, _SMALL_U = (int(character) for character in b'"\\u')
_DELETE, _FIRST_PRINTABLE, _FIRST_OF_TWO, _CONTINUATION_MAX = 0x7F, 0x20, 0xC2, 0xBF
_CONTROL_MAX: Final = 0x9F
"""Second byte of the last control character beyond ASCII, U+009F; the first byte is 0xC2."""
_IS_ESCAPE: Final = np.array([byte in b'"\\/bfnrt' for byte in range(256)])
"""bool[256]: what may follow a backslash, other than `u`."""
_HEX: Final = np.array([int(chr(byte), 16) if chr(byte) in "0123456789abcdefABCDEF" else -1 for byte in range(256)])
"""int64[256]: the value of a hexadecimal digit, -1 for other characters."""
_HIGH_FIRST, _LOW_FIRST, _LOW_END = 0xD800, 0xDC00, 0xE000
"""UTF-16 surrogates: a high one, then a low one."""


@allocation_free
def text_end(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> tuple[bool, np.uint64]:
    """Scan a string after its opening quote; return (whether it is verbatim, position of the closing quote).

    A verbatim string is its bytes: it has neither escapes nor control characters, which no name may have. The position
    is `end` if the message is left.
    """
    is_verbatim = True
    while position < end:
        byte = data[position]
        if byte == _QUOTE:
            return is_verbatim, position
        if byte == _BACKSLASH:
            size, is_verbatim = _escape_size(data, position, end), False
        elif byte <= _DELETE:
            size = _ONE if byte >= _FIRST_PRINTABLE else _ZERO
            is_verbatim = is_verbatim and byte != _DELETE
        else:
            size = _character_size(data, position, end)
            is_control = size == _TWO and byte == _FIRST_OF_TWO and data[position + _ONE] <= _CONTROL_MAX
            is_verbatim = is_verbatim and not is_control
        if size == _ZERO:
            return False, end
        position += size
    return False, end


@allocation_free
def _escape_size(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return the number of bytes of an escape, with both halves of a surrogate pair; 0 if the message is left."""
    if end - position >= _ESCAPE_SIZE and _IS_ESCAPE[data[position + _ONE]]:
        return _ESCAPE_SIZE
    unit = _code_unit(data, position, end)
    if unit < 0 or _LOW_FIRST <= unit < _LOW_END:
        return _ZERO
    if unit < _HIGH_FIRST or unit >= _LOW_END:
        return _UNICODE_SIZE
    return _TWO * _UNICODE_SIZE if _LOW_FIRST <= _code_unit(data, position + _UNICODE_SIZE, end) < _LOW_END else _ZERO


@allocation_free
def _code_unit(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> int:
    """Return the value of an escape with four hexadecimal digits; -1 if there is none."""
    if end - position < _UNICODE_SIZE or data[position] != _BACKSLASH or data[position + _ONE] != _SMALL_U:
        return -1
    value = 0
    for idx in range(position + _TWO, position + _UNICODE_SIZE):
        digit = _HEX[data[idx]]
        if digit < 0:
            return -1
        value = value * 16 + int(digit)
    return value


@allocation_free
def _character_size(data: NDArray[np.uint8], position: np.uint64, end: np.uint64) -> np.uint64:
    """Return the number of bytes of a character beyond ASCII, by table 3-7 of the Unicode standard; 0 if it is none."""
    first = data[position]
    lowest, highest = 0x80, _CONTINUATION_MAX
    if _FIRST_OF_TWO <= first <= 0xDF:
        size = _TWO
    elif 0xE0 <= first <= 0xEF:
        size = _THREE
        lowest, highest = 0xA0 if first == 0xE0 else lowest, 0x9F if first == 0xED else highest
    elif 0xF0 <= first <= 0xF4:
        size = _FOUR
        lowest, highest = 0x90 if first == 0xF0 else lowest, 0x8F if first == 0xF4 else highest
    else:
        return _ZERO
    if end - position < size:
        return _ZERO
    for idx in range(position + _ONE, position + size):
        if not lowest <= data[idx] <= highest:
            return _ZERO
        lowest, highest = 0x80, _CONTINUATION_MAX
    return size
