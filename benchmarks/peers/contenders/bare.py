"""A bare `Consumer.consume()` loop, which does nothing with the messages: the measure of the others."""

import sys
from importlib.metadata import version
from typing import Final

from benchmarks.peers.contender import Contender, Launch, Task, needs_nothing

__all__ = ["CONTENDER"]


def _launch(task: Task) -> Launch:
    return Launch([sys.executable, "-m", "benchmarks.bare", task.bootstrap_servers, task.topic])


CONTENDER: Final = Contender(
    name="bare",
    title=f"bare loop, confluent-kafka {version('confluent-kafka')}",
    prepare=needs_nothing,
    launch=_launch,
    configured="Polls of 20,000 messages; decodes nothing, writes nothing.",
    ends_itself=True,
    writes_table=False,
)
