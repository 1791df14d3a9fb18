"""Progress: its text form, and what it says of one writer, of all writers, and of a topic partition."""

import re

import pytest

from k2.model.last_message import LastMessage
from k2.model.progress import Counts, PartitionProgress, Progress, TopicPartition

HERE, THERE = TopicPartition("trades", 0), TopicPartition("trades", 10)
PROGRESS = Progress(
    {
        "1": {
            THERE: PartitionProgress(9, 6, 1, 1, 1, 2, 4, LastMessage(8, "0123456789abcdef"), 1),
            HERE: PartitionProgress(7, 3, 2, 1, start=6, last_message=LastMessage(5, "00ff00ff00ff00ff", 3)),
        },
        "0": {HERE: PartitionProgress(8, 4, 4, start=2)},
    }
)
TEXT = (
    '{"format":1,"writers":{'
    '"0":{"trades:0":{"offset":8,"received":4,"stored":4,"duplicates":0,"dead_letters":0,"skipped":0,"start":2,"last_message":null,"corrections":0}},'
    '"1":{"trades:0":{"offset":7,"received":3,"stored":2,"duplicates":1,"dead_letters":0,"skipped":0,"start":6,'
    '"last_message":{"offset":5,"hash":"00ff00ff00ff00ff","leader_epoch":3},"corrections":0},'
    '"trades:10":{"offset":9,"received":6,"stored":1,"duplicates":1,"dead_letters":1,"skipped":2,"start":4,'
    '"last_message":{"offset":8,"hash":"0123456789abcdef","leader_epoch":null},"corrections":1}}}}'
)


def test_equal_progress_has_equal_text() -> None:
    """Writers and partitions are sorted, whatever their original order; the text restores all of it."""
    assert PROGRESS.text() == TEXT
    assert Progress.parse(TEXT) == PROGRESS


def test_progress_of_an_earlier_version_is_read() -> None:
    """It has no last message, and nothing else is missing."""
    text = '{"format":1,"writers":{"0":{"trades:0":{"offset":8,"received":4,"stored":4,"start":2}}}}'
    assert Progress.parse(text).of("0")[HERE] == PartitionProgress(8, 4, 4, start=2)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{}", "Object missing required field `format`"),
        ('{"format":2,"writers":{}}', "has format 2; this version reads 1"),
    ],
)
def test_a_malformed_text_is_rejected(text: str, error: str) -> None:
    """Misread progress would lose or double trades."""
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        Progress.parse(text)


@pytest.mark.parametrize(("text", "where"), [("a.b-c_d:12", TopicPartition("a.b-c_d", 12)), ("a:b:0", ("a:b", 0))])
def test_a_topic_partition_is_split_at_the_last_colon(text: str, where: tuple[str, int] | TopicPartition) -> None:
    """The partition is the number after the last colon."""
    read = TopicPartition.parse(text)
    assert (str(read), where) == (text, read if isinstance(where, TopicPartition) else (read.topic, read.partition))


def test_counts_are_added_field_by_field() -> None:
    """Each of the five sums is that of its own field."""
    assert Counts(1, 2, 3, 4, 5) + Counts(10, 20, 30, 40, 50) == Counts(11, 22, 33, 44, 55)
    assert Counts() == Counts(0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("counts", "holds"), [(Counts(15, 1, 2, 4, 8), True), (Counts(), True), (Counts(15, 2, 2, 4, 8), False)]
)
def test_received_equals_the_sum_of_outcomes(counts: Counts, *, holds: bool) -> None:
    """Each received trade is stored, a duplicate, a dead letter or skipped, and nothing else."""
    assert counts.holds is holds


@pytest.mark.parametrize(
    ("offset", "start", "then"), [(12, 5, (12, 5)), (9, 3, (10, 4)), (10, 0, (10, 4)), (11, 4, (11, 4))]
)
def test_progress_never_moves_back(offset: int, start: int, then: tuple[int, int]) -> None:
    """Neither the offset nor the replay start decreases; counts are added."""
    before = PartitionProgress(10, 6, 1, 2, 3, 4, 4)
    after = before.advanced(PartitionProgress(offset, 10, 20, 30, 40, 50, start))
    assert (after.offset, after.start) == then
    assert after.counts == Counts(16, 21, 32, 43, 54)


@pytest.mark.parametrize(
    ("before", "delta", "start", "then"),
    [
        (None, 9, 0, 9),
        (8, None, 0, 8),
        (8, 9, 0, 9),
        # A replay from an older recovery store.
        (8, 7, 0, 8),
        # Offsets up to 8 were abandoned, or the log as it is now was accepted.
        (8, None, 9, None),
        (8, None, 8, 8),
        (8, 10, 9, 10),
    ],
)
def test_the_last_message_is_the_newest(before: int | None, delta: int | None, start: int, then: int | None) -> None:
    """It never moves back, and is forgotten once the offsets up to it were abandoned."""
    first, second = (None if offset is None else LastMessage(offset, f"{offset:016x}") for offset in (before, delta))
    after = PartitionProgress(10, last_message=first).advanced(PartitionProgress(11, start=start, last_message=second))
    assert after.last_message == (None if then is None else LastMessage(then, f"{then:016x}"))


def test_the_furthest_writer_has_the_highest_offset() -> None:
    """Writers commit one after the other; of two at one offset it is one that knows the last message."""
    last = LastMessage(6, "0" * 16)
    writers = {"0": {HERE: PartitionProgress(7)}, "1": {HERE: PartitionProgress(7, last_message=last)}, "2": {}}
    assert Progress(writers).furthest(HERE) == writers["1"][HERE]
    assert PROGRESS.furthest(HERE) == PROGRESS.of("0")[HERE]
    assert Progress(writers).furthest(THERE) is None


def test_a_writer_is_replaced_and_the_others_stay() -> None:
    """The given progress is copied, and the former object is unchanged."""
    entries = {HERE: PartitionProgress(20)}
    changed = PROGRESS.replaced("0", entries).replaced("2", {})
    entries.clear()
    assert changed.of("0") == {HERE: PartitionProgress(20)}
    assert changed.of("1") == PROGRESS.of("1")
    assert (changed.of("2"), changed.of("3")) == ({}, {})
    assert PROGRESS.of("0")[HERE].offset == 8


def test_partitions_of_all_writers_are_listed_in_order() -> None:
    """Sorted by topic and number, each once, whichever writers have it."""
    assert PROGRESS.partitions() == [HERE, THERE]
    assert Progress().partitions() == []


@pytest.mark.parametrize(
    ("where", "writers", "offset"),
    [
        (HERE, ["0", "1"], 7),
        (HERE, ["0"], 8),
        (HERE, ["0", "2"], 2),
        (THERE, ["0", "1"], 4),
        (THERE, ["1"], 9),
        (TopicPartition("other", 0), ["0"], None),
    ],
)
def test_reading_resumes_at_the_slowest_writer(where: TopicPartition, writers: list[str], offset: int | None) -> None:
    """A writer without an offset of the partition starts where reading first started."""
    assert PROGRESS.next_offset(where, writers) == offset


def test_a_partitions_start_and_totals_cover_all_writers() -> None:
    """The earliest start and the summed counts; None and zeros for a partition that was never read."""
    assert (PROGRESS.start(HERE), PROGRESS.start(THERE), PROGRESS.start(TopicPartition("x", 0))) == (2, 4, None)
    assert PROGRESS.counts(HERE) == Counts(7, 6, 1)
    assert PROGRESS.counts(THERE) == Counts(6, 1, 1, 1, 2, 1)
    assert PROGRESS.counts(TopicPartition("x", 0)) == Counts()
