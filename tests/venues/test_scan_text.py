"""The scanner of strings with escapes and characters beyond ASCII accepts what is JSON in UTF-8."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k2.venues.reading import read_json
from k2.venues.scan import short_string_end, string_end
from k2.venues.scan_text import text_end

ESCAPES = [b"\\", b"\\n", b"\\u00e9", b"\\ud83d", b"\\ude00", b"\\u12", b"\\x"]
CHARACTERS = ["a", '"', "\n", "\x7f", "\x85", "é", "한", "\uffff", "😀"]
NO_CHARACTERS = [
    b"\x80",
    b"\xc2",
    b"\xe2\x82",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\xff",
]
PIECES = st.sampled_from([*ESCAPES, *NO_CHARACTERS, *(one.encode() for one in CHARACTERS)])


def scanned(text: bytes) -> tuple[bool, int]:
    """Return (whether the string before the first closing quote is verbatim, its size; all bytes if it is left)."""
    is_verbatim, end = text_end(np.frombuffer(text, dtype=np.uint8), np.uint64(0), np.uint64(len(text)))
    return bool(is_verbatim), int(end)


@given(st.lists(PIECES | st.binary(max_size=2), max_size=8).map(b"".join))
@example(b"\\ud83d\\ude00")
@example(b"\xf4\x8f\xbf\xbf")
def test_what_is_accepted_is_a_json_string(text: bytes) -> None:
    """A verbatim string is its bytes, without control characters; of no other string is that said."""
    is_verbatim, end = scanned(text + b'"')
    if end > len(text):
        assert end == len(text) + 1
        return
    value = read_json(b'"' + text[:end] + b'"')
    assert is_verbatim == (value.encode(errors="surrogatepass") == text[:end] and not _has_control(value))


@given(
    text=st.text(st.characters(max_codepoint=0x17F)).map(str.encode) | st.binary(max_size=24), size=st.integers(0, 30)
)
@example(text=b'\x7f"\x80\xff', size=8)
@example(text=b'"#!\\] \x1f', size=8)
def test_a_plain_string_ends_at_its_quote(text: bytes, size: int) -> None:
    """The first character that is not plain decides, in whatever place of a word it is."""
    data, end = b"a" * size + text, np.uint64(size + len(text))
    first = next((at for at, byte in enumerate(data) if not 0x20 <= byte <= 0x7E or byte in b'"\\'), len(data))
    expected = first if data[first : first + 1] == b'"' else len(data)
    for scan in (string_end, short_string_end):
        assert scan(np.frombuffer(data + b'""', dtype=np.uint8), np.uint64(0), end) == expected


def _has_control(value: str) -> bool:
    return any(character == "\x7f" or "\x80" <= character <= "\x9f" for character in value)


@given(value=st.text(st.characters(exclude_categories=["Cs"])), is_ascii=st.booleans())
def test_every_string_is_accepted(value: str, *, is_ascii: bool) -> None:
    """Whether it is written with escapes or in UTF-8, to its last byte."""
    text = json.dumps(value, ensure_ascii=is_ascii).encode()[1:]
    assert scanned(text)[1] == len(text) - 1


@pytest.mark.parametrize(
    "text", [b"\\ud83d", b"\\ude00\\ud83d", b"\\ud83d\\n", b"\\u123", b"\\", b"\xed\xa0\x80", b"\n"]
)
def test_other_bytes_are_left(text: bytes) -> None:
    """Half a surrogate pair, an escape that is cut off, a byte that is no character, and a control character."""
    assert scanned(text + b'"') == (False, len(text) + 1)
