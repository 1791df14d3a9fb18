"""The fence: a writer goes on only from the progress that it left, or read, itself."""

from collections.abc import Mapping

from k2.model.errors import FencedError
from k2.model.progress import PartitionProgress, TopicPartition

__all__ = ["Entries", "check_fence"]

Entries = Mapping[TopicPartition, PartitionProgress]
"""One writer's progress."""


def check_fence(table: str, writer: str, found: Entries, own: Entries) -> None:
    """Compare a writer's progress in the table with what this instance knows of it.

    Raises:
        FencedError: they differ, so another live instance has committed; it names both sides.
    """
    for where in sorted({*found, *own}):
        if found.get(where) != own.get(where):
            raise FencedError(
                f"another instance writes to table {table} as writer {writer}: {where} is at offset "
                f"{_offset(found.get(where))}, this instance left it at {_offset(own.get(where))}; stop one of the two "
                "and start again"
            )


def _offset(entry: PartitionProgress | None) -> str:
    return "none" if entry is None else f"{entry.offset} with {entry.received} received"
