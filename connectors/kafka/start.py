"""Where to begin reading each topic partition, decided aloud: nothing starts from scratch or jumps in silence."""

from enum import StrEnum
from typing import NamedTuple

from trades.errors import OffsetError
from trades.progress import Progress, TopicPartition

__all__ = ["Origin", "Start", "Watermarks", "decide_start"]


class Origin(StrEnum):
    """What a partition's first offset was taken from."""

    RECOVERY_STORE = "recovery store"
    TABLE = "table"
    BEGINNING = "beginning of the partition"


class Watermarks(NamedTuple):
    """The offsets that the broker holds of a partition: from `low`, to `high` exclusive."""

    low: int
    high: int


class Start(NamedTuple):
    """A partition's first offset, what it was taken from, and why."""

    offset: int
    origin: Origin
    why: str


def decide_start(where: TopicPartition, recovered: int | None, progress: Progress, watermarks: Watermarks) -> Start:
    """Choose the offset from which one topic partition is read.

    A recovered offset wins, since the trackers' state is of that moment; rows that the table has already are dropped
    by its writers. Without one, while the table has progress, all is replayed from the first offset ever read: that
    builds the same state anew, and the writers drop what is in.

    Raises:
        OffsetError: the broker does not hold that offset (expired, or the topic was made anew).
    """
    start = _choose(where, recovered, progress, watermarks)
    committed = max(
        (entries[where].offset for entries in progress.writers.values() if where in entries),
        default=start.offset,
    )
    if max(committed, start.offset) > watermarks.high:
        raise OffsetError(
            f"{where} ends at offset {watermarks.high}, but was read to {max(committed, start.offset)} before: the "
            "topic was made anew or lost data; give it another name in K2_TOPICS, or a new K2_NAMESPACE"
        )
    if start.offset < watermarks.low:
        raise OffsetError(
            f"{where} begins at offset {watermarks.low}, but {start.offset} is to be read next ({start.why}): messages "
            f"have expired unread; restore a recovery store whose offset is at least {watermarks.low}, or give a new "
            "K2_NAMESPACE"
        )
    return start


def _choose(where: TopicPartition, recovered: int | None, progress: Progress, watermarks: Watermarks) -> Start:
    if recovered is not None:
        return Start(recovered, Origin.RECOVERY_STORE, "the recovery store's offset")
    first = progress.start(where)
    if first is not None:
        return Start(first, Origin.TABLE, "no recovery store knows this partition, but the table has rows of it")
    return Start(watermarks.low, Origin.BEGINNING, "nothing of it was read before")
