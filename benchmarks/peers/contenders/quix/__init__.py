"""Quix Streams: its StreamingDataFrame, with a batching sink."""

from pathlib import Path
from typing import Final

from benchmarks.peers.contender import COMMIT_SECONDS, Contender, Launch, Task
from benchmarks.peers.pins import pinned_version
from benchmarks.process import FOLDER
from tests.environments import environment

__all__ = ["CONTENDER"]

PINS: Final = FOLDER / "requirements" / "peers-quix.txt"
PROGRAM: Final = Path(__file__).parent / "program.py"


def _prepare() -> None:
    environment(PINS)


def _launch(task: Task) -> Launch:
    arguments = [task.bootstrap_servers, task.topic, str(task.folder), str(COMMIT_SECONDS)]
    return Launch([str(environment(PINS)), str(PROGRAM), *arguments])


CONTENDER: Final = Contender(
    name="quix",
    title=f"Quix Streams {pinned_version(PINS, 'quixstreams')}",
    prepare=_prepare,
    launch=_launch,
    configured="StreamingDataFrame of dicts, orjson, a commit interval of 5 s, no state; a BatchingSink that appends "
    "by PyIceberg, because its own Iceberg sink only knows AWS Glue.",
)
