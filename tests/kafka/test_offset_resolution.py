"""Where reading begins: law 6."""

import pytest

from k2.kafka.offset_resolution import Origin, Record, Watermarks, check_topics, decide_start, left_out
from k2.model.errors import OffsetError
from k2.model.progress import TopicPartition

WHERE = TopicPartition("trades", 3)


NONE = Record(None, None, None)


@pytest.mark.parametrize(
    ("record", "watermarks", "offset", "origin"),
    [
        (NONE, Watermarks(0, 0), 0, Origin.BEGINNING),
        (NONE, Watermarks(40, 200), 40, Origin.BEGINNING),
        (Record(100, None, None), Watermarks(0, 200), 100, Origin.RECOVERY_STORE),
        (Record(100, 120, 20), Watermarks(0, 200), 100, Origin.RECOVERY_STORE),
        (Record(120, 120, 20), Watermarks(0, 120), 120, Origin.RECOVERY_STORE),
        (Record(100, 120, 20), Watermarks(110, 200), 110, Origin.TABLE),
        (Record(100, 120, 20), Watermarks(120, 200), 120, Origin.TABLE),
        (Record(None, 120, 20), Watermarks(0, 200), 120, Origin.TABLE),
        (Record(None, 120, 20), Watermarks(120, 120), 120, Origin.TABLE),
        (Record(100, 150, 150), Watermarks(0, 200), 150, Origin.TABLE),
        (Record(100, 180, 150), Watermarks(110, 200), 150, Origin.TABLE),
        (Record(100, 180, 150), Watermarks(160, 200), 160, Origin.TABLE),
    ],
)
def test_begins_where_the_record_says(record: Record, watermarks: Watermarks, offset: int, origin: Origin) -> None:
    """The recovery store wins, then the table's progress, then the beginning of the partition."""
    start = decide_start(WHERE, record, watermarks)
    assert (start.offset, start.origin) == (offset, origin)
    assert start.why


@pytest.mark.parametrize(
    ("record", "watermarks", "words"),
    [
        (Record(100, None, None), Watermarks(101, 200), "begins at offset 101, but 100"),
        (Record(100, 120, 20), Watermarks(121, 200), "begins at offset 121, but 100"),
        (Record(None, 120, 20), Watermarks(121, 200), "begins at offset 121, but 120"),
        (Record(100, 180, 150), Watermarks(181, 200), "begins at offset 181, but 150"),
        (Record(100, None, None), Watermarks(0, 99), "ends at offset 99, but was read to 100"),
        (Record(None, 120, 20), Watermarks(0, 119), "ends at offset 119, but was read to 120"),
        (Record(100, 120, 20), Watermarks(0, 110), "ends at offset 110, but was read to 120"),
    ],
)
def test_refuses_an_offset_that_is_not_there(record: Record, watermarks: Watermarks, words: str) -> None:
    """Nothing jumps over what expired, or begins anew in a topic made anew; the sentence names the partition."""
    with pytest.raises(OffsetError, match="trades:3") as caught:
        decide_start(WHERE, record, watermarks)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("known", "found"),
    [({}, {}), ({}, {"t": "a"}), ({"t": "a"}, {}), ({"t": "a"}, {"t": "a"}), ({"t": "a", "u": "b"}, {"t": "a"})],
)
def test_topics_that_are_what_they_were_are_read(known: dict[str, str], found: dict[str, str]) -> None:
    """A topic without an id on either side is not judged."""
    check_topics(known, found)


def test_a_topic_made_anew_is_refused() -> None:
    """Its offsets mean other messages, though there may be enough of them."""
    with pytest.raises(OffsetError, match="topic t was deleted and made anew"):
        check_topics({"s": "x", "t": "a"}, {"s": "x", "t": "b"})


def test_a_topic_that_is_no_longer_asked_for_is_left_out() -> None:
    """Its partitions are given, whatever the broker has of them; what is new at the broker is read."""
    a, b, c, d = (TopicPartition("a", number) for number in range(4))
    other = TopicPartition("other", 0)
    assert left_out({a, b, other}, [a, b, c, d], ["a"]) == [other]
    assert left_out([], [a], ["a"]) == []


def test_a_partition_that_the_broker_lost_is_refused() -> None:
    """It was read before, and its topic is asked for: the sentence names it."""
    known = [TopicPartition("t", number) for number in range(4)]
    with pytest.raises(OffsetError, match=r"t:2 was read before, but its topic ends at partition 1 now"):
        left_out(known, known[:2], ["t"])
