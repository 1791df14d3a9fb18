"""CPU time per message of storms: topics in which a fault that is rare in a market is common, or all there is.

Each storm is a topic, read by a bare `consume()` loop and by the job in turn, as `benchmarks.job` does with a market.
What they take on an empty topic is measured once, and subtracted.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.job import Cost, bare, cost_of, job
from benchmarks.mixture import Mixture, topic_of
from benchmarks.process import Measured
from k2.kafka.producer import Headers
from tests.brokers import Broker, own_broker

__all__ = ["STORMS", "Storm"]

RUNS: Final = 3
PARTITIONS: Final = 4
MESSAGES: Final = 300_000
HUGE_BYTES: Final = 100_000
HUGE_DIVISOR: Final = 100
"""Of huge messages there are that many times fewer."""
PROCESSES: Final[Mapping[str, Callable[[Broker, str], Measured]]] = {"bare": bare, "job": job}
TRACING: Final[Headers] = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]


class Storm(NamedTuple):
    """What a topic is full of."""

    faults: dict[str, float]
    """Shares by the kind of fault, of `Mixture`; no other faults."""
    late_by: int = 1
    symbols: int = 300
    headers: Headers = ()
    """Of each message."""
    is_empty: bool = False
    """Whether each message is a tombstone."""
    value_bytes: int = 200

    def mixture(self, messages: int) -> Mixture:
        """Return the mixture of this storm, with fewer messages if they are huge."""
        none = {"malformed": 0.0, "duplicates": 0.0, "gaps": 0.0}
        count = messages // HUGE_DIVISOR if self.value_bytes >= HUGE_BYTES else messages
        return Mixture(
            count,
            self.symbols,
            self.value_bytes,
            late_by=self.late_by,
            **none | self.faults,  # type: ignore[arg-type]
        )


STORMS: Final = {
    "none": Storm({}),
    "malformed, 10 %": Storm({"malformed": 0.1}),
    "malformed, 100 %": Storm({"malformed": 1.0}),
    "of another venue, 100 %": Storm({"foreign": 1.0}),
    "gaps, 10 %": Storm({"gaps": 0.1}),
    "gaps, 100 %": Storm({"gaps": 1.0}),
    "late by one, 10 %": Storm({"late": 0.1}),
    "every other message late by one": Storm({"late": 1.0}),
    "every other message late by 1,000": Storm({"late": 1.0}, late_by=1_000),
    "duplicates, 10 %": Storm({"duplicates": 0.1}),
    "duplicates, 100 %": Storm({"duplicates": 1.0}),
    "conflicts, 10 %": Storm({"conflicts": 0.1}),
    "conflicts, 100 %": Storm({"conflicts": 1.0}),
    "restarts, 1 %": Storm({"restarts": 0.01}),
    "restarts, 10 %": Storm({"restarts": 0.1}),
    "10,000 symbols": Storm({}, symbols=10_000),
    "new symbols, 10 %": Storm({"new_symbols": 0.1}),
    "new symbols, 100 %": Storm({"new_symbols": 1.0}),
    "headers": Storm({}, headers=TRACING),
    "tombstones": Storm({}, is_empty=True),
    "100 kB each": Storm({}, value_bytes=HUGE_BYTES),
    "100 kB each, malformed, 100 %": Storm({"malformed": 1.0}, value_bytes=HUGE_BYTES),
}
"""By name, as the table prints it."""


def main() -> None:
    """Publish each storm, measure it, and print a row of the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storms", description=__doc__)
    parser.add_argument("storms", nargs="*", metavar="STORM", help="only those whose name begins so")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    with own_broker() as broker:
        print(f"broker: {broker.name}; {chosen.messages:,} messages, {PARTITIONS} partitions, {chosen.runs} runs")
        print("| Storm | us of CPU per message | Times bare | Messages per second | Peak, MB |\n|---|---|---|---|---|")
        empty = broker.topic(partitions=PARTITIONS)
        job(broker, topic_of(broker, Mixture(10_000)))  # compile before the measurement
        starts = _run(broker, empty, chosen.runs)
        for name, storm in _chosen(chosen.storms):
            mixture = storm.mixture(chosen.messages)
            topic = topic_of(broker, mixture, PARTITIONS, headers=storm.headers, is_empty=storm.is_empty)
            runs = _run(broker, topic, chosen.runs)
            costs = {one: cost_of(runs[one], starts[one], mixture.messages) for one in PROCESSES}
            print(_row(name, costs["job"], costs["bare"]), flush=True)


def _chosen(beginnings: Sequence[str]) -> Iterator[tuple[str, Storm]]:
    for name, storm in STORMS.items():
        if not beginnings or name.startswith(tuple(beginnings)):
            yield name, storm


def _run(broker: Broker, topic: str, runs: int) -> dict[str, list[Measured]]:
    """Run the processes on a topic in turn."""
    found: dict[str, list[Measured]] = {name: [] for name in PROCESSES}
    for _ in range(runs):
        for name, process in PROCESSES.items():
            found[name].append(process(broker, topic))
            print(f"{name} on {topic}: {found[name][-1].cpu_seconds:.2f} s of CPU", file=sys.stderr)
    return found


def _row(name: str, cost: Cost, baseline: Cost) -> str:
    times = cost.cpu_us / baseline.cpu_us
    return f"| {name} | {cost.cpu_us:.2f} | {times:.1f} | {cost.messages_per_second:,.0f} | {cost.peak_mb:,.0f} |"


if __name__ == "__main__":
    main()
