"""Since when the next message of each partition has been waiting.

A Kafka timestamp is the producer's, unless the topic has `message.timestamp.type=LogAppendTime`: that of a replayed
capture is years old, that of a wrong clock may be ahead. So it is believed only where it agrees with the commits.
Otherwise the time counts from when the message was first seen unread.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from k2.kafka.unread import PartitionEnd
from k2.model.progress import TopicPartition
from k2.model.times import TIME_AHEAD_TOLERANCE_US

__all__ = ["Waiting", "arrival"]

_TOLERANCE: Final = timedelta(microseconds=TIME_AHEAD_TOLERANCE_US)


def arrival(
    timestamp: datetime | None, committed_at: datetime | None, lag: int | None, now: datetime
) -> datetime | None:
    """Return when an unread message arrived, by its Kafka timestamp and the partition's last commit; None if unknown.

    `lag` is what was unread at that commit; None if it is not known, as for commits of an earlier version.
    """
    if timestamp is not None and timestamp <= now + _TOLERANCE and (committed_at is None or timestamp >= committed_at):
        return min(timestamp, now)
    if committed_at is None or lag == 0:
        return None
    return committed_at if timestamp is None else min(timestamp, committed_at)


class Waiting:
    """Remembers since when each partition has had the same next message, over the readings of a status."""

    def __init__(self) -> None:
        self._seen: dict[TopicPartition, tuple[int, datetime]] = {}
        self.is_certain = True
        """Whether each time of the last reading comes from a timestamp, or is of a partition that advances."""

    def since(
        self,
        ends: Mapping[TopicPartition, PartitionEnd],
        committed_at: Mapping[TopicPartition, datetime | None],
        lag: int | None,
        now: datetime,
    ) -> dict[TopicPartition, datetime]:
        """Return the time for each partition with something unread, or held back by a transaction.

        `committed_at` are the last commits of the partitions that have any, and `lag` is what was unread at the newest.
        """
        found, before, self._seen = dict[TopicPartition, datetime](), self._seen, {}
        self.is_certain = True
        for partition, end in ends.items():
            if not end.unread and not end.held_back:
                continue
            position = end.end_offset - end.unread
            seen = before.get(partition)
            has_advanced = seen is not None and seen[0] != position
            self._seen[partition] = (position, now) if seen is None or has_advanced else seen
            known = arrival(end.oldest_unread, committed_at.get(partition), lag, now) if end.unread else None
            found[partition] = self._seen[partition][1] if known is None else known
            self.is_certain &= known is not None or has_advanced
        return found
