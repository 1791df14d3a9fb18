"""A day of a simulated venue, from known holes to a whole day: `python -m tests.flows.whole_day --kills`.

Two feeds of one venue lose trades independently, some trades are in neither, the ids of one symbol jump, the venue's
table does not know a word that it uses, and the last trades of a symbol are known by heartbeats alone. Then the jump
is accepted, an archive fills what is missing, the dead letters are replayed with a table that knows the word, and the
day is certified. With `--kills`, the job and each command are killed at their failpoints and run again.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import Any, Final

from confluent_kafka import Producer

from k2.ops.failpoints import VARIABLE
from tests.brokers import Broker, own_broker
from tests.flows.job import Job

__all__ = ["FEEDS", "KILLS", "NO_KILLS", "SimulatedDay", "mend"]

DAY: Final = "2024-08-08"
_START_US: Final = 1_723_075_200_000_000
_STEP_US: Final = 1_000_000
FEEDS: Final = ("A", "B")
_DELAY_MS: Final = {"A": 5, "B": 20}
_JUMP: Final = 40_217
_TAIL: Final = 3
KILLS: Final = {
    "run": ("commit.landed:2", "events.committed:2"),
    "accept": ("maintenance.landed",),
    "backfill": ("fill.sent:5", "fill.published"),
    "replay": ("replay.intended", "replay.produced", "replay.committed"),
    "run again": ("commit.landed", "commit.staged"),
}
"""By step, the failpoints at which its process is killed, one after the other."""
NO_KILLS: Final[dict[str, tuple[str, ...]]] = {}

_TABLE: Final = """
name = "sim"
source = "tests/flows/whole_day.py"
exchange = "sim"
numbering = "contiguous"
symbol = {{ path = "market" }}
sequence = {{ path = "id", type = "number" }}
price = {{ path = "px", type = "text" }}
quantity = {{ path = "qty", type = "text" }}
time = {{ path = "ts", unit = "us", type = "number" }}
side = {{ path = "side", buy = [{buy}], sell = [{sell}] }}

[[messages]]
when = [{{ path = "type", one_of = ["trade"] }}]

[[heads]]
reason = "heartbeat"
when = [{{ path = "type", one_of = ["heartbeat"] }}]
number = {{ path = "last", type = "number" }}
"""
_OLD_WORDS: Final = {"buy": '"buy"', "sell": '"sell"'}
_ALL_WORDS: Final = {"buy": '"buy", "bid"', "sell": '"sell", "ask"'}


@dataclass
class SimulatedDay:
    """What the venue traded, and what each feed brings of it."""

    symbols: int = 4
    trades: int = 1_000
    seed: int = 1
    numbers: dict[str, list[int]] = field(default_factory=dict)
    """By symbol, every number that exists, ascending."""
    lost: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    """By feed, the trades that it does not bring."""
    unknown: set[tuple[str, int]] = field(default_factory=set)
    """Trades with a word for their side that the first table does not know."""
    jump: tuple[str, int, int] = ("", 0, 0)
    """Symbol, first and last number that never existed."""

    def __post_init__(self) -> None:
        rng = Random(self.seed)
        for idx in range(self.symbols):
            numbers = [number + 100 for number in range(self.trades)]
            if idx == 0:
                cut = self.trades * 3 // 5
                numbers = [*numbers[:cut], *(number + _JUMP for number in numbers[cut:])]
                self.jump = self._symbol(0), numbers[cut - 1] + 1, numbers[cut] - 1
            self.numbers[self._symbol(idx)] = numbers
        every = [(symbol, number) for symbol, numbers in self.numbers.items() for number in numbers]
        # The first trade of a symbol is not lost: numbers below it are unknown by design.
        edges = {(symbol, numbers[0]) for symbol, numbers in self.numbers.items()}
        in_neither = {one for one in every if rng.random() < 0.005}
        in_neither |= {(self._symbol(1), number) for number in self.numbers[self._symbol(1)][-_TAIL:]}
        self.unknown = {one for one in every if rng.random() < 0.05} - edges
        for feed in FEEDS:
            self.lost[feed] = (in_neither | {one for one in every if rng.random() < 0.05}) - edges

    @staticmethod
    def _symbol(idx: int) -> str:
        return f"S{idx}-USD"

    def trade(self, symbol: str, number: int) -> bytes:
        """Return the venue's message of a trade."""
        place = self.numbers[symbol].index(number)
        words = ("bid", "ask") if (symbol, number) in self.unknown else ("buy", "sell")
        fields = {"type": "trade", "market": symbol, "id": number, "px": f"{60_000 + place % 97}.5", "qty": "0.25"}
        return json.dumps(fields | {"side": words[place % 2], "ts": _START_US + place * _STEP_US}).encode()

    def archive(self) -> bytes:
        """Return the trades of the day, a message a line: without every second one that only a replay can give."""
        lost = self.lost["A"] & self.lost["B"]
        absent = {one for one in sorted(self.unknown - lost) if one[1] % 2}
        every = [(symbol, number) for symbol, numbers in self.numbers.items() for number in numbers]
        return b"".join(self.trade(*one) + b"\n" for one in every if one not in absent)

    def feed(self, name: str) -> Iterator[tuple[str, bytes, int]]:
        """Yield symbol, message and Kafka time (ms) of what a feed brings, by time; heartbeats are in both."""
        for place in range(self.trades):
            at_ms = (_START_US + place * _STEP_US) // 1_000 + _DELAY_MS[name]
            for symbol, numbers in self.numbers.items():
                if (symbol, numbers[place]) not in self.lost[name]:
                    yield symbol, self.trade(symbol, numbers[place]), at_ms
        for minute in range(1, 4):
            at_ms = (_START_US + self.trades * _STEP_US) // 1_000 + minute * 61_000
            for symbol, numbers in self.numbers.items():
                heartbeat = {"type": "heartbeat", "market": symbol, "last": numbers[-1]}
                yield symbol, json.dumps(heartbeat).encode(), at_ms

    def publish(self, broker: Broker, topics: dict[str, str]) -> None:
        """Publish both feeds to their topics."""
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True})
        for name, topic in topics.items():
            for symbol, value, at_ms in self.feed(name):
                producer.produce(topic, value, symbol.encode(), timestamp=at_ms)
                producer.poll(0)
        assert producer.flush(60) == 0

    @property
    def everything(self) -> Counter[tuple[str, int]]:
        """Each trade of the day, once."""
        return Counter((symbol, number) for symbol, numbers in self.numbers.items() for number in numbers)


@dataclass
class _Steps:
    """Runs the job and the commands, each killed at its failpoints first."""

    job: Job
    kills: dict[str, tuple[str, ...]]

    def run(self, step: str, **variables: str) -> None:
        """Run the job to the ends of its topics."""
        self.job.environment.update(variables)
        for failpoint in self.kills.get(step, ()):
            self.job.environment[VARIABLE] = failpoint
            self.job.outcome()
        self.job.environment.pop(VARIABLE, None)
        self.job.run()

    def k2(self, step: str, *arguments: str, repeated: str | None = None, reads_between: bool = False) -> Any:
        """Run a command and return what it prints as JSON; None if it says `repeated`: what was killed had landed.

        `reads_between`: whether the job reads what a killed command has published before the command runs again.
        """
        for failpoint in self.kills.get(step, ()):
            killed = self.job.k2(*arguments, failpoint=failpoint)
            assert killed.returncode == -SIGKILL, (arguments, failpoint, killed.stdout, killed.stderr)
            if reads_between:
                self.job.run()
        done = self.job.k2(*arguments)
        if done.returncode == 1 and repeated is not None and repeated in done.stderr and self.kills.get(step):
            return None
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)


def mend(broker: Broker, folder: Path, day: SimulatedDay, kills: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Capture the day, mend and fill it, and assert that it is whole; return what the reports say."""
    topics = {name: broker.topic(partitions=2, name=f"sim-{name.lower()}") for name in FEEDS}
    old, new, archive = folder / "old.toml", folder / "new.toml", folder / "sim-2024-08-08.ndjson"
    old.write_text(_TABLE.format(**_OLD_WORDS), encoding="utf-8")
    new.write_text(_TABLE.format(**_ALL_WORDS), encoding="utf-8")
    archive.write_bytes(day.archive())
    day.publish(broker, topics)
    variables = {
        "K2_VENUES": str(old),
        "K2_FEEDS": ",".join(f"{topic}={name}" for name, topic in topics.items()),
    }
    job = Job(
        broker.bootstrap_servers,
        folder,
        ",".join(f"{topic}=sim" for topic in topics.values()),
        variables,
        folder / "log",
    )
    steps = _Steps(job, kills)
    steps.run("run")
    before = steps.k2("completeness", "completeness", "--exchange", "sim")
    assert sum(one["missing"] for one in before) > _JUMP
    symbol, first, last = day.jump
    accept = ("gaps", "accept", "sim", symbol, str(first), str(last), "--reason", "ids jumped at a restart")
    steps.k2("accept", *accept, repeated="accepted already")
    job.environment["K2_VENUES"] = str(new)
    steps.k2("backfill", "backfill", str(archive), "--venue", "sim", "--wait", "0", reads_between=True)
    steps.k2("replay", "dlq", "replay", "--reason", "invalid")
    steps.run("run again")
    return _whole(steps, day)


def _whole(steps: _Steps, day: SimulatedDay) -> dict[str, Any]:
    """Assert that every trade is stored once and nothing is missing, by the rows and by each report."""
    rows = steps.job.table().select(["symbol", "sequence", "origin"]).to_pylist()
    assert Counter((row["symbol"], row["sequence"]) for row in rows) == day.everything
    assert steps.k2("gaps", "gaps") == []
    accepted = steps.k2("accepted", "gaps", "--accepted")
    assert [(one["symbol"], one["first_sequence"], one["last_sequence"]) for one in accepted] == [day.jump]
    days = steps.k2("completeness", "completeness", "--exchange", "sim")
    assert {one["percent"] for one in days if one["expected"]} == {100}
    assert sum(one["stored"] for one in days) == sum(day.everything.values())
    assert sum(one["accepted"] for one in days) == _JUMP
    reconciled = steps.k2("reconcile", "reconcile")
    assert all(one["holds"] for one in reconciled)
    letters = steps.k2("stats", "dlq", "stats")
    certificates = steps.k2("certify", "certify", "--exchange", "sim", "--day", DAY)
    assert Counter(one["condition"] for one in certificates) == {"accepted": 1, "complete": day.symbols - 1}
    steps.k2("verify", "verify", *(one["path"] for one in certificates))
    origins = Counter((row["origin"] or "live").split()[0] for row in rows)
    return {"trades": len(rows), "origins": dict(origins), "dead_letters": letters, "accepted": _JUMP}


def main() -> int:
    """Run a day, with kills if asked for, and print the reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.flows.whole_day", description=__doc__)
    parser.add_argument("--symbols", type=int, default=4, metavar="N", help="symbols (default 4)")
    parser.add_argument("--trades", type=int, default=1_000, metavar="N", help="trades of each (default 1,000)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="days (default 1)")
    parser.add_argument("--kills", action="store_true", help="kill each step at its failpoints")
    arguments = parser.parse_args()
    with own_broker() as broker:
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory(prefix="k2-day-") as folder:
                day = SimulatedDay(arguments.symbols, arguments.trades, seed)
                found = mend(broker, Path(folder), day, KILLS if arguments.kills else NO_KILLS)
            sys.stdout.write(f"seed {seed}: {json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
