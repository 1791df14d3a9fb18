"""Where the partitions of a new topic begin: at an end, or at a time, as `K2_START` says."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import structlog

from k2.kafka.offset_resolution import Watermarks
from k2.model.partition_starts import EARLIEST, PartitionStart, PartitionStarts, is_new_topic, start_time_ms
from k2.model.progress import TopicPartition

__all__ = ["OffsetsAt", "decide_starts"]

OffsetsAt = Callable[[Sequence[TopicPartition], int], Mapping[TopicPartition, int | None]]
"""Asks the broker for the first offset of each partition that is not before a time, in milliseconds; or None."""

_LOG: Final = structlog.get_logger()


def decide_starts(
    rule: str, known: Collection[TopicPartition], watermarks: Mapping[TopicPartition, Watermarks], offsets_at: OffsetsAt
) -> PartitionStarts:
    """Return where the partitions of new topics begin by `rule`, a value of `K2_START`; none by `earliest`.

    `known` are the partitions that the recovery store or the table knows. Of their topics nothing is decided: a
    partition that was added to one is read from its beginning. If a partition has no message from a time on, it begins
    at its end, and a log line says so.
    """
    if rule == EARLIEST:
        return {}
    new = [where for where in sorted(watermarks) if is_new_topic(where.topic, known)]
    time_ms = start_time_ms(rule)
    found = {} if time_ms is None or not new else offsets_at(new, time_ms)
    starts = {}
    for where in new:
        low, high = watermarks[where]
        offset = found.get(where)
        if time_ms is not None and offset is None:
            _LOG.warning(
                "start_after_end",
                partition=str(where),
                start=rule,
                offset=high,
                effect="the partition has no message from that time on, so it is read from its end",
            )
        # Published since the watermarks were read: the end of this start is the one that a run to the end stops at.
        starts[where] = PartitionStart(high if offset is None else max(low, min(offset, high)), low, rule)
    return starts
