"""Offset resolution: the start offset of each topic partition, from the recovery store, the table and the broker."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from k2.model.errors import OffsetError
from k2.model.partition_starts import PartitionStart
from k2.model.progress import TopicPartition
from k2.model.wording import format_count

__all__ = [
    "KnownOffsets",
    "Origin",
    "StartOffset",
    "Watermarks",
    "check_topic_ids",
    "resolve_start_offset",
    "unconfigured_partitions",
]


class Origin(StrEnum):
    """Source of a start offset."""

    RECOVERY_STORE = "recovery store"
    TABLE = "table"
    BEGINNING = "beginning of the partition"
    SETTING = "K2_START"


class Watermarks(NamedTuple):
    """Offsets of a partition that the broker has: from `low` to `high`, exclusive."""

    low: int
    high: int


class StartOffset(NamedTuple):
    """Offset from which a partition is read, its source, and the reason for the choice."""

    offset: int
    origin: Origin
    why: str


class KnownOffsets(NamedTuple):
    """Offsets of a partition that earlier runs recorded; None if there is no record."""

    recovered: int | None
    """Next offset in the recovery store."""
    committed: int | None
    """Committed offset: the first that the table lacks."""
    first: int | None
    """First offset that was ever read, or the first after offsets that were abandoned."""
    furthest: int = 0
    """Highest committed offset of a writer: writers commit one after the other."""
    begun: PartitionStart | None = None
    """Start on record, by `K2_START` when the topic was new."""


def check_topic_ids(known: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Reject a topic that was deleted and recreated since it was first read: its offsets mean other messages.

    `known` and `found` are the topic ids of Kafka, by name. A topic without an id on either side is not checked.

    Raises:
        OffsetError: a topic has another id than when it was first read.
    """
    for topic in sorted(known.keys() & found.keys()):
        if known[topic] != found[topic]:
            raise OffsetError(
                f"topic {topic} was deleted and recreated (its id was {known[topic]}, it is {found[topic]}): the "
                "stored trades are from the deleted topic; set another topic in K2_TOPICS, or another K2_NAMESPACE"
            )


def unconfigured_partitions(
    known: Iterable[TopicPartition], found: Collection[TopicPartition], topics: Collection[str]
) -> list[TopicPartition]:
    """Return the partitions that were read before and whose topics are no longer configured.

    `known` were read before. `found` are the partitions that the broker has of the configured `topics`, at least one
    of each.

    Raises:
        OffsetError: the broker has lost a partition of a configured topic.
    """
    gone = sorted(set(known) - set(found))
    for topic_partition in gone:
        if topic_partition.topic in topics:
            last = max(one.partition for one in found if one.topic == topic_partition.topic)
            raise OffsetError(
                f"{topic_partition} was read before, but its topic ends at partition {last} now: it was recreated; "
                "set another topic in K2_TOPICS, or another K2_NAMESPACE"
            )
    return gone


def resolve_start_offset(topic_partition: TopicPartition, known: KnownOffsets, watermarks: Watermarks) -> StartOffset:
    """Choose the offset from which a topic partition is read.

    A recovered offset takes precedence: the messages from there to the committed offset are read again, and the writers
    drop their rows. Without one, reading starts at the committed offset, and the trackers' state is rebuilt from the
    tables. Abandoned offsets are never read. A partition that was never read begins where `K2_START` began its topic,
    if that is on record, else at its first message.

    Raises:
        OffsetError: the broker does not have that offset (expired, or the topic was recreated).
    """
    start = _choose(known, watermarks)
    reached = max(start.offset, known.committed or 0, known.furthest)
    if start.origin is Origin.SETTING and reached > watermarks.high:
        raise OffsetError(
            f"{topic_partition} ends at offset {watermarks.high}, but {start.offset} is to be read next ({start.why}): "
            "the topic was recreated or lost data; set another topic in K2_TOPICS, or another K2_NAMESPACE"
        )
    if reached > watermarks.high:
        raise OffsetError(
            f"{topic_partition} ends at offset {watermarks.high}, but was read to {reached} before: the topic was "
            "recreated or lost data; set another topic in K2_TOPICS, or another K2_NAMESPACE"
        )
    if start.offset < watermarks.low:
        raise OffsetError(
            f"{topic_partition} begins at offset {watermarks.low}, but {start.offset} is to be read next "
            f"({start.why}): messages have expired unread; if no other copy exists, abandon them with "
            f"`k2 recovery skip {topic_partition} --yes`"
        )
    return start


def _choose(known: KnownOffsets, watermarks: Watermarks) -> StartOffset:
    recovered, committed, first = known.recovered, known.committed, known.first or 0
    if recovered is not None:
        if committed is not None and recovered < first:
            # Trades at abandoned offsets count as never received, so the trackers must not see them.
            why = f"the recovery store's offset {recovered} is below offsets that were abandoned"
            return StartOffset(_earliest_available(first, committed, watermarks), Origin.TABLE, why)
        if committed is not None and recovered < watermarks.low <= committed:
            why = f"the recovery store's offset {recovered} has expired, but the table has the messages that followed"
            return StartOffset(watermarks.low, Origin.TABLE, why)
        return StartOffset(recovered, Origin.RECOVERY_STORE, "offset of the recovery store")
    if committed is None or known.first is None:
        if known.begun is not None:
            begun = known.begun
            left_out = format_count(begun.left_out, "offset")
            why = f"K2_START={begun.rule} when the topic was new, which left out {left_out}"
            return StartOffset(begun.offset, Origin.SETTING, why)
        return StartOffset(watermarks.low, Origin.BEGINNING, "the partition was never read before")
    return StartOffset(committed, Origin.TABLE, "not in the recovery store, but in the progress of the table")


def _earliest_available(offset: int, committed: int, watermarks: Watermarks) -> int:
    """Return an offset, or the low watermark if the offset has expired and the table has all that expired."""
    return watermarks.low if offset < watermarks.low <= committed else offset
