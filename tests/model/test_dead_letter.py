"""A dead letter: its line preserves the message, whatever the bytes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.dead_letter import Coordinates, DeadLetter
from k2.model.reasons import Reason


def batch(value: bytes | None, *, key: bytes | None = None, timestamp: int = 0) -> MessageBatch:
    """Return a batch of one message."""
    data = np.frombuffer((value or b"") + (key or b""), np.uint8)
    sizes = [np.array([-1 if part is None else len(part)], np.int32) for part in (value, key)]
    starts = [np.array([0], np.int64), np.array([len(value or b"")], np.int64)]
    times = np.array([timestamp], np.int64)
    offsets = np.array([7], np.int64)
    return MessageBatch("trades", 0, "k2", 7, 8, offsets, times, data, starts[0], sizes[0], starts[1], sizes[1])


@given(value=st.none() | st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_any_bytes_survive_a_round_trip(value: bytes | None) -> None:
    """No bytes are lost when a letter is written to a line and read back; a line has one newline, at its end."""
    line = DeadLetter.of(batch(value, key=value), 0, Reason.INVALID, "bad").line()
    found = DeadLetter.parse(line)
    assert (found.value_bytes(), found.key_bytes()) == (value, value)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (1_723_161_255_342_000, "2024-08-08T23:54:15.342000Z"),
        (NULL_TIME, None),
        (2**62, None),
        (-(2**62), None),
    ],
)
def test_kafka_timestamps(timestamp: int, expected: str | None) -> None:
    """A timestamp that is absent, or that no calendar can represent, is null."""
    line = DeadLetter.of(batch(b"{", timestamp=timestamp), 0, Reason.MALFORMED, "bad").line()
    assert json.loads(line)["kafka_timestamp"] == expected


def test_a_dead_letter_names_the_position_of_its_trade() -> None:
    """It is the first trade of the message, unless another index is given."""
    letters = [DeadLetter.of(batch(b"{"), 0, Reason.INVALID, "bad", *place) for place in ((), (3,))]
    assert [one.coordinates for one in letters] == [Coordinates("trades", 0, 7), Coordinates("trades", 0, 7, 3)]
    assert [DeadLetter.parse(one.line()) for one in letters] == letters
    assert letters[0].index == letters[0].coordinates.index == 0


def test_fields_of_conflicts_are_optional() -> None:
    """A dead letter with another reason has none of them, and a line of an earlier version is read without them."""
    letter = DeadLetter.of(batch(b"{"), 0, Reason.MALFORMED, "bad")
    own = {"exchange", "symbol", "sequence", "session", "timestamp"}
    assert own.isdisjoint(json.loads(letter.line()))
    old = DeadLetter.parse(letter.line().replace(b"malformed", b"conflict"))
    assert (old.reason, {getattr(old, name) for name in own}) == (Reason.CONFLICT, {None})
