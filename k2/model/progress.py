"""What is in the table: offsets and running totals, for each writer and topic partition.

The text form is a table property, replaced in the same commit as the rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from k2.model.documents import read_document

__all__ = ["PROGRESS", "Counts", "PartitionProgress", "Progress", "TopicPartition"]

PROGRESS: Final = "k2.progress"
"""The table property that says what is in, and in a snapshot's summary what that commit brought."""
FORMAT: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """A Kafka topic partition; its text form is `topic:partition`."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}"

    @classmethod
    def parse(cls, text: str) -> "TopicPartition":
        """Read `topic:partition`; a topic's name holds no colon (Kafka allows letters, digits, `._-`)."""
        topic, _, partition = text.rpartition(":")
        return cls(topic, int(partition))


class Counts(msgspec.Struct, frozen=True):
    """Trades by what became of them; a message that can't be read counts one."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.received + other.received,
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.dead_letters + other.dead_letters,
            self.skipped + other.skipped,
        )

    @property
    def holds(self) -> bool:
        """Whether received = stored + duplicates + dead letters + skipped."""
        return self.received == self.stored + self.duplicates + self.dead_letters + self.skipped


class PartitionProgress(msgspec.Struct, frozen=True):
    """How far one writer is in one topic partition: the offset to read next, and its running totals."""

    offset: int
    received: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0
    start: int = 0
    """The first offset that was ever read, or read after others were given up: a replay of all begins here."""

    @property
    def counts(self) -> Counts:
        """The running totals alone."""
        return Counts(self.received, self.stored, self.duplicates, self.dead_letters, self.skipped)

    def advanced(self, move: "PartitionProgress") -> "PartitionProgress":
        """Return the progress after a commit that moves on to an offset, never back, and adds counts."""
        total = msgspec.structs.asdict(self.counts + move.counts)
        return PartitionProgress(max(self.offset, move.offset), **total, start=max(self.start, move.start))


class _Document(msgspec.Struct, frozen=True):
    format: int
    writers: dict[str, dict[str, PartitionProgress]]


class Progress(msgspec.Struct, frozen=True):
    """The progress of all writers of a table; immutable, so that a commit replaces it whole."""

    writers: Mapping[str, Mapping[TopicPartition, PartitionProgress]] = msgspec.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Progress":
        """Read the property's text; None (a table without it) is no progress at all.

        Raises:
            TableError: the text is not of the documented shape, or of a later format.
        """
        if text is None:
            return cls()
        document = read_document(PROGRESS, text, _Document, FORMAT)
        return cls(
            {
                writer: {TopicPartition.parse(name): entry for name, entry in entries.items()}
                for writer, entries in document.writers.items()
            }
        )

    @classmethod
    def in_properties(cls, properties: Mapping[str, str]) -> "Progress":
        """Read what the properties of a table say, or of a snapshot's summary.

        Raises:
            TableError: as `parse`.
        """
        return cls.parse(properties.get(PROGRESS))

    def text(self) -> str:
        """Return the property's text, the same for the same progress."""
        writers = {
            writer: {str(where): entries[where] for where in sorted(entries)}
            for writer, entries in sorted(self.writers.items())
        }
        return msgspec.json.encode(_Document(FORMAT, writers)).decode()

    def of(self, writer: str) -> Mapping[TopicPartition, PartitionProgress]:
        """Return one writer's progress; empty where it has none."""
        return self.writers.get(writer, {})

    def replaced(self, writer: str, entries: Mapping[TopicPartition, PartitionProgress]) -> "Progress":
        """Return the progress with one writer's entries replaced."""
        return Progress({**self.writers, writer: dict(entries)})

    def partitions(self) -> list[TopicPartition]:
        """Return every topic partition of which something is in, sorted."""
        return sorted({where for entries in self.writers.values() for where in entries})

    def next_offset(self, where: TopicPartition, writers: Iterable[str]) -> int | None:
        """Return the first offset that one of `writers` has not committed; None where none of them has begun."""
        start = self.start(where)
        if start is None:
            return None
        return min(self.of(writer)[where].offset if where in self.of(writer) else start for writer in writers)

    def start(self, where: TopicPartition) -> int | None:
        """Return the first offset that was ever read of a partition; None where nothing is in."""
        starts = [entries[where].start for entries in self.writers.values() if where in entries]
        return min(starts) if starts else None

    def counts(self, where: TopicPartition) -> Counts:
        """Return a partition's totals, summed over the writers."""
        return sum((entries[where].counts for entries in self.writers.values() if where in entries), Counts())
