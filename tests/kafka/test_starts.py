"""Starts: where the partitions of a new topic begin, by an end or a time."""

from collections.abc import Mapping, Sequence

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from k2.kafka.offset_resolution import Watermarks
from k2.kafka.starts import decide_starts
from k2.model.partition_starts import PartitionStart
from k2.model.progress import TopicPartition

TIME = "2024-08-08T00:00:00Z"
ZERO, ONE, OLD = TopicPartition("new", 0), TopicPartition("new", 1), TopicPartition("old", 0)
MARKS = {ZERO: Watermarks(40, 200), ONE: Watermarks(0, 0), OLD: Watermarks(0, 9)}


def _unasked(partitions: Sequence[TopicPartition], time_ms: int) -> Mapping[TopicPartition, int | None]:
    raise AssertionError((partitions, time_ms))


def test_the_end_is_the_watermark() -> None:
    """Only topics of which nothing is known are begun by the setting."""
    latest = {ZERO: PartitionStart(200, 40, "latest"), ONE: PartitionStart(0, 0, "latest")}
    assert decide_starts("latest", [OLD], MARKS, _unasked) == latest
    assert decide_starts("latest", [OLD, ONE], MARKS, _unasked) == {}
    assert decide_starts(TIME, [OLD, ONE], MARKS, _unasked) == {}
    assert decide_starts("earliest", [], MARKS, _unasked) == {}


@given(found=st.none() | st.integers(0, 500), low=st.integers(0, 200), size=st.integers(0, 200))
def test_a_time_begins_within_the_watermarks(found: int | None, low: int, size: int) -> None:
    """At the first message from that time on; at the end, said aloud, if there is none."""
    high = low + size
    with structlog.testing.capture_logs() as logs:
        starts = decide_starts(TIME, [], {ZERO: Watermarks(low, high)}, lambda ones, _: dict.fromkeys(ones, found))
    expected = high if found is None else max(low, min(found, high))
    assert starts == {ZERO: PartitionStart(expected, low, TIME)}
    assert [one["event"] for one in logs] == (["start_after_end"] if found is None else [])


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (TIME, 1_723_075_200_000),
        ("2024-08-08T00:00:00.0001Z", 1_723_075_200_001),
        # -1 would be the end of the partition.
        ("1969-12-31T23:59:59.999Z", 0),
        ("1960-01-01T00:00:00Z", 0),
    ],
)
def test_the_time_is_asked_for_in_milliseconds(rule: str, asked: int) -> None:
    """Rounded up, so that no message before the time is read."""
    times = []

    def offsets_at(partitions: Sequence[TopicPartition], time_ms: int) -> Mapping[TopicPartition, int | None]:
        times.append(time_ms)
        return dict.fromkeys(partitions, 50)

    decide_starts(rule, [OLD], MARKS, offsets_at)
    assert times == [asked]
