"""Start-up of the job: `python -m benchmarks.start_up [--runs 5]`.

Seconds and CPU seconds of whole processes on a topic of few messages, into new tables and into existing ones: until the
job reads, until its first messages are committed, and until it has ended; the imports alone; a start for which no rule
is compiled; and `k2 compile`. The broker is the broker of the tests. Processes run in turn, so
that drift of the machine affects all equally.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.process import FOLDER, measured
from k2.kafka.producer import TradeProducer
from k2.ops.settings import read_settings
from tests.brokers import Broker, own_broker

MESSAGES: Final = 2_000
PARTITIONS: Final = 4
IMPORTS: Final = """
import k2.ops.signals
k2.ops.signals.is_job = lambda: True
import bytewax.run, flows.trades
"""
NOT_COMPILED: Final = {"NUMBA_CPU_NAME": "generic"}
"""With an empty cache folder: a checkout has rules for its own CPU, which a new folder begins with."""


class Start(NamedTuple):
    """What one process took; the first two are NaN for one that is no job."""

    reading: float
    committed: float
    ended: float
    cpu: float


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with own_broker() as broker, tempfile.TemporaryDirectory() as folder:
        settings = _settings(broker)
        # Each batch is an epoch, so that no time passes before the first commit.
        job = [sys.executable, "-m", "bytewax.run", "flows.trades", "-s", "0"]
        k2_run = [sys.executable, "-m", "k2.cli", "run", "-s", "0"]
        starts: dict[str, Callable[[Path], Start]] = {
            "imports of the job": lambda _: _start([sys.executable, "-c", IMPORTS], {}),
            "job, new tables": lambda data: _start(job, {**settings, "K2_DATA_DIR": str(data)}),
            "job, existing tables": lambda data: _start(job, {**settings, "K2_DATA_DIR": str(data)}),
            "k2 run, new tables": lambda data: _start(k2_run, {**settings, "K2_DATA_DIR": f"{data}-k2"}),
            "k2 run, existing tables": lambda data: _start(k2_run, {**settings, "K2_DATA_DIR": f"{data}-k2"}),
        }
        subprocess.run([sys.executable, "-m", "k2.cli", "compile"], cwd=FOLDER, check=True)
        found: dict[str, list[Start]] = {name: [] for name in starts}
        for run in range(runs):
            for name, start in starts.items():
                _publish(broker, settings["K2_TOPICS"])
                found[name].append(start(Path(folder, str(run))))
        empty = {**NOT_COMPILED, "NUMBA_CACHE_DIR": f"{folder}/first"}
        first = {**settings, **empty, "K2_DATA_DIR": f"{folder}/first-data"}
        found["job, nothing compiled"] = [_start(job, first)]
        empty = {**NOT_COMPILED, "NUMBA_CACHE_DIR": f"{folder}/compile"}
        found["k2 compile"] = [_start([sys.executable, "-m", "k2.cli", "compile"], empty)]
    _print(broker, found)


def _settings(broker: Broker) -> dict[str, str]:
    return {
        "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "K2_TOPICS": broker.topic(partitions=PARTITIONS),
        "K2_METRICS_PORT": "0",
        "K2_RUN_TO_END": "true",
    }


def _publish(broker: Broker, topic: str) -> None:
    with TradeProducer(read_settings({}, bootstrap_servers=broker.bootstrap_servers), topic) as producer:
        for number in range(MESSAGES):
            trade = {"exchange": "x", "symbol": f"S{number % 10}", "trade_id": str(time.time_ns()), "sequence": None}
            market = {"price": "1.5", "quantity": "2", "side": "buy", "timestamp": time.time_ns() // 1000}
            producer.send(None, json.dumps({**trade, **market}).encode())


def _start(command: list[str], environment: Mapping[str, str]) -> Start:
    """Run a process to its end; its own log says when it reads, and when it has committed."""
    run = measured(command, environment)
    times: dict[str, float] = {}
    for line in run.log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            times.setdefault(entry["event"], datetime.fromisoformat(entry["timestamp"]).timestamp() - run.started)
    return Start(times.get("reading", math.nan), times.get("committed", math.nan), run.wall_seconds, run.cpu_seconds)


def _print(broker: Broker, found: Mapping[str, list[Start]]) -> None:
    print(f"broker: {broker.name}; medians of seconds since the start of the process")
    print(f"{'':26} {'reads':>8} {'commits':>8} {'ends':>8} {'CPU':>8}")
    for name, starts in found.items():
        medians = [statistics.median(values) for values in zip(*starts, strict=True)]
        print(f"{name:26} " + " ".join(" " * 8 if math.isnan(one) else f"{one:8.2f}" for one in medians))


if __name__ == "__main__":
    main()
