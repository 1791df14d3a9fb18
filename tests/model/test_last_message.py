"""The hash of the last message read: the same for ever, and another for any other message."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.last_message import LastMessage, message_hash
from k2.model.progress import TopicPartition

PARTS = st.none() | st.binary(max_size=12)
TIMES = st.integers(-(2**63), 2**63 - 1)
MESSAGES = st.tuples(PARTS, PARTS, TIMES)


@pytest.mark.parametrize(
    ("key", "value", "timestamp", "expected"),
    [
        (b"x|S", b'{"price":"1"}', 1_700_000_000_000_000, "cfa8e179c5207527"),
        (None, None, NULL_TIME, "b67876fae2097102"),
        (b"", b"", 0, "2bb6ae06ad472028"),
        (None, b"", 0, "4fdcbdff45a04daa"),
        (b"k", bytes(range(256)) * 5_000, -1, "bc3a7388399979f8"),
    ],
)
def test_the_hash_never_changes(key: bytes | None, value: bytes | None, timestamp: int, expected: str) -> None:
    """Tables keep it: with another hash, a later version would say of each topic that its log was cut."""
    assert message_hash(key, value, timestamp) == expected


@given(MESSAGES, MESSAGES)
def test_equal_messages_alone_have_equal_hashes(
    one: tuple[bytes | None, bytes | None, int], other: tuple[bytes | None, bytes | None, int]
) -> None:
    """A byte that moves from the key to the value, a null for an empty value or another time make another hash."""
    assert (message_hash(*one) == message_hash(*other)) == (one == other)


@given(st.binary(min_size=1, max_size=12), st.data())
def test_key_and_value_do_not_run_into_each_other(text: bytes, data: st.DataObject) -> None:
    """The same bytes, divided in another place."""
    left, right = (data.draw(st.integers(0, len(text))) for _ in range(2))
    hashes = [message_hash(text[:cut], text[cut:], 0) for cut in (left, right)]
    assert (hashes[0] == hashes[1]) == (left == right)


def test_a_batch_has_the_hash_of_its_last_message() -> None:
    """Whatever came before it; a batch without messages has none."""
    batch = MessageBatch(
        topic="t",
        partition=0,
        venue="k2",
        first_offset=5,
        next_offset=9,
        offsets=np.array([5, 7]),
        kafka_timestamps=np.array([1, 2]),
        data=np.frombuffer(b"firstlastkey", dtype=np.uint8),
        value_starts=np.array([0, 5]),
        value_sizes=np.array([5, 4], dtype=np.int32),
        key_starts=np.array([0, 9]),
        key_sizes=np.array([-1, 3], dtype=np.int32),
        leader_epoch=4,
    )
    assert batch.last_message() == LastMessage(7, message_hash(b"key", b"last", 2), 4)
    assert MessageBatch.first(TopicPartition("t", 0), "k2", 5).last_message() is None
