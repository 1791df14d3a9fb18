"""Where to begin reading each topic partition, decided aloud: nothing starts from scratch or jumps in silence."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from k2.model.errors import OffsetError
from k2.model.progress import TopicPartition

__all__ = ["Origin", "Record", "Start", "Watermarks", "check_topic_ids", "decide_start", "left_out"]


class Origin(StrEnum):
    """What a partition's first offset was taken from."""

    RECOVERY_STORE = "recovery store"
    TABLE = "table"
    BEGINNING = "beginning of the partition"


class Watermarks(NamedTuple):
    """The offsets that the broker holds of a partition: from `low`, to `high` exclusive."""

    low: int
    high: int


def check_topic_ids(known: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Refuse a topic that was deleted and made again since it was first read: its offsets mean other messages.

    `known` and `found` give Kafka's own id of each topic; one without an id on either side is not judged.

    Raises:
        OffsetError: a topic is another than it was.
    """
    for topic in sorted(known.keys() & found.keys()):
        if known[topic] != found[topic]:
            raise OffsetError(
                f"topic {topic} was deleted and made again (its id was {known[topic]}, it is {found[topic]}): what was "
                "read of it before is another topic's; give it another name in K2_TOPICS, or a new K2_NAMESPACE"
            )


def left_out(
    known: Iterable[TopicPartition], found: Collection[TopicPartition], topics: Collection[str]
) -> list[TopicPartition]:
    """Return the partitions that were read before and are not to be read now, since their topics are not asked for.

    `known` were read before, `found` are the broker's of the `topics` that are asked for (one at the least of each).

    Raises:
        OffsetError: the broker has lost a partition of a topic that is asked for.
    """
    gone = sorted(set(known) - set(found))
    for where in gone:
        if where.topic in topics:
            last = max(one.partition for one in found if one.topic == where.topic)
            raise OffsetError(
                f"{where} was read before, but its topic ends at partition {last} now: it was made again; give it "
                "another name in K2_TOPICS, or a new K2_NAMESPACE"
            )
    return gone


class Start(NamedTuple):
    """A partition's first offset, what it was taken from, and why."""

    offset: int
    origin: Origin
    why: str


class Record(NamedTuple):
    """What is known of a partition from before."""

    recovered: int | None
    """The recovery store's offset, None where it has none."""
    committed: int | None
    """The first offset that the table lacks, None where it has nothing of the partition."""
    first: int | None
    """The first offset that was ever read, or read again after others were given up; likewise."""


def decide_start(where: TopicPartition, record: Record, watermarks: Watermarks) -> Start:
    """Choose the offset from which one topic partition is read.

    A recovered offset wins: what lies between it and the table's is read again, and dropped by the writers. Without
    one the table's progress tells, and the trackers' state is rebuilt from the tables. What was given up is never read.

    Raises:
        OffsetError: the broker does not hold that offset (expired, or the topic was made again).
    """
    start = _choose(record, watermarks)
    reached = max(start.offset, record.committed or 0)
    if reached > watermarks.high:
        raise OffsetError(
            f"{where} ends at offset {watermarks.high}, but was read to {reached} before: the topic was made again or "
            "lost data; give it another name in K2_TOPICS, or a new K2_NAMESPACE"
        )
    if start.offset < watermarks.low:
        raise OffsetError(
            f"{where} begins at offset {watermarks.low}, but {start.offset} is to be read next ({start.why}): messages "
            f"have expired unread; if nobody has them any more, give them up by `k2 recovery skip {where} --yes`"
        )
    return start


def _choose(record: Record, watermarks: Watermarks) -> Start:
    recovered, committed, first = record.recovered, record.committed, record.first or 0
    if recovered is not None:
        if committed is not None and recovered < first:
            # Their trades are to count as never received, so the trackers must not see them.
            why = f"the recovery store's offset {recovered} lies before offsets that were given up"
            return Start(_there(first, committed, watermarks), Origin.TABLE, why)
        if committed is not None and recovered < watermarks.low <= committed:
            why = f"the recovery store's offset {recovered} has expired, and the table has what followed it"
            return Start(watermarks.low, Origin.TABLE, why)
        return Start(recovered, Origin.RECOVERY_STORE, "the recovery store's offset")
    if committed is None or record.first is None:
        return Start(watermarks.low, Origin.BEGINNING, "nothing of it was read before")
    return Start(committed, Origin.TABLE, "no recovery store knows it, but the table has rows of it")


def _there(offset: int, committed: int, watermarks: Watermarks) -> int:
    """Return an offset from which what is in the table is read again; the first that is left where it has expired."""
    return watermarks.low if offset < watermarks.low <= committed else offset
