"""Partition starts: what `K2_START` may be, and how a start is kept and worded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.partition_starts import (
    PartitionStart,
    checked_start,
    is_new_topic,
    left_out_text,
    parse_partition_starts,
    partition_starts_text,
    start_time_ms,
)
from k2.model.progress import TopicPartition
from k2.model.times import time_of

ONE, TWO, OTHER = TopicPartition("trades", 0), TopicPartition("trades", 1), TopicPartition("other", 0)


@pytest.mark.parametrize("text", ["earliest", "latest", "2024-08-08T00:00:00Z", "2024-08-08T02:00:00.5+02:00"])
def test_a_start_is_an_end_or_a_time(text: str) -> None:
    """It is kept as it was written, because it is repeated in the commit log."""
    assert checked_start(text) == text


@pytest.mark.parametrize("text", ["Latest", "now", "2024-08-08", "2024-08-08T00:00:00", "-1", " latest"])
def test_another_start_is_rejected(text: str) -> None:
    """A time needs its zone: it would be another one on another machine."""
    with pytest.raises(ValueError, match="use earliest, latest, or a time such as"):
        checked_start(text)


@given(st.integers(10**15, 2 * 10**15))
def test_no_message_before_the_time_has_its_timestamp(time_us: int) -> None:
    """Kafka timestamps are milliseconds: the lowest that is not before the time."""
    found = start_time_ms(f"{time_of(time_us):%Y-%m-%dT%H:%M:%S.%f}Z")
    assert found is not None
    assert (found - 1) * 1_000 < time_us <= found * 1_000


def test_a_topic_is_new_until_one_of_its_partitions_is_known() -> None:
    """A partition that is added to a known topic is not begun by the setting."""
    assert is_new_topic("trades", [])
    assert is_new_topic("trades", [OTHER])
    assert not is_new_topic("trades", [OTHER, TWO])


def test_what_was_left_out_is_worded_by_partition() -> None:
    """A partition of which nothing was left out is not named."""
    starts = {
        TWO: PartitionStart(9, 9, "latest"),
        ONE: PartitionStart(42, 40, "latest"),
        OTHER: PartitionStart(5, 0, "2024-08-08T00:00:00Z"),
    }
    assert left_out_text(starts) == ("other:0 0-4 (K2_START=2024-08-08T00:00:00Z), trades:0 40-41 (K2_START=latest)")
    assert parse_partition_starts(partition_starts_text(starts)) == starts
