"""Since when a message waits: by its Kafka timestamp where that agrees with the commits, else since it was seen."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.kafka.unread import PartitionEnd
from k2.status.waiting import Waiting, arrival
from tests.status.evidence import NOW, OTHER, PARTITION, ago


@pytest.mark.parametrize(
    ("timestamp", "committed_at", "lag", "expected"),
    [
        (ago(5), ago(9), 0, ago(5)),
        (ago(5), None, None, ago(5)),
        (ago(-3), ago(9), 0, NOW),
        (ago(-3_000), ago(9), 0, None),
        (ago(-3_000), None, None, None),
        (ago(-3_000), ago(9), 7, ago(9)),
        (ago(90_000), ago(9), 0, None),
        (ago(90_000), ago(9), 7, ago(90_000)),
        (ago(90_000), ago(9), None, ago(90_000)),
        (None, ago(9), 0, None),
        (None, ago(9), 7, ago(9)),
        (None, None, None, None),
    ],
)
def test_arrival(
    timestamp: datetime | None, committed_at: datetime | None, lag: int | None, expected: datetime | None
) -> None:
    """A timestamp ahead, or from before a commit at which all was read, says nothing."""
    assert arrival(timestamp, committed_at, lag, NOW) == expected


def test_a_message_that_was_seen_before_waits_since_then() -> None:
    """Until the partition moves on; what is read is forgotten, and so is what a transaction held back."""
    waiting = Waiting()
    replayed = {PARTITION: PartitionEnd(1_010, 10, ago(10**8)), OTHER: PartitionEnd(50, 0, None)}
    assert waiting.since(replayed, {PARTITION: ago(30)}, 0, ago(25)) == {PARTITION: ago(25)}
    assert not waiting.is_certain
    assert waiting.since(replayed, {PARTITION: ago(30)}, 0, NOW) == {PARTITION: ago(25)}
    moved = {PARTITION: PartitionEnd(1_010, 4, ago(10**8)), OTHER: PartitionEnd(50, 0, None, held_back=3)}
    assert waiting.since(moved, {PARTITION: ago(1)}, 0, NOW) == {PARTITION: NOW, OTHER: NOW}
    certain = {PARTITION: PartitionEnd(1_020, 10, ago(0.5)), OTHER: PartitionEnd(53, 0, None)}
    assert waiting.since(certain, {PARTITION: ago(1)}, 0, NOW) == {PARTITION: ago(0.5)}
    assert waiting.is_certain


@given(
    stamp=st.none() | st.integers(-(10**9), 10**9),
    committed=st.none() | st.integers(0, 10**6),
    lag=st.none() | st.integers(0, 9),
)
def test_nothing_arrives_in_the_future(stamp: int | None, committed: int | None, lag: int | None) -> None:
    """An arrival is in the past, and not before a commit at which all was read."""
    timestamp = None if stamp is None else NOW - timedelta(seconds=stamp)
    committed_at = None if committed is None else ago(committed)
    found = arrival(timestamp, committed_at, lag, NOW)
    assert found is None or found <= NOW
    assert found is None or lag != 0 or committed_at is None or found >= committed_at
