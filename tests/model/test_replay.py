"""Rules of replays: which letters wait, how their messages are marked, and what a batch records of them."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.dead_letter import Coordinates, DeadLetter
from k2.model.origin import MessageMarks, marks_of
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.model.replay import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    WHOLE,
    Choice,
    LetterMessage,
    ReplayBatch,
    ReplayOf,
    batches,
    intended_batch,
    message_headers,
    replay_of,
    settled_batch,
    trade_to_take,
    waiting_letters,
)
from tests.model.dead_letters import DEAD_LETTERED_AT, dead_letter

TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)
COORDINATES = st.builds(Coordinates, st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 9), st.integers(0, 2))
LATER = DEAD_LETTERED_AT + timedelta(hours=1)


def letters_at(places: list[Coordinates]) -> list[DeadLetter]:
    """Return a dead letter at each place."""
    return [dead_letter(one.offset, topic=one.topic, partition=one.partition, index=one.index) for one in places]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (Choice(), [0, 1, 2]),
        (Choice(reason=Reason.INVALID), [1]),
        (Choice(topic="other"), [2]),
        (Choice(partition=1), [1]),
        (Choice(since=LATER), [2]),
        (Choice(error="price: 1 is odd"), [0]),
        (Choice(error="price: … is odd"), [0, 2]),
        (Choice(error="price"), []),
        (Choice(topic="trades", error="price: … is odd"), [0]),
    ],
)
def test_letters_are_chosen(choice: Choice, chosen: list[int]) -> None:
    """By all that is given; an error with `…` stands for its cause, and a letter without a time is of no time."""
    letters = [
        dead_letter(0, error="price: 1 is odd"),
        dead_letter(1, partition=1, reason=Reason.INVALID, dead_lettered_at=None),
        dead_letter(2, topic="other", error="price: 2 is odd", dead_lettered_at=LATER),
    ]
    assert [letter.offset for letter in letters if choice.matches(letter)] == chosen


@given(st.lists(COORDINATES, max_size=30), st.sets(COORDINATES))
def test_a_letter_waits_until_it_is_replayed(places: list[Coordinates], replayed: set[Coordinates]) -> None:
    """Each once, in the order in which they were set aside, however many files have it."""
    found = [letter.coordinates for letter in waiting_letters(letters_at(places), replayed)]
    assert found == [place for place in dict.fromkeys(places) if place not in replayed]


@given(TOPICS, st.integers(0, 2**31), st.integers(0, 2**62), st.sampled_from([WHOLE, 0, 3]))
def test_headers_name_the_letter(topic: str, partition: int, offset: int, take: int) -> None:
    """What a replay writes is what the lookup after a crash reads, whatever the topic is called."""
    letter = dead_letter(offset, topic=topic, partition=partition)
    assert replay_of(message_headers(letter, take)) == (TopicPartition(topic, partition), offset, take)


def test_the_venue_of_a_fill_is_named() -> None:
    """A fill is read alike in any topic; a letter of the topic's own venue is read by what the venue is now."""
    assert ("k2-venue", b"k2-fill") in message_headers(dead_letter(1, venue="k2-fill"), WHOLE)
    by_id = dead_letter(1, venue="k2-identity-only", origin="archive sha256:00 day.csv")
    assert ("k2-venue", b"k2-identity-only") in message_headers(by_id, WHOLE)
    of_topic = dead_letter(1, venue="k2-identity-only", origin="replay trades:0:7")
    assert [name for name, _ in message_headers(of_topic, WHOLE)] == ["k2-origin"]
    assert [name for name, _ in message_headers(dead_letter(1, venue="kraken"), WHOLE)] == ["k2-origin"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("k2-origin", None)],
        [("k2-origin", b"person Ann")],
        [("k2-origin", b"archive sha256:00 a:1:2")],
        [("k2-origin", b"replay trades:x:1")],
        [("k2-origin", b"replay trades")],
        [("k2-origin", b"\xff")],
        [("k2-index", b"1")],
        [("other", b"replay trades:0:1")],
    ],
)
def test_other_messages_replay_no_letter(headers: list[tuple[str, str | bytes | None]]) -> None:
    """A fill, a message of someone else, and one that is cut off."""
    assert replay_of(headers) is None


def test_only_a_conflict_is_about_one_trade() -> None:
    """Also if it was replayed, and its message is now rejected as a whole: the others of the message stay out."""
    conflict, rejected = dead_letter(5, index=2, reason=Reason.CONFLICT), dead_letter(5, reason=Reason.INVALID)
    assert (trade_to_take(conflict, {}), trade_to_take(rejected, {})) == (2, WHOLE)
    taken = {(TopicPartition("trades", 0), 5): 1}
    assert (trade_to_take(rejected, taken), trade_to_take(dead_letter(6), taken)) == (1, WHOLE)


def message(offset: int, value: str = "v") -> LetterMessage:
    """Return the message of a letter."""
    return LetterMessage.of(dead_letter(offset), value.encode(), {})


def test_batches_are_limited() -> None:
    """By messages and by bytes; a single larger message is a batch of its own, and the order stays."""
    many = [message(offset) for offset in range(BATCH_MESSAGES_MAX + 1)]
    assert [len(batch) for batch in batches(many)] == [BATCH_MESSAGES_MAX, 1]
    large = "v" * BATCH_BYTES_MAX
    messages = [message(1), message(2, large), message(3), message(4)]
    assert [[one.letter.offset for one in batch] for batch in batches(messages)] == [[1], [2], [3, 4]]
    assert [*batches([])] == []


@given(st.sets(COORDINATES, min_size=1), st.data())
def test_a_batch_records_what_was_published(places: set[Coordinates], data: st.DataObject) -> None:
    """Each published letter with the offset of its message, whatever part of the batch a log has; no others."""
    ordered = sorted(places, key=str)
    ends = {TopicPartition(topic, partition): 7 for topic in "ab" for partition in range(3)}
    batch = intended_batch("b", "id", datetime(2024, 1, 1, tzinfo=UTC), [(one, one.index) for one in ordered], ends)
    assert set(batch.letters()) == places
    assert ReplayBatch.parse(batch.line()) == batch
    numbers = count(100)
    published: dict[ReplayOf, int] = {
        one: next(numbers) for one in data.draw(st.sets(st.sampled_from(sorted(batch.replays_of()))))
    }
    settled = settled_batch(batch, published)
    if settled is None:
        assert not published
        return
    assert ReplayBatch.parse(settled.line()) == settled
    offsets = {
        (one.where, letter[0], letter[2]): offset
        for one in settled.partitions
        for letter, offset in zip(one.letters, one.offsets, strict=True)
    }
    assert offsets == published
    assert settled.taken() == {(where, offset): mark_take for (where, _, mark_take), offset in published.items()}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format":1', b'"format":2'),
        (b'"offsets":[]', b'"offsets":[1,2]'),
        (b'"begun_at":"2024-01-01T00:00:00Z"', b'"begun_at":"soon"'),
    ],
)
def test_a_line_that_is_no_batch_is_refused(old: bytes, new: bytes) -> None:
    """Another format, offsets for some letters only, and what is not a time."""
    ends = {TopicPartition("trades", 0): 7}
    batch = intended_batch("b", "id", datetime(2024, 1, 1, tzinfo=UTC), [(Coordinates("trades", 0, 1), WHOLE)], ends)
    assert old in batch.line()
    with pytest.raises(ValueError, match=r"format|offsets|RFC"):
        ReplayBatch.parse(batch.line().replace(old, new))


def test_headers_of_strangers_are_limited() -> None:
    """A venue of a megabyte would be in the error of each of their dead letters."""
    marks = marks_of([("k2-origin", b"o" * 10**6), ("k2-venue", b"v" * 10**6), ("k2-index", b"9" * 10**6)])
    assert marks == MessageMarks("o" * 1_000, "v" * 255, -1)
