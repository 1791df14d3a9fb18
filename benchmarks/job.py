"""CPU time per message of the job, relative to a bare `consume()` loop; `make bench` prints it.

Both are whole processes, timed by the operating system. The CPU time on an empty topic (start-up) is subtracted. The
broker is the broker of the tests.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from k2.kafka.producer import TradeProducer
from k2.ops.settings import read_settings
from tests.brokers import Broker, own_broker

PARTITIONS: Final = 4
MESSAGES: Final = 1_000_000
RUNS: Final = 5
FOLDER: Final = Path(__file__).resolve().parent.parent
FIRST_TIME: Final = 1_700_000_000_000_000


class Costs(msgspec.Struct, frozen=True):
    """Median CPU microseconds per message, and their ratios."""

    bare_us: float
    job_10_symbols_us: float
    job_10000_symbols_us: float
    job_over_bare: float
    symbols_10000_over_10: float


def main() -> None:
    """Fill the topics, run the processes alternately, print the medians and the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--messages", type=int, default=MESSAGES)
    arguments.add_argument("--runs", type=int, default=RUNS)
    arguments.add_argument("--workers", type=int, default=1)
    chosen = arguments.parse_args()
    with own_broker() as broker:
        costs = measure(broker, chosen.messages, chosen.runs, chosen.workers)
    print(f"broker: {broker.name}; {chosen.messages:,} messages, {PARTITIONS} partitions, {chosen.runs} runs")
    print(f"bare consume() loop        {costs.bare_us:6.2f} us CPU per message")
    print(f"whole job, 10 symbols      {costs.job_10_symbols_us:6.2f} us   {costs.job_over_bare:.2f} times bare")
    print(
        f"whole job, 10,000 symbols  {costs.job_10000_symbols_us:6.2f} us   "
        f"{costs.symbols_10000_over_10:.2f} times that of 10 symbols"
    )


def measure(broker: Broker, messages: int, runs: int, workers: int) -> Costs:
    """Measure each process `runs` times; runs alternate, so that drift of the machine affects all equally."""
    empty, few, many = (broker.topic(partitions=PARTITIONS) for _ in range(3))
    fill(broker, few, messages, symbols=10)
    fill(broker, many, messages, symbols=10_000)
    commands: dict[str, Callable[[], float]] = {
        "bare empty": lambda: bare(broker, empty, 0),
        "bare": lambda: bare(broker, few, messages),
        "job empty": lambda: job(broker, empty, workers),
        "job few": lambda: job(broker, few, workers),
        "job many": lambda: job(broker, many, workers),
    }
    commands["job few"]()  # compile before the measurement
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, run in commands.items():
            seconds[name].append(run())
            print(f"{name:12} {seconds[name][-1]:6.2f} s CPU", file=sys.stderr)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    scale = 1e6 / messages
    bare_us = (median["bare"] - median["bare empty"]) * scale
    few_us = (median["job few"] - median["job empty"]) * scale
    many_us = (median["job many"] - median["job empty"]) * scale
    return Costs(bare_us, few_us, many_us, few_us / bare_us, many_us / few_us)


def fill(broker: Broker, topic: str, messages: int, symbols: int) -> None:
    """Publish a market without gaps; a trade has about 200 bytes."""
    settings = read_settings({}, bootstrap_servers=broker.bootstrap_servers)
    with TradeProducer(settings, topic) as producer:
        for key, value in market(messages, symbols):
            producer.send(key, value)


def market(messages: int, symbols: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a market in which the symbols trade round-robin."""
    for message_idx in range(messages):
        number, symbol = divmod(message_idx, symbols)
        time_us = FIRST_TIME + message_idx * 100
        value = (
            f'{{"exchange":"coinbase","symbol":"SYM-{symbol:05d}","trade_id":"{1_000 + number}",'
            f'"sequence":{1_000 + number},"price":"{60_000 + symbol}.{message_idx % 100:02d}",'
            f'"quantity":"0.{1 + message_idx % 9_999:04d}","side":"{"buy" if message_idx % 2 else "sell"}",'
            f'"timestamp":{time_us},"received":{time_us + 50}}}'
        )
        yield b"coinbase|SYM-%05d" % symbol, value.encode()


def bare(broker: Broker, topic: str, messages: int) -> float:
    """Run the bare loop; return its CPU seconds."""
    seconds, output = cpu_seconds([sys.executable, "-m", "benchmarks.bare", broker.bootstrap_servers, topic], {})
    if int(output) != messages:
        raise SystemExit(f"the bare loop read {output.strip()} messages of {messages}")
    return seconds


def job(broker: Broker, topic: str, workers: int) -> float:
    """Run the job from a topic into a new table; return its CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        recovery = Path(folder, "recovery")
        recovery.mkdir()
        subprocess.run([sys.executable, "-m", "bytewax.recovery", recovery, "1"], check=True)
        environment = {
            "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "K2_TOPICS": topic,
            "K2_DATA_DIR": folder,
            "K2_RUN_TO_END": "true",
            "K2_METRICS_PORT": "0",
        }
        command = [sys.executable, "-m", "bytewax.run", "flows.trades", "-w", str(workers)]
        seconds, _ = cpu_seconds([*command, "-r", str(recovery), "-s", "5", "-b", "0"], environment)
        return seconds


def cpu_seconds(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Run a process to its end; return its CPU seconds, as the operating system counts them, and its output."""
    before = os.times()
    completed = subprocess.run(
        command, cwd=FOLDER, env={**os.environ, **environment}, check=False, capture_output=True, text=True
    )
    after = os.times()
    if completed.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {completed.returncode}: {completed.stderr[-2000:]}")
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds, completed.stdout


if __name__ == "__main__":
    main()
