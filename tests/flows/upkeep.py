"""Upkeep next to ingest and queries, with kills at random: `python -m tests.flows.upkeep --minutes 10`.

Job and upkeep run in processes of their own, which are killed with SIGKILL and started again; queries run in
between, and none may fail. The venue's day of the trades ends every few seconds, so that there are days to compact and
to remove. Law 1 is checked again and again, and at the end every published message is accounted for. With
`--catalog rest-s3` the tables are in a REST catalog with a warehouse on S3.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ctypes import c_int
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from random import Random
from typing import Final

from k2.iceberg.tables import TableName
from k2.kafka.producer import TradeProducer
from k2.maintenance.compaction import compact
from k2.maintenance.expiry import expire
from k2.maintenance.orphans import find_orphans, remove_orphans
from k2.maintenance.retention import retain
from k2.ops.logs import set_up_logs
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.query.completeness import by_day
from k2.query.gaps import gaps
from k2.query.manifests import ManifestCache
from k2.query.market import Market
from k2.query.parameters import CompletenessParameters
from k2.query.planning import planned_files
from k2.query.pool import Pool
from k2.query.query_builders import symbols
from k2.query.reconcile import reconcile
from tests.brokers import own_broker
from tests.catalogs.vending import vending
from tests.flows.job import Job, wait_until
from tests.flows.market import Message, trade
from tests.iceberg.running import assert_whole
from tests.s3 import running_s3

SYMBOLS: Final = 8
DAY_SECONDS: Final = 20.0
"""Time for which trades of one venue day are published."""
KEPT_DAYS: Final = 2
FIRST_DAY: Final = date(2024, 10, 1)
DAY_US: Final = 86_400_000_000
WINDOW_SECONDS: Final = 5
"""Of deduplication: days stay for two of them."""
FILE_AGE: Final = timedelta(seconds=60)
"""Age of the snapshots that expire, and of orphans: longer than a commit or query takes here."""
JOB_LIFE_SECONDS: Final = (4.0, 30.0)
UPKEEP_LIFE_SECONDS: Final = (2.0, 25.0)
UPKEEP_REST_SECONDS: Final = (0.0, 40.0)
"""Time between a kill of the upkeep and its next start, in which small files pile up."""
FIRST_COMMIT_SECONDS_MAX: Final = 300.0
SAMPLE_SECONDS: Final = 5.0

_SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass
class Shared:
    """Numbers that the upkeep's process and this one share; plain memory, because a killed process keeps a lock."""

    day: "c_int" = field(default_factory=lambda: RawValue(c_int, 0))
    """The day of the feed, counted from `FIRST_DAY`."""
    rounds: "c_int" = field(default_factory=lambda: RawValue(c_int, 0))
    """Rounds of upkeep that ended."""
    orphans: "c_int" = field(default_factory=lambda: RawValue(c_int, 0))
    """Files deleted in those rounds."""


@dataclass(frozen=True)
class Sample:
    """The size of the trades' table at one moment, as a query sees it."""

    files: int
    snapshots: int
    planning_ms: float
    """Time to plan a scan of the whole table, with no manifest in memory."""

    @classmethod
    def take(cls, job: Job) -> "Sample":
        """Measure the table as it is now."""
        table = job.iceberg()
        begun = time.perf_counter()
        files = planned_files(ManifestCache(), table, table.scan())
        return cls(len(files), len(table.snapshots()), (time.perf_counter() - begun) * 1e3)

    def __str__(self) -> str:
        """Return the figures in one line."""
        return f"{self.files:,} data files, {self.snapshots:,} snapshots, planned in {self.planning_ms:.0f} ms"


def maintain(settings: Settings, shared: Shared, *, is_once: bool = False) -> None:
    """Compact, remove days, expire snapshots and delete orphans of all tables, round by round until it is killed."""
    set_up_logs("warning")
    while True:
        for which in TableName:
            [*compact(settings, which)]
        retain(settings, KEPT_DAYS, today=FIRST_DAY + timedelta(days=shared.day.value))
        for which in TableName:
            expire(settings, which, FILE_AGE)
        for which in TableName:
            shared.orphans.value += len([*remove_orphans(settings, which, find_orphans(settings, which, FILE_AGE))])
        shared.rounds.value += 1
        if is_once:
            return


class Feed:
    """Publishes numbered trades, and a message in a hundred that is none, until it is ended."""

    def __init__(self, job: Job, shared: Shared) -> None:
        self._job, self._shared = job, shared
        self.messages = 0

    def publish(self, is_over: threading.Event) -> None:
        """Publish a trade of each symbol ten times a second."""
        begun, number = time.monotonic(), 0
        with TradeProducer(self._job.settings, self._job.topics) as producer:
            while not is_over.wait(0.1):
                number += 1
                self._shared.day.value = day = int((time.monotonic() - begun) / DAY_SECONDS)
                for key, value in _messages(number, day):
                    producer.send(key, value)
                    self.messages += 1


def _messages(number: int, day: int) -> Iterator[Message]:
    days = (FIRST_DAY - date(1970, 1, 1)).days + day
    for symbol in range(SYMBOLS):
        key, value = trade(number, f"S{symbol}", timestamp=days * DAY_US + number)
        yield key, value
        if (number * SYMBOLS + symbol) % 100 == 0:
            yield key, value[:-5]


@dataclass
class Queries:
    """Runs one report after the other, and checks law 1."""

    settings: Settings
    seconds: list[float] = field(default_factory=list)

    def run(self, is_over: threading.Event) -> None:
        """Run reports until the end; an error of a query ends it."""
        with Pool(self.settings) as pool:
            reports: list[Callable[[], object]] = [
                lambda: self._reconcile(pool),
                lambda: gaps(self.settings, pool=pool),
                lambda: by_day(self.settings, CompletenessParameters(), pool=pool),
                lambda: Market(pool).table(symbols()),
                lambda: audit(self.settings, limit=10, pool=pool),
            ]
            while not is_over.wait(0.05):
                begun = time.perf_counter()
                reports[len(self.seconds) % len(reports)]()
                self.seconds.append(time.perf_counter() - begun)

    def _reconcile(self, pool: Pool) -> None:
        rows = reconcile(self.settings, pool=pool)
        assert all(row.holds for row in rows), rows


class Kills:
    """A process that is killed at random, and started again."""

    def __init__(self, life_seconds: tuple[float, float], rng: Random) -> None:
        self._life_seconds, self._rng = life_seconds, rng
        self.count = 0

    def life(self) -> float:
        """Return the time until the next kill, in seconds."""
        return self._rng.uniform(*self._life_seconds)

    def job(self, job: Job, is_over: threading.Event) -> None:
        """Run the job with one or two workers, life by life."""
        while not is_over.is_set():
            process, before = job.start(workers=self._rng.choice([1, 2])), job.committed()
            wait_until(
                lambda: process.poll() is not None or is_over.is_set() or job.committed() > before,  # noqa: B023  called here
                "nothing is committed",
                FIRST_COMMIT_SECONDS_MAX,
            )
            is_over.wait(self.life())
            assert process.poll() is None, f"the job ended by itself: exit code {process.returncode}"
            process.kill()
            process.wait()
            self.count += 1

    def upkeep(self, settings: Settings, shared: Shared, is_over: threading.Event) -> None:
        """Run the upkeep, life by life."""
        while not is_over.is_set():
            process: BaseProcess = _SPAWN.Process(target=maintain, args=(settings, shared), daemon=True)
            process.start()
            is_over.wait(self.life())
            assert process.is_alive(), f"the upkeep ended by itself: exit code {process.exitcode}"
            process.kill()
            process.join()
            self.count += 1
            is_over.wait(self._rng.uniform(*UPKEEP_REST_SECONDS))


class Threads:
    """Threads that run until the block ends, or until one of them fails."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, act: Callable[[threading.Event], None]) -> None:
        """Run a function that returns once the event is set."""

        def run() -> None:
            try:
                act(self.is_over)
            except BaseException as error:  # noqa: BLE001  raised again by `end`
                self._errors.append(error)
                self.is_over.set()

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def end(self) -> None:
        """End all threads; raise what one of them raised."""
        self.is_over.set()
        for thread in self._threads:
            thread.join()
        for error in self._errors:
            raise error


def disturb(job: Job, minutes: float, rng: Random) -> dict[str, object]:
    """Run everything for the given time; return the figures, after all checks have passed."""
    shared, threads = Shared(), Threads()
    feed, queries = Feed(job, shared), Queries(job.settings)
    jobs, upkeeps = Kills(JOB_LIFE_SECONDS, rng), Kills(UPKEEP_LIFE_SECONDS, rng)
    endless = replace(job, environment={**job.environment, "K2_RUN_TO_END": "false"})
    samples: list[Sample] = []
    try:
        threads.start(feed.publish)
        threads.start(lambda is_over: jobs.job(endless, is_over))
        wait_until(lambda: threads.is_over.is_set() or job.committed() > 0, "nothing is committed", 300)
        threads.start(lambda is_over: upkeeps.upkeep(job.settings, shared, is_over))
        threads.start(queries.run)
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end and not threads.is_over.wait(SAMPLE_SECONDS):
            samples.append(Sample.take(job))
    finally:
        threads.end()
    job.run()
    check(job, feed.messages)
    before = Sample.take(job)
    maintain(job.settings, shared, is_once=True)
    check(job, feed.messages)
    assert_whole(job.iceberg())
    ms = sorted(one * 1e3 for one in queries.seconds)
    return {
        "messages": feed.messages,
        "kills of the job": jobs.count,
        "kills of the upkeep": upkeeps.count,
        "rounds of upkeep that ended": shared.rounds.value,
        "queries": f"{len(ms):,}, none failed; median {statistics.median(ms):.0f} ms, longest {ms[-1]:.0f} ms",
        "data files written": sum(one.files for one in audit(job.settings).commits),
        "most data files": max(samples, key=lambda one: one.files),
        "longest planning": max(samples, key=lambda one: one.planning_ms),
        "before the last round": before,
        "after it": Sample.take(job),
        "orphans deleted": shared.orphans.value,
        "rows removed": sum(row.removed for row in reconcile(job.settings)),
    }


def check(job: Job, messages: int) -> None:
    """Check that each published message is one row, removed row or dead letter, and that no number is missing."""
    rows = reconcile(job.settings)
    assert all(row.holds for row in rows), rows
    assert sum(row.received for row in rows) == messages
    assert sum(row.duplicates + row.skipped for row in rows) == 0
    assert gaps(job.settings) == []
    assert sum(day.missing or 0 for day in by_day(job.settings, CompletenessParameters())) == 0
    assert audit(job.settings).adds_up


@contextmanager
def catalog_of(kind: str, folder: Path) -> Iterator[Mapping[str, str]]:
    """Yield the variables that configure a catalog: `local` is the job's own."""
    with ExitStack() as stack:
        if kind == "local":
            yield {}
            return
        yield stack.enter_context(vending(stack.enter_context(running_s3()), folder)).variables()


def main() -> int:
    """Run for the requested time and print the figures; an error ends it with a traceback."""
    arguments = _arguments()
    set_up_logs("warning")
    with own_broker() as broker, tempfile.TemporaryDirectory(prefix="k2-upkeep-") as name:
        folder = Path(name)
        with catalog_of(arguments.catalog, folder) as variables:
            os.environ.update(variables)
            environment = {"K2_DEDUP_WINDOW_SECONDS": str(WINDOW_SECONDS), "K2_WRITERS": "2", "K2_DLQ_RATIO_MAX": "0"}
            job = Job(broker.bootstrap_servers, folder, broker.topic(2), environment, folder / "job.log")
            begun = datetime.now(UTC)
            try:
                found = disturb(job, arguments.minutes, Random(arguments.seed))
            except BaseException:
                _write(job.log.read_text(encoding="utf-8")[-4000:] if job.log and job.log.exists() else "")
                raise
    _write(f"broker: {broker.name}\nminutes: {(datetime.now(UTC) - begun).total_seconds() / 60:.1f}")
    for what, figure in found.items():
        _write(f"{what}: {figure:,}" if isinstance(figure, int) else f"{what}: {figure}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.flows.upkeep", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, metavar="N", help="how long (default 10)")
    parser.add_argument("--catalog", choices=["local", "rest-s3"], default="local", help="where the tables are")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the kills (default 0)")
    return parser.parse_args()


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
