"""Offsets given up: messages that expired before the job read them, and that nobody has any more."""

from typing import Final

from k2.iceberg.commit import Advance, Committer
from k2.model.errors import OffsetError
from k2.model.progress import PartitionProgress, Progress, TopicPartition

__all__ = ["ABANDONED_OFFSETS", "abandon_offsets"]

ABANDONED_OFFSETS: Final = "k2.given_up"
"""Entry of a snapshot's summary: the range of offsets that were given up, as `topic:partition first-last`."""


def abandon_offsets(committer: Committer, where: TopicPartition, offset: int, writers: int) -> int | None:
    """Move the table's progress of a partition on to `offset`, for every writer.

    Nothing is counted as received, so the partition's sum goes on to hold; numbers that were in those messages show up
    as gaps of the ledger when the next trade of their symbol comes. A job that runs meanwhile is fenced. Gives the
    first offset given up; None where the table had nothing of the partition.

    Raises:
        OffsetError: the table is at that offset or beyond it.
    """
    progress, names = committer.progress(), [str(writer) for writer in range(writers)]
    first = progress.next_offset(where, names)
    if first is not None and offset <= first:
        raise OffsetError(f"the table is at offset {first} of {where} already, so there is nothing to give up")
    for writer in names:
        _move(committer, progress, writer, where, offset)
    return first


def _move(committer: Committer, progress: Progress, writer: str, where: TopicPartition, offset: int) -> None:
    entries, start = progress.of(writer), progress.start(where)
    start = offset if start is None else start
    first = entries[where].offset if where in entries else start
    if where in entries and entries[where].start >= offset:
        return
    remark = {ABANDONED_OFFSETS: f"{where} {first}-{offset - 1}"} if first < offset else {}
    # Also where a writer is beyond it: a recovery store may be before it, and would have those messages read again.
    move = PartitionProgress(max(first, offset), start=offset)
    committer.commit(Advance(writer, entries, {where: move}, [], remark=remark))
