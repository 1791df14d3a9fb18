"""A small Bytewax flow with the job's step ids: numbered items of three partitions, counted by key."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSink, cluster_main

Item = tuple[str, int]
Hook = Callable[[int], None]
PARTITIONS = ("trades:0", "trades:1", "trades:2")


class _Partition(StatefulSourcePartition[Item, dict[str, int]]):
    def __init__(self, name: str, offset: int, end: int, hook: Hook) -> None:
        self._name, self._offset, self._end, self._hook = name, offset, end, hook

    def next_batch(self) -> Iterable[Item]:
        if self._offset >= self._end:
            raise StopIteration
        self._hook(self._offset)
        self._offset += 1
        return [(f"{self._name}/{self._offset % 4}", self._offset)]

    def snapshot(self) -> dict[str, int]:
        return {"format": 1, "offset": self._offset}


class _Source(FixedPartitionedSource[Item, dict[str, int]]):
    def __init__(self, end: int, hook: Hook) -> None:
        self._end, self._hook = end, hook

    def list_parts(self) -> list[str]:
        return [*PARTITIONS]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, int] | None) -> _Partition:
        offset = resume_state["offset"] if resume_state else 0
        return _Partition(for_part, offset, self._end, self._hook if for_part == PARTITIONS[0] else _nothing)


def _nothing(_offset: int) -> None:
    pass


def abort_at(place: int) -> Hook:
    """Return a hook that ends the execution as a crash would."""

    def hook(offset: int) -> None:
        if offset == place:
            raise AbortExecution

    return hook


def run(
    folder: Path, end: int, workers: int = 1, hook: Hook = _nothing, name: str = "trades", epoch_seconds: float = 0
) -> dict[str, int]:
    """Run over items up to `end` of each partition; return the greatest count of each key in the output."""
    out: list[Any] = []
    flow = Dataflow(name)
    items = op.input("kafka_in", flow, _Source(end, hook))
    counts = op.stateful_map("count", items, lambda count, _: ((count or 0) + 1, (count or 0) + 1))
    op.output("out", counts, TestingSink(out))
    cluster_main(  # type: ignore[no-untyped-call]
        flow,
        [],
        0,
        epoch_interval=timedelta(seconds=epoch_seconds),
        recovery_config=RecoveryConfig(str(folder)),  # type: ignore[no-untyped-call]
        worker_count_per_proc=workers,
    )
    greatest: dict[str, int] = {}
    for key, count in out:
        greatest[key] = max(count, greatest.get(key, 0))
    return greatest


def expected(end: int) -> dict[str, int]:
    """Return the counts after one run to `end`."""
    return {
        f"{name}/{rest}": sum(number % 4 == rest for number in range(1, end + 1))
        for name in PARTITIONS
        for rest in range(4)
    }
