"""The job's I/O in memory, and message batches as its input."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import TestingSink, cluster_main

from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.model.batch import MessageBatch
from k2.ops.settings import Settings, read_settings

FIRST_KAFKA_TIME: Final = 1_800_000_000_000_000
"""January 2027: later than the venue times of all captures."""
Message = tuple[bytes | None, bytes | None]


def message_batch(
    messages: Sequence[Message],
    first_offset: int = 0,
    partition: int = 0,
    topic: str = "trades",
    venue: str = "k2",
) -> MessageBatch:
    """Return (key, value) pairs as a batch, as a poll would."""
    parts = [part for pair in messages for part in (pair[1], pair[0])]
    sizes = np.array([-1 if part is None else len(part) for part in parts], dtype=np.int32)
    lengths = np.maximum(sizes, 0).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    offsets = np.arange(first_offset, first_offset + len(messages), dtype=np.int64)
    return MessageBatch(
        topic=topic,
        partition=partition,
        venue=venue,
        first_offset=first_offset,
        next_offset=first_offset + len(messages),
        offsets=offsets,
        kafka_timestamps=FIRST_KAFKA_TIME + offsets * 1000,
        data=np.frombuffer(bytearray().join(part for part in parts if part), dtype=np.uint8),
        value_starts=starts[::2],
        value_sizes=sizes[::2],
        key_starts=starts[1::2],
        key_sizes=sizes[1::2],
    )


class _Partition(StatefulSourcePartition[MessageBatch, int]):
    def __init__(self, batches: Sequence[MessageBatch], place: int) -> None:
        self._batches, self._place = batches, place

    def next_batch(self) -> Iterable[MessageBatch]:
        if self._place == len(self._batches):
            raise StopIteration
        self._place += 1
        return [self._batches[self._place - 1]]

    def snapshot(self) -> int:
        return self._place


class MemorySource(FixedPartitionedSource[MessageBatch, int]):
    """Emits each partition's batches in their order."""

    def __init__(self, partitions: dict[str, Sequence[MessageBatch]]) -> None:
        self._partitions = partitions

    def list_parts(self) -> list[str]:
        """Return the names of the partitions."""
        return list(self._partitions)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Partition:
        """Resume where the snapshot ends."""
        return _Partition(self._partitions[for_part], resume_state or 0)


class OnePartitionSource(FixedPartitionedSource[MessageBatch, int]):
    """Has one partition, which makes its batches itself, and does not resume."""

    def __init__(self, partition: StatefulSourcePartition[MessageBatch, int]) -> None:
        self._partition = partition

    def list_parts(self) -> list[str]:
        """Return the name of the partition."""
        return ["trades:0"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> StatefulSourcePartition[MessageBatch, int]:
        """Return the partition."""
        return self._partition


def run_in_memory(
    partitions: dict[str, Sequence[MessageBatch]], workers: int = 1, settings: Settings | None = None
) -> dict[str, list[Any]]:
    """Run the real flow over batches in memory and return what reached each of its outputs."""
    out: dict[str, list[Any]] = {"iceberg": [], "events": []}
    ends = JobIO(
        kafka=MemorySource(partitions),
        iceberg=TestingSink(out["iceberg"]),
        events=TestingSink(out["events"]),
    )
    flow = trades_flow(ends, settings or read_settings({}))
    cluster_main(flow, [], 0, worker_count_per_proc=workers)  # type: ignore[no-untyped-call]
    return out
