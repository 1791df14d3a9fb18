"""Progress: committed offsets and partition counts of each writer and topic partition.

The text form is a table property that is replaced in the same commit as the rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from k2.model.documents import read_document
from k2.model.last_message import LastMessage

__all__ = ["Counts", "PartitionDelta", "PartitionProgress", "Progress", "TopicPartition"]

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
        """Parse `topic:partition`; a topic name contains no colon (Kafka allows letters, digits, `._-`)."""
        topic, _, partition = text.rpartition(":")
        return cls(topic, int(partition))


class Counts(msgspec.Struct, frozen=True):
    """Partition counts: trades by outcome. A message that cannot be decoded counts as one."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0
    corrections: int = 0
    """Rows of the table `corrections`."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.received + other.received,
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.dead_letters + other.dead_letters,
            self.skipped + other.skipped,
            self.corrections + other.corrections,
        )

    @property
    def holds(self) -> bool:
        """Whether received equals stored + duplicates + dead letters + skipped + corrections."""
        accounted = self.stored + self.duplicates + self.dead_letters + self.skipped + self.corrections
        return self.received == accounted


class PartitionProgress(msgspec.Struct, frozen=True):
    """Progress of one writer in one topic partition: the next offset to read, and running partition counts."""

    offset: int
    received: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0
    start: int = 0
    """The first offset ever read, or the first one read after offsets were abandoned. A full replay begins here."""
    last_message: LastMessage | None = None
    """The last message read, below `offset`; None if there is none, or if an earlier version wrote the progress."""
    corrections: int = 0
    """0 also if an earlier version wrote the progress."""

    @property
    def counts(self) -> Counts:
        """The partition counts without the offsets."""
        return Counts(self.received, self.stored, self.duplicates, self.dead_letters, self.skipped, self.corrections)

    def advanced(self, delta: "PartitionDelta") -> "PartitionProgress":
        """Return the progress after a commit: its counts are added, and the offset never moves back.

        The last message is the one with the higher offset; none if it was below offsets that were abandoned since.
        """
        total = msgspec.structs.asdict(self.counts + delta.counts)
        start = max(self.start, delta.start)
        read = [last for last in (self.last_message, delta.last_message) if last is not None and last.offset >= start]
        newest = max(read, key=lambda last: last.offset, default=None)
        return PartitionProgress(max(self.offset, delta.offset), **total, start=start, last_message=newest)


PartitionDelta = PartitionProgress
"""What one commit adds to a topic partition's progress: the next offset, and the counts of this commit alone."""


class _Document(msgspec.Struct, frozen=True):
    format: int
    writers: dict[str, dict[str, PartitionProgress]]


class Progress(msgspec.Struct, frozen=True):
    """Progress of all writers of a table; immutable, so that a commit replaces it as a whole."""

    writers: Mapping[str, Mapping[TopicPartition, PartitionProgress]] = msgspec.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Progress":
        """Parse the text of the property.

        Raises:
            ValueError: the text does not have the documented shape, or has another format version.
        """
        document = read_document(text, _Document, FORMAT)
        return cls(
            {
                writer: {TopicPartition.parse(name): entry for name, entry in entries.items()}
                for writer, entries in document.writers.items()
            }
        )

    def text(self) -> str:
        """Return the text of the property; equal progress has equal text."""
        writers = {
            writer: {str(topic_partition): entries[topic_partition] for topic_partition in sorted(entries)}
            for writer, entries in sorted(self.writers.items())
        }
        return msgspec.json.encode(_Document(FORMAT, writers)).decode()

    def of(self, writer: str) -> Mapping[TopicPartition, PartitionProgress]:
        """Return the progress of one writer; empty if it has none."""
        return self.writers.get(writer, {})

    def replaced(self, writer: str, entries: Mapping[TopicPartition, PartitionProgress]) -> "Progress":
        """Return a copy in which the entries of one writer are replaced."""
        return Progress({**self.writers, writer: dict(entries)})

    def partitions(self) -> list[TopicPartition]:
        """Return all topic partitions with progress, sorted."""
        return sorted({topic_partition for entries in self.writers.values() for topic_partition in entries})

    def next_offset(self, topic_partition: TopicPartition, writers: Iterable[str]) -> int | None:
        """Return the lowest committed offset of `writers` in a topic partition; None if it has no progress.

        A writer without progress in the partition counts from the partition's first offset ever read.
        """
        start = self.start(topic_partition)
        if start is None:
            return None
        return min(
            self.of(writer)[topic_partition].offset if topic_partition in self.of(writer) else start
            for writer in writers
        )

    def start(self, topic_partition: TopicPartition) -> int | None:
        """Return the first offset ever read from a topic partition; None if it has no progress."""
        starts = [entries[topic_partition].start for entries in self.writers.values() if topic_partition in entries]
        return min(starts) if starts else None

    def furthest(self, topic_partition: TopicPartition) -> PartitionProgress | None:
        """Return the entry of the writer with the highest committed offset in a topic partition; None if there is none.

        Among several of that offset it is one with a last message.
        """
        found = [entries[topic_partition] for entries in self.writers.values() if topic_partition in entries]
        return max(found, key=lambda entry: (entry.offset, entry.last_message is not None), default=None)

    def counts(self, topic_partition: TopicPartition) -> Counts:
        """Return the counts of a topic partition, summed over the writers."""
        return sum(
            (entries[topic_partition].counts for entries in self.writers.values() if topic_partition in entries),
            Counts(),
        )
