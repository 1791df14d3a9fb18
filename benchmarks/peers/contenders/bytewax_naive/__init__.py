"""A Bytewax flow as its documentation begins: its Kafka connector, a dict for each message, small steps."""

import subprocess
import sys
from importlib.metadata import version
from typing import Final

from benchmarks.peers.contender import COMMIT_SECONDS, Ability, Contender, Launch, Task, needs_nothing

__all__ = ["CONTENDER"]


def _launch(task: Task) -> Launch:
    recovery = task.folder / "recovery"
    recovery.mkdir()
    subprocess.run([sys.executable, "-m", "bytewax.recovery", recovery, "1"], check=True)
    arguments = ", ".join(repr(one) for one in (task.bootstrap_servers, task.topic, str(task.folder)))
    flow = f"benchmarks.peers.contenders.bytewax_naive.program:flow({arguments})"
    recovers = ["-r", str(recovery), "-s", str(COMMIT_SECONDS), "-b", "0"]
    return Launch([sys.executable, "-m", "bytewax.run", flow, *recovers])


CONTENDER: Final = Contender(
    name="bytewax-naive",
    title=f"Bytewax {version('bytewax')}, a dict per message",
    prepare=needs_nothing,
    launch=_launch,
    configured="Its Kafka connector with batches of 10,000, json.loads, stateful_map by symbol, collect of up to "
    "100,000 or 5 s, and a PyIceberg append for each; snapshots each 5 s, one worker.",
    abilities=frozenset({Ability.DEDUPLICATION}),
    ends_itself=True,
)
