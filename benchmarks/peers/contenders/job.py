"""The job of this repository, as `make bench` runs it."""

from importlib.metadata import version
from typing import Final

from benchmarks.job import command_of
from benchmarks.peers.contender import Ability, Contender, Launch, Task, needs_nothing

__all__ = ["CONTENDER"]


def _launch(task: Task) -> Launch:
    return Launch(*command_of(task.bootstrap_servers, task.topic, task.folder))


def _dead_letters(task: Task) -> int:
    files = (task.folder / "dlq").glob("*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)


CONTENDER: Final = Contender(
    name="job",
    title=f"K2 trades {version('k2-trades')}",
    prepare=needs_nothing,
    launch=_launch,
    configured="Its defaults, with a recovery store, one worker and an epoch of 5 s; the table is partitioned by day "
    "and exchange, and sorted.",
    abilities=frozenset(Ability),
    ends_itself=True,
    dead_letters=_dead_letters,
)
