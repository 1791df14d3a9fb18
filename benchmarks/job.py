"""CPU time per message of the whole job, relative to a bare `consume()` loop; `make bench` prints it.

The messages are a seeded market with faults. Both are whole processes, timed by the operating system, in turn, so that
drift of the machine affects both equally. What they take on an empty topic (start-up) is subtracted. The broker is the
broker of the tests, on the same cores.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.mixture import FAULTS, Mixture, topic_of
from benchmarks.process import Measured, measured
from k2.ops.child_process import free_port
from tests.brokers import Broker, own_broker

__all__ = ["Contest", "Cost", "bare", "command_of", "cost_of", "job", "mixture_of", "mixture_options"]

RUNS: Final = 5
EPOCH_SECONDS: Final = 5


class Cost(NamedTuple):
    """Medians of a process, without its start-up, but for the memory."""

    cpu_us: float
    """CPU microseconds per message."""
    messages_per_second: float
    peak_mb: float


class Contest:
    """Topics of one mixture, and processes that read them in turn."""

    def __init__(self, broker: Broker, mixture: Mixture, partitions: int = 4) -> None:
        self._broker = broker
        self._messages = mixture.messages
        self._topic = topic_of(broker, mixture, partitions)
        self._empty = broker.topic(partitions=partitions)

    def costs(self, processes: Mapping[str, Callable[[Broker, str], Measured]], runs: int) -> dict[str, Cost]:
        """Run each process `runs` times on the messages and on the empty topic, all in turn."""
        full: dict[str, list[Measured]] = {name: [] for name in processes}
        empty: dict[str, list[Measured]] = {name: [] for name in processes}
        for process in processes.values():
            process(self._broker, self._empty)  # compile before the measurement
        for _ in range(runs):
            for name, process in processes.items():
                empty[name].append(process(self._broker, self._empty))
                full[name].append(process(self._broker, self._topic))
                print(f"{name}: {full[name][-1].cpu_seconds:.2f} s of CPU", file=sys.stderr)
        return {name: cost_of(full[name], empty[name], self._messages) for name in processes}


def cost_of(full: Sequence[Measured], empty: Sequence[Measured], messages: int) -> Cost:
    """Return the medians of the runs of a process over messages, less those of its runs on an empty topic."""
    cpu = _median(full, "cpu_seconds") - _median(empty, "cpu_seconds")
    wall = _median(full, "wall_seconds") - _median(empty, "wall_seconds")
    return Cost(cpu * 1e6 / messages, messages / wall, _median(full, "peak_mb"))


def _median(runs: Sequence[Measured], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


def main() -> None:
    """Publish the messages, run the processes in turn, print the medians and the ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job", description=__doc__)
    mixture_options(parser)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    mixture = mixture_of(chosen)
    with own_broker() as broker:
        contest = Contest(broker, mixture, chosen.partitions)
        processes: dict[str, Callable[[Broker, str], Measured]] = {
            "bare": bare,
            "job": partial(job, workers=chosen.workers),
        }
        costs = contest.costs(processes, chosen.runs)
        print(f"broker: {broker.name}; {chosen.partitions} partitions, {chosen.workers} workers, {chosen.runs} runs")
    faults = ", ".join(f"{getattr(mixture, fault):.2%} {fault}" for fault in FAULTS if getattr(mixture, fault))
    print(f"{mixture.messages:,} messages of {mixture.value_bytes} bytes, {mixture.symbols:,} symbols; {faults}")
    for name, what in (("bare", "bare consume() loop"), ("job", "whole job")):
        cost = costs[name]
        print(
            f"{what:<20} {cost.cpu_us:6.2f} us CPU per message, {cost.cpu_us / costs['bare'].cpu_us:5.2f} times bare; "
            f"{cost.messages_per_second:9,.0f} messages/s; peak {cost.peak_mb:,.0f} MB"
        )


def mixture_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a mixture."""
    standard = Mixture(1_000_000)
    parser.add_argument("--messages", type=int, default=standard.messages)
    parser.add_argument("--symbols", type=int, default=standard.symbols)
    parser.add_argument("--value-bytes", type=int, default=standard.value_bytes)
    for fault in FAULTS:
        name = f"--{fault.replace('_', '-')}"
        parser.add_argument(name, type=float, default=getattr(standard, fault), metavar="SHARE")


def mixture_of(chosen: argparse.Namespace) -> Mixture:
    """Return the mixture that the options name."""
    return Mixture(**{name: getattr(chosen, name) for name in ("messages", "symbols", "value_bytes", *FAULTS)})


def bare(broker: Broker, topic: str) -> Measured:
    """Run the bare loop."""
    return measured([sys.executable, "-m", "benchmarks.bare", broker.bootstrap_servers, topic], {})


def job(
    broker: Broker,
    topic: str,
    workers: int = 1,
    processes: int = 1,
    epoch_seconds: int = EPOCH_SECONDS,
    folder: Path | None = None,
    **settings: str,
) -> Measured:
    """Run the job from a topic into a new table, with a recovery store; settings as `writers="2"`.

    `workers` are those of each of `processes` processes, whose CPU time and memory are added. The data stay in
    `folder`, which must be empty, if one is given.
    """
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary, "data") if folder is None else folder
        stores = [Path(temporary, f"recovery-{process}") for process in range(processes)]
        for store in stores:
            store.mkdir()
        # The first process has the whole store.
        _make_store(stores[0], workers * processes)
        environment = _environment(broker.bootstrap_servers, topic, data, **settings)
        addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(processes))
        commands = [
            _command(store, workers, epoch_seconds) + (["-i", str(process), "-a", addresses] if processes > 1 else [])
            for process, store in enumerate(stores)
        ]
        with ThreadPoolExecutor(processes) as pool:
            runs = list(pool.map(lambda one: measured(one, environment), commands))
        return Measured(
            cpu_seconds=sum(run.cpu_seconds for run in runs),
            wall_seconds=max(run.wall_seconds for run in runs),
            peak_mb=sum(run.peak_mb for run in runs),
            output="".join(run.output for run in runs),
        )


def command_of(
    bootstrap_servers: str,
    topic: str,
    folder: Path,
    workers: int = 1,
    epoch_seconds: int = EPOCH_SECONDS,
    **settings: str,
) -> tuple[list[str], dict[str, str]]:
    """Create a recovery store in a folder; return the job's command and environment, with its data in that folder."""
    store = folder / "recovery"
    store.mkdir()
    _make_store(store, workers)
    return _command(store, workers, epoch_seconds), _environment(bootstrap_servers, topic, folder, **settings)


def _make_store(store: Path, partitions: int) -> None:
    subprocess.run([sys.executable, "-m", "bytewax.recovery", store, str(partitions)], check=True)


def _command(store: Path, workers: int, epoch_seconds: int) -> list[str]:
    command = [sys.executable, "-m", "bytewax.run", "flows.trades", "-w", str(workers)]
    return [*command, "-r", str(store), "-s", str(epoch_seconds), "-b", "0"]


def _environment(bootstrap_servers: str, topic: str, data: Path, **settings: str) -> dict[str, str]:
    return {
        "K2_BOOTSTRAP_SERVERS": bootstrap_servers,
        "K2_TOPICS": topic,
        "K2_DATA_DIR": str(data),
        "K2_RUN_TO_END": "true",
        "K2_METRICS_PORT": "0",
        "K2_DLQ_RATIO_MAX": "0",
        **{f"K2_{name.upper()}": value for name, value in settings.items()},
    }


if __name__ == "__main__":
    main()
