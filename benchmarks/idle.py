"""What a job without messages takes, and how soon it has one that arrives: `python -m benchmarks.idle --partitions 64`.

The CPU time is that of the whole process as the operating system counts it, once all rules are compiled. The latency is
that of the source: its partitions are polled in this process as Bytewax polls them, and single messages are published,
further apart than the time after which the job waits. It is from the answer of the broker to the producer until the
source returns the message.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Final

import confluent_kafka

from benchmarks.job import command_of
from benchmarks.process import FOLDER
from benchmarks.process_status import ProcessStatus, status_of
from k2.kafka.source import KafkaSource
from k2.model.progress import Progress
from k2.ops.child_process import free_port
from k2.ops.settings import read_settings
from tests.brokers import Broker, own_broker
from tests.flows.job import wait_until
from tests.flows.outage import get

START_SECONDS_MAX: Final = 300.0
SETTLE_SECONDS: Final = 5.0
APART_SECONDS: Final = 3.0
EPOCH_SECONDS: Final = 10
PARK_SECONDS: Final = 0.001
"""Time for which Bytewax parks a worker without work."""


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
            before, started = _status(process), time.monotonic()
            time.sleep(chosen.seconds)
            after = _status(process)
            share = (after.cpu_seconds - before.cpu_seconds) / (time.monotonic() - started)
            print(
                f"{chosen.partitions} partitions, {chosen.workers} workers, without messages: {share:.2%} of a core, "
                f"{after.threads} threads, {after.resident_mb:,.0f} MB resident"
            )
        latencies = latencies_ms(broker.bootstrap_servers, topic, chosen.messages)
        median, longest = statistics.median(latencies), max(latencies)
        print(f"{chosen.messages} single messages: received after {median:.1f} ms, at most {longest:.1f} ms")


@contextmanager
def _idle_job(broker: Broker, topic: str, port: int, workers: int) -> Iterator[int]:
    """Run the job; yield its process id."""
    with tempfile.TemporaryDirectory() as folder:
        command, environment = command_of(
            broker.bootstrap_servers,
            topic,
            Path(folder),
            workers,
            epoch_seconds=EPOCH_SECONDS,
            run_to_end="false",
            metrics_port=str(port),
        )
        process = subprocess.Popen(
            command,
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


def _status(process: int) -> ProcessStatus:
    status = status_of(process)
    assert status is not None, "the job has ended"
    return status


def latencies_ms(bootstrap_servers: str, topic: str, messages: int) -> list[float]:
    """Publish messages to the partitions in turn; return the milliseconds from the broker's answer to each receipt."""
    settings = read_settings({"K2_TOPICS": topic, "K2_BOOTSTRAP_SERVERS": bootstrap_servers})
    source = KafkaSource(settings, Progress())
    parts = source.list_parts()
    received: Queue[float] = Queue()
    Thread(target=_poll_all, args=(source, parts, received), daemon=True).start()
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 0})
    latencies = []
    for number in range(messages):
        time.sleep(APART_SECONDS)
        received.queue.clear()
        producer.produce(topic, value=b"message", partition=number % len(parts))
        producer.flush()
        answered = time.perf_counter()
        # The source may have it before the producer has the answer.
        latencies.append(max(0.0, received.get() - answered) * 1e3)
    return latencies


def _poll_all(source: KafkaSource, parts: list[str], received: "Queue[float]") -> None:
    """Poll all partitions in turn for ever, each when it is due; put the time of each message into `received`."""
    due = dict.fromkeys((source.build_part("kafka_in", name, None) for name in parts), 0.0)
    while True:
        for part, due_at in due.items():
            if time.time() < due_at:
                continue
            for _ in range(sum(map(len, part.next_batch()))):
                received.put(time.perf_counter())
            awake = part.next_awake()
            due[part] = time.time() + PARK_SECONDS if awake is None else awake.timestamp()
        time.sleep(PARK_SECONDS)


if __name__ == "__main__":
    main()
