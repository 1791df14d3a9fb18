"""Payload formats: gzipped messages give the trades of those that are not, and a damaged one only its dead letter."""

import gzip
import json
import tracemalloc
import zlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import MessageBatch
from k2.model.reasons import Reason, RejectedError, SkippedError
from k2.venues import VENUES
from k2.venues.decode import MESSAGE_BYTES_MAX, decode, decode_by_reference
from k2.venues.payloads import Payload, inflate, unpacked
from tests.venues.messages import batch_of, outcome
from tests.venues.recordings import lines_of

LINES: Final = lines_of("huobi-spot-trade")
PAYLOAD = VENUES["htx"].payload
assert PAYLOAD is not None


def frames(lines: list[bytes]) -> list[bytes]:
    """Return messages as HTX sends them."""
    return [gzip.compress(line, 6) for line in lines]


def agree(batch: MessageBatch) -> bool:
    """Return whether both decoders have the same result."""
    return outcome(decode(batch)) == outcome(decode_by_reference(batch))


def test_frames_are_read_as_their_text() -> None:
    """Every second message of the recording is a gzip frame: trades, replies and heartbeats."""
    mixed = [gzip.compress(line) if idx % 2 else line for idx, line in enumerate(LINES)]
    plain = outcome(decode(batch_of(LINES, "htx")))
    assert len(plain[0]) > 0
    assert not plain[1]
    for values in (mixed, frames(LINES)):
        batch = batch_of(values, "htx")
        assert outcome(decode(batch)) == plain
        assert agree(batch)


def test_frames_are_decoded_by_the_compiled_loop() -> None:
    """Of trades, none is left to the reference decoder; and a batch without frames is not copied."""
    batch = batch_of(frames(LINES), "htx")
    assert isinstance(PAYLOAD, Payload)
    assert [unpacked(batch, PAYLOAD).value(idx) for idx in range(len(batch))] == LINES
    plain = batch_of(LINES, "htx")
    assert unpacked(plain, PAYLOAD) is plain


def test_the_key_of_a_frame_is_that_of_its_text() -> None:
    """`k2 produce` and dead letters find the symbol."""
    line = next(line for line in LINES if b'"tick"' in line)
    assert VENUES["htx"].key(gzip.compress(line)) == VENUES["htx"].key(line) != ""
    with pytest.raises(SkippedError):
        VENUES["htx"].decode(gzip.compress(b'{"ping":1}'))


@pytest.mark.parametrize(
    ("value", "reason", "error"),
    [
        (gzip.compress(LINES[-1])[:-9], Reason.MALFORMED, "value: its gzip has no end"),
        (gzip.compress(LINES[-1])[:11], Reason.MALFORMED, "value: its gzip has no end"),
        (b"\x1f\x8b", Reason.MALFORMED, "value: its gzip has no end"),
        (b"\x1f\x8b\x07" + bytes(20), Reason.MALFORMED, "value: damaged gzip (unknown compression method)"),
        (gzip.compress(LINES[-1]) + b"{}", Reason.MALFORMED, "value: bytes after the end of its gzip"),
        (gzip.compress(LINES[-1])[:-8] + bytes(8), Reason.MALFORMED, "value: damaged gzip (incorrect data check)"),
        (gzip.compress(b""), Reason.MALFORMED, None),
        (gzip.compress(gzip.compress(LINES[-1])), Reason.MALFORMED, None),
        (zlib.compress(LINES[-1]), Reason.MALFORMED, None),
        (gzip.compress(bytes(MESSAGE_BYTES_MAX + 1)), Reason.TOO_LARGE, "value: inflates to more than 1048576 bytes"),
    ],
    # Not the bytes, which have the time of compression: processes that share the tests must name them alike.
    ids=[
        "without its last bytes",
        "of which only the start is there",
        "of two bytes",
        "of another method",
        "followed by other bytes",
        "with a wrong checksum",
        "of nothing",
        "in a frame",
        "of zlib",
        "that inflates to too much",
    ],
)
def test_a_damaged_frame_is_a_dead_letter_of_its_own(value: bytes, reason: Reason, error: str | None) -> None:
    """Its neighbours are stored; the batch, of which dead letters take the bytes, has the frame as it came."""
    good = next(line for line in LINES if b'"tick"' in line)
    batch = batch_of([good, value, gzip.compress(good)], "htx")
    assert agree(batch)
    decoded = decode(batch)
    [(message_idx, rejection)] = decoded.rejected
    assert (message_idx, rejection.reason) == (1, reason)
    assert error is None or rejection.error == error
    assert set(decoded.trades.columns.messages.tolist()) == {0, 2}
    assert decoded.trades.source.value(1) == value


def test_a_frame_of_the_largest_size_is_inflated() -> None:
    """The limit is that of a message."""
    text = json.dumps({"ping": "x" * (MESSAGE_BYTES_MAX - 12)}).encode()
    assert len(text) == MESSAGE_BYTES_MAX
    assert inflate(gzip.compress(text)) == text


def test_a_bomb_takes_no_more_memory_than_a_message() -> None:
    """A hundred megabytes of zeros in a tenth of one of gzip."""
    stream = zlib.compressobj(9, wbits=31)
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(100)) + stream.flush()
    tracemalloc.start()
    try:
        with pytest.raises(RejectedError, match="inflates to more than"):
            inflate(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * MESSAGE_BYTES_MAX
    finally:
        tracemalloc.stop()


@given(st.lists(st.binary(max_size=40).map(lambda tail: b"\x1f\x8b" + tail) | st.none() | st.sampled_from(LINES)))
def test_both_decoders_agree_on_anything_that_begins_as_gzip(values: list[bytes | None]) -> None:
    """With tombstones and plain messages between."""
    assert agree(batch_of(values, "htx"))
