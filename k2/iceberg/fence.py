"""The fence: a writer commits only on top of the progress that it committed or read itself."""

from collections.abc import Mapping

from k2.model.errors import FencedError
from k2.model.progress import PartitionProgress, TopicPartition

__all__ = ["Entries", "check_fence"]

Entries = Mapping[TopicPartition, PartitionProgress]
"""One writer's progress."""


def check_fence(table: str, writer: str, found: Entries, own: Entries) -> None:
    """Compare a writer's progress in the table with the progress that this instance expects.

    Raises:
        FencedError: they differ, so another live instance has committed; the message has both sides.
    """
    for topic_partition in sorted({*found, *own}):
        if found.get(topic_partition) != own.get(topic_partition):
            raise FencedError(
                f"another instance writes to table {table} as writer {writer}: {topic_partition} is at offset "
                f"{_describe(found.get(topic_partition))}, this instance left it at "
                f"{_describe(own.get(topic_partition))}; stop one of the two and restart the other"
            )


def _describe(entry: PartitionProgress | None) -> str:
    return "none" if entry is None else f"{entry.offset} with {entry.received} received"
