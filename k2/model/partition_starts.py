"""Partition starts: where `K2_START` began topic partitions that nothing had read before, and what it left out.

A start is decided once, when a topic is first read, and recorded in a table property before the first message is read.
A later start of the job uses the record: `latest` decided again would leave out what was published in between.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from k2.model.documents import read_document
from k2.model.progress import TopicPartition
from k2.model.times import parse_time

__all__ = [
    "EARLIEST",
    "LATEST",
    "PartitionStart",
    "PartitionStarts",
    "checked_start",
    "is_new_topic",
    "left_out_text",
    "parse_partition_starts",
    "partition_starts_text",
    "start_time_ms",
]

EARLIEST: Final = "earliest"
LATEST: Final = "latest"
_FORMAT: Final = 1
_MICROSECONDS_PER_MILLISECOND: Final = 1_000


class PartitionStart(msgspec.Struct, frozen=True):
    """Where a topic partition was begun, and by which rule."""

    offset: int
    """The first offset to read."""
    first: int
    """The first offset that the broker had when the start was decided."""
    rule: str
    """The value of `K2_START`."""

    @property
    def left_out(self) -> int:
        """The number of offsets before the start that the broker had."""
        return self.offset - self.first


PartitionStarts = Mapping[TopicPartition, PartitionStart]
"""The starts on record."""


class _Document(msgspec.Struct, frozen=True):
    format: int
    partitions: dict[str, PartitionStart]


def checked_start(text: str) -> str:
    """Return a value of `K2_START` unchanged: `earliest`, `latest`, or an RFC 3339 time.

    Raises:
        ValueError: it is none of them.
    """
    if text not in {EARLIEST, LATEST}:
        try:
            parse_time(text)
        except ValueError as error:
            raise ValueError(f"{error}; use earliest, latest, or a time such as 2024-08-08T00:00:00Z") from None
    return text


def start_time_ms(rule: str) -> int | None:
    """Return the lowest Kafka timestamp, in milliseconds, that is not before the time of a rule; None if it has none.

    A time before 1970 is 0: no message is older, and Kafka takes a negative timestamp for a name, -1 for the end.

    >>> start_time_ms("2024-08-08T00:00:00.0001Z"), start_time_ms("1969-12-31T23:59:59.999Z"), start_time_ms("latest")
    (1723075200001, 0, None)
    """
    return None if rule in {EARLIEST, LATEST} else max(0, -(-parse_time(rule) // _MICROSECONDS_PER_MILLISECOND))


def is_new_topic(topic: str, known: Iterable[TopicPartition]) -> bool:
    """Return whether none of the `known` partitions, which were read or whose start is on record, is of a topic.

    Only a new topic is begun by `K2_START`. A partition that is added to a known topic later is read from its
    beginning: every trade in it was published after the topic was begun.
    """
    return all(one.topic != topic for one in known)


def left_out_text(starts: PartitionStarts) -> str:
    """Return the ranges of offsets that were left out, both bounds inclusive; empty if nothing was.

    >>> left_out_text({TopicPartition("trades", 0): PartitionStart(42, 0, "latest")})
    'trades:0 0-41 (K2_START=latest)'
    """
    return ", ".join(
        f"{where} {one.first}-{one.offset - 1} (K2_START={one.rule})"
        for where, one in sorted(starts.items())
        if one.left_out
    )


def parse_partition_starts(text: str) -> PartitionStarts:
    """Parse the text of the property.

    Raises:
        ValueError: the text does not have the documented shape, or has another format version.
    """
    document = read_document(text, _Document, _FORMAT)
    return {TopicPartition.parse(name): start for name, start in document.partitions.items()}


def partition_starts_text(starts: PartitionStarts) -> str:
    """Return the text of the property; equal starts have equal text."""
    partitions = {str(where): starts[where] for where in sorted(starts)}
    return msgspec.json.encode(_Document(_FORMAT, partitions)).decode()
