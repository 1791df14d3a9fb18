"""One session: the topics on one broker, and the runs of the contenders on them, in turn."""

import os
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.mixture import Mixture, topic_of
from benchmarks.peers.contender import Ability, Contender, Task
from benchmarks.peers.expected import Expected, expected_of
from benchmarks.peers.processes import run_until
from benchmarks.peers.results import Figures, Run, Turn, figures_of
from benchmarks.peers.stored_table import differences, read_table, rows_committed
from tests.brokers import Broker
from tests.maven import NotToBeHadError

__all__ = ["PARTITIONS", "SMALL_MESSAGES", "Arrival", "Session", "compare", "separate_cores"]

SMALL_MESSAGES: Final = 4_000
"""Enough that each kind of fault is among them, so that what is compiled for it is part of the start-up."""
PARTITIONS: Final = 4
SECONDS_MAX: Final = 1_800.0
STILL_SECONDS_MAX: Final = 120.0


class RunFailedError(Exception):
    """A contender's run was none; the message says why."""


class Topic:
    """A topic of the market, and what it holds."""

    def __init__(self, broker: Broker, mixture: Mixture) -> None:
        self.expected: Expected = expected_of(value for _, value in mixture.records())
        self.name = topic_of(broker, mixture, PARTITIONS)


class Arrival:
    """Whether all rows have been committed, or no more come."""

    def __init__(self, warehouse: Path, rows: int) -> None:
        self._warehouse = warehouse
        self._rows = rows
        self._committed = 0
        self._since = time.monotonic()

    def __call__(self) -> bool:
        """Look at the table. One that stands still after its first rows is done too: the check finds it wrong."""
        committed = rows_committed(self._warehouse)
        if committed != self._committed:
            self._committed, self._since = committed, time.monotonic()
        still_seconds = time.monotonic() - self._since
        return committed >= self._rows or (committed > 0 and still_seconds > STILL_SECONDS_MAX)


class Session:
    """The topics on one broker, and the runs on them."""

    def __init__(
        self, broker: Broker, messages: int, cores: Collection[int], small_messages: int = SMALL_MESSAGES
    ) -> None:
        self._broker = broker
        self._cores = cores
        self.small = Topic(broker, Mixture(small_messages))
        self.whole = Topic(broker, Mixture(messages))

    def run(self, contender: Contender, topic: Topic) -> Run:
        """Run a contender once from the beginning to the end of a topic, and check what has landed.

        Raises:
            RunFailedError: it ended with an error, or did not come to the end.
        """
        with tempfile.TemporaryDirectory(prefix=f"k2-peers-{contender.name}-", ignore_cleanup_errors=True) as folder:
            task = Task(self._broker.bootstrap_servers, topic.name, PARTITIONS, Path(folder))
            deduplicates = Ability.DEDUPLICATION in contender.abilities
            rows = (topic.expected.trades if deduplicates else topic.expected.copies).rows
            taken = run_until(
                task,
                contender.launch(task),
                self._cores,
                Arrival(task.warehouse, rows),
                ends_itself=contender.ends_itself,
                seconds_max=SECONDS_MAX,
            )
            if taken.failure:
                raise RunFailedError(taken.failure)
            if not contender.writes_table:
                return self._read(taken.cpu_seconds, taken.wall_seconds, taken.peak_mb, task, topic.expected)
            found = read_table(task.warehouse)
            faults = differences(found.sums, topic.expected, deduplicates=deduplicates)
            dead = contender.dead_letters(task) if contender.dead_letters is not None else None
            if dead is not None and dead != topic.expected.malformed:
                faults.append(f"dead letters {dead}, expected {topic.expected.malformed}")
            return Run(
                taken.cpu_seconds,
                taken.wall_seconds,
                taken.peak_mb,
                found.sums.rows,
                found.commits,
                found.data_files,
                found.data_mb,
                _written_mb(task.folder),
                dead,
                faults,
            )

    def _read(self, cpu_seconds: float, wall_seconds: float, peak_mb: float, task: Task, expected: Expected) -> Run:
        messages = int((task.folder / "contender.log").read_text(encoding="utf-8").split()[-1])
        faults = [] if messages == expected.messages else [f"messages {messages}, expected {expected.messages}"]
        return Run(cpu_seconds, wall_seconds, peak_mb, messages, faults=faults)


def _written_mb(folder: Path) -> float:
    return (
        sum(
            path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink() and path.name != "contender.log"
        )
        / 1e6
    )


def compare(session: Session, contenders: list[Contender], runs: int) -> tuple[list[Figures], dict[str, str]]:
    """Run the contenders in turn; return their figures, and why any was left out."""
    left_out: dict[str, str] = {}
    turns: dict[str, list[Turn]] = {}
    for contender in contenders:
        _say(f"{contender.name}: make ready, and run once on the small topic")
        try:
            contender.prepare()
            session.run(contender, session.small)
            turns[contender.name] = []
        except (NotToBeHadError, RunFailedError, FileNotFoundError) as error:
            left_out[contender.name] = str(error)
            _say(f"{contender.name} is left out: {error}")
    for _ in range(runs):
        for contender in contenders:
            if contender.name in left_out:
                continue
            try:
                turn = Turn(session.run(contender, session.small), session.run(contender, session.whole))
            except (RunFailedError, FileNotFoundError) as error:
                left_out[contender.name] = str(error)
                _say(f"{contender.name} is left out: {error}")
                continue
            turns[contender.name].append(turn)
            _say(
                f"{contender.name}: {turn.whole.cpu_seconds:.1f} s of CPU, {turn.small.cpu_seconds:.1f} s on the small "
                f"topic; {'; '.join(turn.whole.faults) or 'all rows are there'}"
            )
    messages = {"small": session.small.expected.messages, "whole": session.whole.expected.messages}
    figures = [
        figures_of(one.name, one.title, one.configured, list(one.abilities), turns[one.name], messages)
        for one in contenders
        if one.name not in left_out
    ]
    return figures, left_out


@contextmanager
def separate_cores(chosen: str | None) -> Iterator[tuple[list[int], list[int]]]:
    """Keep this process, and the broker that it starts, off the contenders' cores; yield both sets.

    Without a choice the contenders have the upper half of the cores.
    """
    all_cores = sorted(os.sched_getaffinity(0))
    theirs = _parsed(chosen) if chosen else all_cores[len(all_cores) // 2 :]
    ours = [core for core in all_cores if core not in theirs] or all_cores
    os.sched_setaffinity(0, ours)
    try:
        yield theirs, ours
    finally:
        os.sched_setaffinity(0, all_cores)


def _parsed(cores: str) -> list[int]:
    return [int(core) for core in cores.split(",")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
