"""A consumer as a good engineer writes it in an afternoon, with the libraries that this repository has as well."""

import sys
from importlib.metadata import version
from typing import Final

from benchmarks.peers.contender import COMMIT_SECONDS, Contender, Launch, Task, needs_nothing

__all__ = ["CONTENDER"]


def _launch(task: Task) -> Launch:
    program = [sys.executable, "-m", "benchmarks.peers.contenders.hand_written.program"]
    return Launch([*program, task.bootstrap_servers, task.topic, str(task.folder), str(COMMIT_SECONDS)])


CONTENDER: Final = Contender(
    name="hand-written",
    title=f"hand-written, PyIceberg {version('pyiceberg')}",
    prepare=needs_nothing,
    launch=_launch,
    configured="Polls of 10,000 messages, one typed msgspec decoder, Arrow columns from lists, a PyIceberg append each "
    "5 s, and the offsets committed to Kafka after it: at least once.",
    ends_itself=True,
)
