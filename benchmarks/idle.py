"""What a job without messages takes, and how soon it has one that arrives: `python -m benchmarks.idle --partitions 64`.

The CPU time is that of the whole process as the operating system counts it, once all rules are compiled. Then single
messages are published, further apart than the time after which the job waits, and the counter of received messages is
read until it has each: that includes the scrape that sees it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import confluent_kafka

from benchmarks.mixture import Mixture
from benchmarks.process import FOLDER
from k2.ops.child_process import free_port
from tests.brokers import Broker, own_broker
from tests.flows.job import wait_until
from tests.flows.outage import get

COUNTER: Final = "k2_messages_received_total "
START_SECONDS_MAX: Final = 300.0
SETTLE_SECONDS: Final = 5.0
APART_SECONDS: Final = 1.5


def main() -> None:
    """Run an idle job; print its share of a core, threads, memory, and the latency of single messages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--messages", type=int, default=20)
    chosen = parser.parse_args()
    with own_broker() as broker:
        topic, port = broker.topic(chosen.partitions), free_port()
        with _idle_job(broker, topic, port, chosen.workers) as process:
            wait_until(lambda: get(port, "readyz")[0] == 200, "the job is not ready", START_SECONDS_MAX)
            time.sleep(SETTLE_SECONDS)
            began, started = _cpu_seconds(process), time.monotonic()
            time.sleep(chosen.seconds)
            share = (_cpu_seconds(process) - began) / (time.monotonic() - started)
            print(
                f"{chosen.partitions} partitions, {chosen.workers} workers, without messages: {share:.2%} of a core, "
                f"{_status(process, 'Threads')} threads, {_status(process, 'VmRSS') * 1024 / 1e6:,.0f} MB resident"
            )
            latencies = [_latency_ms(broker, topic, port, one % chosen.partitions) for one in range(chosen.messages)]
            if latencies:
                median, longest = statistics.median(latencies), max(latencies)
                print(f"{chosen.messages} single messages: {median:.1f} ms until received, {longest:.1f} ms at most")


@contextmanager
def _idle_job(broker: Broker, topic: str, port: int, workers: int) -> Iterator[int]:
    """Run the job with epochs of ten seconds; yield its process id."""
    with tempfile.TemporaryDirectory() as folder:
        recovery = Path(folder, "recovery")
        recovery.mkdir()
        subprocess.run([sys.executable, "-m", "bytewax.recovery", recovery, str(workers)], check=True)
        environment = {
            "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "K2_TOPICS": topic,
            "K2_DATA_DIR": folder,
            "K2_METRICS_PORT": str(port),
        }
        command = [sys.executable, "-m", "bytewax.run", "flows.trades", "-w", str(workers)]
        process = subprocess.Popen(
            [*command, "-r", str(recovery), "-s", "10", "-b", "0"],
            cwd=FOLDER,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()


def _latency_ms(broker: Broker, topic: str, port: int, partition: int) -> float:
    """Publish a message, and return the milliseconds from the broker's answer until the job has received it."""
    time.sleep(APART_SECONDS)
    before = _received(port)
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
    (record,) = Mixture(1, malformed=0.0).records()
    producer.produce(topic, value=record[1], partition=partition)
    producer.flush(10)
    started = time.perf_counter()
    while _received(port) == before:
        pass
    return (time.perf_counter() - started) * 1e3


def _received(port: int) -> float:
    _, text = get(port, "metrics")
    return float(next(line for line in text.splitlines() if line.startswith(COUNTER)).split()[1])


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
