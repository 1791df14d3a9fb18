"""Abandon offsets: skip messages that expired unread, were cut from their log, or cannot be read."""

from k2.iceberg.commit import Committer
from k2.iceberg.pending_commit import PendingCommit
from k2.model.errors import OffsetError
from k2.model.progress import PartitionDelta, Progress, TopicPartition
from k2.storage.commit_log import Remark

__all__ = ["abandon_offsets"]


def abandon_offsets(committer: Committer, topic_partition: TopicPartition, offset: int, writers: int) -> int | None:
    """Move every writer's progress in a topic partition to `offset`; return the first abandoned offset.

    Nothing is counted as received, so the partition counts still add up. Sequence numbers that were in those messages
    become gaps in the ledger when the next trade of their symbol arrives. A job that runs meanwhile is fenced out.
    The last message read is forgotten if it is below `offset`, so the next start accepts the log as it is. For that
    alone, `offset` may be the one that is to be read next: then nothing is abandoned. Returns None if the table has
    nothing of the partition.

    Raises:
        OffsetError: the table is beyond that offset, or at it without a last message to forget.
    """
    progress, names = committer.progress(), [str(writer) for writer in range(writers)]
    first = progress.next_offset(topic_partition, names)
    furthest = progress.furthest(topic_partition)
    has_last = furthest is not None and furthest.last_message is not None
    if first is not None and (offset < first or (offset == first and not has_last)):
        raise OffsetError(
            f"the table is already at offset {first} of {topic_partition}: nothing to abandon before {offset}; "
            "use a higher offset"
        )
    for writer in names:
        _move(committer, progress, writer, topic_partition, offset)
    return first


def _move(committer: Committer, progress: Progress, writer: str, topic_partition: TopicPartition, offset: int) -> None:
    entries, start = progress.of(writer), progress.start(topic_partition)
    start = offset if start is None else start
    first = entries[topic_partition].offset if topic_partition in entries else start
    if topic_partition in entries and entries[topic_partition].start >= offset:
        return
    remark: dict[str, str] = {}
    if first < offset:
        remark[Remark.ABANDONED_OFFSETS] = f"{topic_partition} {first}-{offset - 1}"
    elif first == offset:
        remark[Remark.ACCEPTED_LOG] = f"{topic_partition} from {offset}"
    # Also if a writer is beyond it: a recovery store may be before it, and would replay those messages.
    move = PartitionDelta(max(first, offset), start=offset)
    committer.commit(PendingCommit(writer, entries, {topic_partition: move}, [], extra_summary=remark))
