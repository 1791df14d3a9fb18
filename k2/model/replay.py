"""Replays of dead letters: which are chosen, how their messages are marked, and what the journal records of them."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from k2.model.dead_letter import Coordinates, DeadLetter
from k2.model.documents import read_document
from k2.model.errors import error_pattern
from k2.model.origin import INDEX_HEADER, ORIGIN_HEADER, VENUE_HEADER, is_fill, marks_of, replay_origin
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason

__all__ = [
    "FORMAT",
    "WHOLE",
    "Choice",
    "Headers",
    "LetterMessage",
    "PartitionReplays",
    "ReplayBatch",
    "ReplayOf",
    "Taken",
    "batches",
    "intended_batch",
    "message_headers",
    "replay_of",
    "settled_batch",
    "trade_to_take",
    "waiting_letters",
]

FORMAT: Final = 1
FILL_VENUE: Final = "k2-fill"
"""Venue that only a header names."""
IDENTITY_VENUE: Final = "k2-identity-only"
"""Venue of fills without numbers, and possibly of a topic."""
WHOLE: Final = -1
"""In place of the index of a trade: all trades of the message."""
BATCH_MESSAGES_MAX: Final = 2_000
BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
"""Both limits of a transaction: consumers wait for its end, so it is to be short."""
_REPLAY: Final = "replay "

Headers = list[tuple[str, str | bytes | None]]
ReplayOf = tuple[TopicPartition, int, int]
"""What the headers of a replayed message say: partition and offset of the letter, and the trade to take or `WHOLE`."""
Taken = Mapping[tuple[TopicPartition, int], int]
"""By the partition and offset of a replayed message, the only trade to take of it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters to replay; None matches every value."""

    reason: Reason | None = None
    topic: str | None = None
    partition: int | None = None
    since: datetime | None = None
    """Dead letters that were written at this time (UTC) or later."""
    error: str | None = None
    """The error of a letter, or one with `…` for its values, which stands for all errors of its cause."""

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a letter is chosen."""
        return (
            self.reason in {None, letter.reason}
            and self.topic in {None, letter.topic}
            and self.partition in {None, letter.partition}
            and (self.since is None or (letter.dead_lettered_at is not None and letter.dead_lettered_at >= self.since))
            and (self.error is None or self.error in {letter.error, error_pattern(letter.error)})
        )


class PartitionReplays(msgspec.Struct, frozen=True):
    """The letters of one topic partition in a batch."""

    topic: str
    partition: int
    end: int
    """No message of the batch has a lower offset: an end of the partition from before it was published."""
    letters: list[tuple[int, int, int]]
    """(offset, index, the only trade to take of the message or `WHOLE`) of each letter."""
    offsets: list[int] = msgspec.field(default_factory=list)
    """Offset of the message that each letter became; empty while the outcome of the batch is not recorded."""

    @property
    def where(self) -> TopicPartition:
        """The partition, of the letters and of their messages."""
        return TopicPartition(self.topic, self.partition)


class ReplayBatch(msgspec.Struct, frozen=True):
    """A batch of letters that is published in one Kafka transaction: all of it, or nothing."""

    format: int
    batch: str
    """Unique name; names of later batches sort after it."""
    transactional_id: str
    begun_at: datetime
    """UTC."""
    partitions: list[PartitionReplays]

    @classmethod
    def parse(cls, text: bytes) -> "ReplayBatch":
        """Parse a line of the journal.

        Raises:
            ValueError: it is not a batch, has another format version, or has offsets for only some of its letters.
        """
        batch = read_document(text.decode(), cls, FORMAT)
        if any(one.offsets and len(one.offsets) != len(one.letters) for one in batch.partitions):
            raise ValueError("the number of offsets is not that of the letters")
        return batch

    def line(self) -> bytes:
        """Return the batch as one line that ends with a newline."""
        return msgspec.json.encode(self) + b"\n"

    def letters(self) -> Iterator[Coordinates]:
        """Yield the coordinates of its letters."""
        for one in self.partitions:
            yield from (Coordinates(one.topic, one.partition, offset, index) for offset, index, _ in one.letters)

    def replays_of(self) -> set[ReplayOf]:
        """Return what the headers of its messages say."""
        return {(one.where, offset, taken) for one in self.partitions for offset, _, taken in one.letters}

    def ends(self) -> dict[TopicPartition, int]:
        """Return for each partition the offset below which no message of the batch is."""
        return {one.where: one.end for one in self.partitions}

    def taken(self) -> dict[tuple[TopicPartition, int], int]:
        """Return the only trade to take of those of its messages that are marked with one."""
        return {
            (one.where, offset): taken
            for one in self.partitions
            for (_, _, taken), offset in zip(one.letters, one.offsets, strict=True)
            if taken != WHOLE
        }


def trade_to_take(letter: DeadLetter, taken: Taken) -> int:
    """Return the index of the only trade to take of the message that a letter becomes; `WHOLE` for all of its trades.

    A conflict is about one trade; what decoding rejects, it rejects with all trades of the message. `taken` are the
    messages of earlier replays: a letter of one of them is about the trade that it was marked with.
    """
    if letter.reason is Reason.CONFLICT:
        return letter.index
    return taken.get((TopicPartition(letter.topic, letter.partition), letter.offset), WHOLE)


def message_headers(letter: DeadLetter, take: int) -> Headers:
    """Return the headers of the message that a letter becomes; `take` is the trade to take, or `WHOLE`."""
    where = TopicPartition(letter.topic, letter.partition)
    headers: Headers = [(ORIGIN_HEADER, replay_origin(where, letter.offset).encode())]
    # The venue of any other letter is that of its topic, which may have been mended.
    if letter.venue == FILL_VENUE or (letter.venue == IDENTITY_VENUE and is_fill(letter.origin)):
        headers.append((VENUE_HEADER, letter.venue.encode()))
    return headers if take == WHOLE else [*headers, (INDEX_HEADER, str(take).encode())]


def replay_of(headers: Iterable[tuple[str, str | bytes | None]]) -> ReplayOf | None:
    """Return which letter a message with these headers replays; None if it replays none.

    >>> replay_of([("k2-origin", b"replay trades:0:41"), ("k2-index", b"2")])
    (TopicPartition(topic='trades', partition=0), 41, 2)
    """
    marks = marks_of(headers)
    if marks is None or marks.origin is None or not marks.origin.startswith(_REPLAY):
        return None
    where, _, offset = marks.origin.removeprefix(_REPLAY).rpartition(":")
    try:
        return TopicPartition.parse(where), int(offset), WHOLE if marks.trade_index is None else marks.trade_index
    except ValueError:
        return None


class LetterMessage(NamedTuple):
    """A dead letter as the message that it is to become."""

    letter: Coordinates
    key: bytes | None
    value: bytes | None
    headers: Headers
    take: int = WHOLE
    """The only trade to take of the message, as its headers say; `WHOLE` for all."""

    @classmethod
    def of(cls, letter: DeadLetter, value: bytes | None, taken: Taken) -> "LetterMessage":
        """Return the message of a letter with a value, its own or another; `taken` is of earlier replays."""
        take = trade_to_take(letter, taken)
        return cls(letter.coordinates, letter.key_bytes(), value, message_headers(letter, take), take)

    @property
    def where(self) -> TopicPartition:
        """The partition that the letter came from, to which it returns: so the order of a symbol's trades stays."""
        return TopicPartition(self.letter.topic, self.letter.partition)

    @property
    def replay_of(self) -> ReplayOf:
        """What its headers say."""
        return self.where, self.letter.offset, self.take


def batches(messages: Iterable[LetterMessage]) -> Iterator[list[LetterMessage]]:
    """Yield messages in lists of at most 2,000, and of at most 16 MiB unless a single message is larger."""
    batch: list[LetterMessage] = []
    size = 0
    for message in messages:
        message_bytes = len(message.key or b"") + len(message.value or b"")
        if batch and (len(batch) == BATCH_MESSAGES_MAX or size + message_bytes > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message_bytes
    if batch:
        yield batch


def waiting_letters(letters: Iterable[DeadLetter], replayed: Container[Coordinates]) -> Iterator[DeadLetter]:
    """Yield the letters that were not replayed, in their order; each once, if tables that share a folder have it."""
    seen: set[Coordinates] = set()
    for letter in letters:
        where = letter.coordinates
        if where not in replayed and where not in seen:
            seen.add(where)
            yield letter


def intended_batch(
    batch: str,
    transactional_id: str,
    begun_at: datetime,
    letters: Iterable[tuple[Coordinates, int]],
    ends: Mapping[TopicPartition, int],
) -> ReplayBatch:
    """Return the record of a batch that is about to be published; `letters` are with the trade to take of each."""
    found: dict[TopicPartition, list[tuple[int, int, int]]] = {}
    for one, take in letters:
        found.setdefault(TopicPartition(one.topic, one.partition), []).append((one.offset, one.index, take))
    partitions = [PartitionReplays(where.topic, where.partition, ends[where], found[where]) for where in sorted(found)]
    return ReplayBatch(FORMAT, batch, transactional_id, begun_at, partitions)


def settled_batch(batch: ReplayBatch, published: Mapping[ReplayOf, int]) -> ReplayBatch | None:
    """Return the batch with the offsets of its messages, without letters that have none; None if nothing was published.

    A transaction is published as a whole, but what a log has may also be the work of another replay of some letters.
    """
    partitions = [kept for one in batch.partitions if (kept := _settled(one, published)).letters]
    return msgspec.structs.replace(batch, partitions=partitions) if partitions else None


def _settled(one: PartitionReplays, published: Mapping[ReplayOf, int]) -> PartitionReplays:
    pairs = [
        ((offset, index, taken), published[one.where, offset, taken])
        for offset, index, taken in one.letters
        if (one.where, offset, taken) in published
    ]
    return msgspec.structs.replace(one, letters=[pair[0] for pair in pairs], offsets=[pair[1] for pair in pairs])
