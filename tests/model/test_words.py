"""Text read eight bytes at a time is what it is byte by byte, wherever it is in an array."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from k2.model.words_compiled import DIGITS_MAX, compact, equal_bytes, read_digits, word_at

AROUND = st.binary(max_size=30)


def array(text: bytes) -> NDArray[np.uint8]:
    """Return bytes as compiled rules take them."""
    return np.frombuffer(text, dtype=np.uint8)


@given(st.binary(min_size=8, max_size=8), AROUND)
def test_a_word_has_its_first_byte_lowest(text: bytes, before: bytes) -> None:
    """As on a little-endian machine."""
    assert int(word_at(array(before + text), np.uint64(len(before)))) == int.from_bytes(text, "little")


@given(st.text("0123456789", max_size=20).map(str.encode) | st.binary(max_size=20), AROUND, AROUND)
@example(b"9" * 18, b"", b"")
@example(b"1234567:", b"x" * 24, b"")
@example(b"/2345678", b"x" * 24, b"9")
def test_digits_are_read(text: bytes, before: bytes, after: bytes) -> None:
    """1 to 18 of them, whatever is around them; other bytes are no digits."""
    start, end = np.uint64(len(before)), np.uint64(len(before) + len(text))
    is_valid, value = read_digits(array(before + text + after), start, end)
    assert is_valid == (0 < len(text) <= DIGITS_MAX and all(byte in b"0123456789" for byte in text))
    if is_valid:
        assert int(value) == int(text)


@given(st.binary(max_size=24), st.integers(0, 23), st.integers(0, 255), AROUND)
def test_ranges_are_compared(text: bytes, at: int, byte: int, before: bytes) -> None:
    """Each byte counts, and those around them do not."""
    other = text[:at] + bytes([byte]) + text[at + 1 :] if at < len(text) else text
    size, start = np.uint64(len(text)), np.uint64(len(before))
    assert equal_bytes(array(before + text), start, array(other + before), np.uint64(0), size) == (text == other)


@given(
    pieces=st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=20),
    before=st.binary(max_size=9),
    data=st.data(),
)
def test_ranges_are_copied_one_after_the_other(pieces: list[bytes | None], before: bytes, data: st.DataObject) -> None:
    """In any order, at any place of the source; what is absent takes no bytes."""
    order = data.draw(st.permutations(range(len(pieces))))
    source, starts = bytearray(before), [0] * len(pieces)
    for idx in order:
        starts[idx] = len(source)
        source += pieces[idx] or b""
    sizes = np.array([-1 if piece is None else len(piece) for piece in pieces], dtype=np.int32)
    copied, new_starts = compact(np.frombuffer(source, dtype=np.uint8), np.array(starts, dtype=np.int64), sizes)
    assert copied.tobytes() == b"".join(piece or b"" for piece in pieces)
    assert new_starts.tolist() == [sum(len(piece or b"") for piece in pieces[:idx]) for idx in range(len(pieces))]
