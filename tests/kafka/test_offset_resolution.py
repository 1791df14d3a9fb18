"""Offset resolution: where reading starts (law 6)."""

import pytest

from k2.kafka.offset_resolution import (
    KnownOffsets,
    Origin,
    Watermarks,
    check_topic_ids,
    resolve_start_offset,
    unconfigured_partitions,
)
from k2.model.errors import OffsetError
from k2.model.partition_starts import PartitionStart
from k2.model.progress import TopicPartition

WHERE = TopicPartition("trades", 3)


NONE = KnownOffsets(None, None, None)
BEGUN = KnownOffsets(None, None, None, begun=PartitionStart(60, 20, "latest"))


@pytest.mark.parametrize(
    ("record", "watermarks", "offset", "origin"),
    [
        (NONE, Watermarks(0, 0), 0, Origin.BEGINNING),
        (NONE, Watermarks(40, 200), 40, Origin.BEGINNING),
        (BEGUN, Watermarks(40, 200), 60, Origin.SETTING),
        (BEGUN, Watermarks(60, 60), 60, Origin.SETTING),
        (BEGUN._replace(recovered=100), Watermarks(40, 200), 100, Origin.RECOVERY_STORE),
        (BEGUN._replace(committed=120, first=60), Watermarks(40, 200), 120, Origin.TABLE),
        (KnownOffsets(100, None, None), Watermarks(0, 200), 100, Origin.RECOVERY_STORE),
        (KnownOffsets(100, 120, 20), Watermarks(0, 200), 100, Origin.RECOVERY_STORE),
        (KnownOffsets(120, 120, 20), Watermarks(0, 120), 120, Origin.RECOVERY_STORE),
        (KnownOffsets(100, 120, 20), Watermarks(110, 200), 110, Origin.TABLE),
        (KnownOffsets(100, 120, 20), Watermarks(120, 200), 120, Origin.TABLE),
        (KnownOffsets(None, 120, 20), Watermarks(0, 200), 120, Origin.TABLE),
        (KnownOffsets(None, 120, 20), Watermarks(120, 120), 120, Origin.TABLE),
        (KnownOffsets(100, 150, 150), Watermarks(0, 200), 150, Origin.TABLE),
        (KnownOffsets(100, 180, 150), Watermarks(110, 200), 150, Origin.TABLE),
        (KnownOffsets(100, 180, 150), Watermarks(160, 200), 160, Origin.TABLE),
    ],
)
def test_the_start_offset_follows_the_precedence(
    record: KnownOffsets, watermarks: Watermarks, offset: int, origin: Origin
) -> None:
    """The recovery store takes precedence, then the table's progress, then the beginning of the partition."""
    start = resolve_start_offset(WHERE, record, watermarks)
    assert (start.offset, start.origin) == (offset, origin)
    assert start.why


@pytest.mark.parametrize(
    ("record", "watermarks", "words"),
    [
        (KnownOffsets(100, None, None), Watermarks(101, 200), "begins at offset 101, but 100"),
        (KnownOffsets(100, 120, 20), Watermarks(121, 200), "begins at offset 121, but 100"),
        (KnownOffsets(None, 120, 20), Watermarks(121, 200), "begins at offset 121, but 120"),
        (KnownOffsets(100, 180, 150), Watermarks(181, 200), "begins at offset 181, but 150"),
        (KnownOffsets(100, None, None), Watermarks(0, 99), "ends at offset 99, but was read to 100"),
        (KnownOffsets(None, 120, 20), Watermarks(0, 119), "ends at offset 119, but was read to 120"),
        (KnownOffsets(100, 120, 20), Watermarks(0, 110), "ends at offset 110, but was read to 120"),
        (BEGUN, Watermarks(61, 200), "begins at offset 61, but 60 is to be read next (K2_START=latest when the topic"),
        (BEGUN, Watermarks(0, 59), "ends at offset 59, but 60 is to be read next (K2_START=latest"),
        (KnownOffsets(100, 120, 20, 130), Watermarks(0, 125), "ends at offset 125, but was read to 130"),
    ],
)
def test_a_missing_offset_is_rejected(record: KnownOffsets, watermarks: Watermarks, words: str) -> None:
    """Reading skips no expired messages and never restarts in a recreated topic; the error names the partition."""
    with pytest.raises(OffsetError, match="trades:3") as caught:
        resolve_start_offset(WHERE, record, watermarks)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("known", "found"),
    [({}, {}), ({}, {"t": "a"}), ({"t": "a"}, {}), ({"t": "a"}, {"t": "a"}), ({"t": "a", "u": "b"}, {"t": "a"})],
)
def test_unchanged_topics_are_read(known: dict[str, str], found: dict[str, str]) -> None:
    """A topic without an id on either side is not compared."""
    assert check_topic_ids(known, found) is None


def test_a_recreated_topic_is_rejected() -> None:
    """Its offsets mean other messages, even if there are enough of them."""
    with pytest.raises(OffsetError, match="topic t was deleted and recreated"):
        check_topic_ids({"s": "x", "t": "a"}, {"s": "x", "t": "b"})


def test_a_removed_topic_is_left_out() -> None:
    """Its partitions are returned, whatever the broker has of them; new partitions at the broker are read."""
    a, b, c, d = (TopicPartition("a", number) for number in range(4))
    other = TopicPartition("other", 0)
    assert unconfigured_partitions({a, b, other}, [a, b, c, d], ["a"]) == [other]
    assert unconfigured_partitions([], [a], ["a"]) == []


def test_a_lost_partition_is_rejected() -> None:
    """It was read before and its topic is still configured; the error names it."""
    known = [TopicPartition("t", number) for number in range(4)]
    with pytest.raises(OffsetError, match=r"t:2 was read before, but its topic ends at partition 1 now"):
        unconfigured_partitions(known, known[:2], ["t"])
