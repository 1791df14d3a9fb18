"""The demo end to end: publish, capture, kill, resume the capture, compare."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final
from zlib import crc32

from pyiceberg.utils.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from demo.actual import Actual, read_actual
from demo.broker import EmbeddedBroker
from demo.comparison import Check, compare
from demo.expected import Expected, ExpectedRows
from demo.faults import Stream
from demo.job_log import Speed, read_speed
from demo.job_runner import DemoError, JobRunner
from demo.market import listings
from k2.kafka.producer import TradeProducer
from k2.ops.settings import Settings, read_settings
from k2.storage.catalog import open_catalog

__all__ = ["Outcome", "Plan", "run_demo"]

TOPIC: Final = "trades"
PARTITIONS: Final = 4
PUBLISHED_FIRST: Final = 0.75
"""Share of the messages that are in the topic when the job starts."""
PUBLISHED_AT_KILL: Final = 0.85
"""Share when the job is killed; the rest is published later, so the kill interrupts the capture at any job speed."""
_SLICE: Final = 5_000


@dataclass(frozen=True)
class Plan:
    """Parameters of the demo; `folder` exists and is empty."""

    folder: Path
    messages: int
    symbols: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """Results of the demo."""

    plan: Plan
    settings: Settings
    expected: Expected
    found: Actual
    checks: list[Check]
    killed_at: int
    """Messages in the table when the job was killed."""
    publish_seconds: float
    run_seconds: list[float]
    """Lifetimes of the processes of the two runs."""
    speed: Speed
    seconds: float
    """Total duration of the demo."""

    @property
    def ok(self) -> bool:
        """Whether everything is found as injected, and every partition reconciles."""
        return all(check.ok for check in self.checks) and all(one.holds for one in self.found.partitions)


class _Publisher:
    """Publishes the stream in parts, with at most one chunk of it in memory."""

    def __init__(self, stream: Stream, settings: Settings, bars: Progress) -> None:
        self.seconds = 0.0
        self._settings = settings
        self._bars = bars
        self._bar = _bar(bars, "publish", stream.messages)
        self._total = stream.messages
        self._sent = 0
        self._pairs = chain.from_iterable(zip(part.keys, part.values, strict=True) for part in stream)

    def publish(self, share: float) -> None:
        """Publish until this share of the stream is in the topic and acknowledged."""
        started = time.monotonic()
        with TradeProducer(self._settings, TOPIC) as producer:
            producer.ensure_topic(partitions=PARTITIONS)
            for size in self._sizes(share):
                for key, value in islice(self._pairs, size):
                    producer.send(key, value, partition=crc32(key) % PARTITIONS)
                self._sent += size
                self._bars.update(self._bar, completed=self._sent)
        self.seconds += time.monotonic() - started

    def _sizes(self, share: float) -> Iterator[int]:
        while size := min(_SLICE, round(self._total * share) - self._sent):
            yield size

    def finish(self) -> None:
        """Publish the rest."""
        self.publish(1)
        # The totals are complete only once the stream is exhausted, after its last message.
        assert next(self._pairs, None) is None, "more messages than planned"


def run_demo(plan: Plan) -> Outcome:
    """Publish a market with faults, capture it with a kill in between, and compare; show progress on stderr.

    The broker and the job are stopped at the end, also after an error; the folder remains.

    Raises:
        DemoError: the job failed or made no progress.
        SettingsError: no catalog can be created in the folder.
        UnreachableError: the broker does not start or answer.
    """
    started = time.monotonic()
    expected = plan.folder / "expected.parquet"
    with (
        EmbeddedBroker(plan.folder) as broker,
        ExpectedRows(expected, listings(plan.symbols, plan.seed)) as rows,
        _bars() as bars,
    ):
        settings = _settings(plan.folder, broker.bootstrap_servers)
        # Fail before anything is published if the folder or a catalog of the user cannot be used.
        open_catalog(settings)
        stream = Stream(plan.messages, plan.symbols, plan.seed, rows)
        job_runner = JobRunner(settings, plan.folder / "job.log")
        publisher = _Publisher(stream, settings, bars)
        killed_at = _publish_and_capture(plan.messages, publisher, job_runner, bars)
    found = read_actual(settings, expected)
    outcome = Outcome(
        plan=plan,
        settings=settings,
        expected=stream.totals,
        found=found,
        checks=compare(stream.totals, found),
        killed_at=killed_at,
        publish_seconds=publisher.seconds,
        run_seconds=job_runner.seconds,
        speed=read_speed(plan.folder / "job.log", job_runner.started_at),
        seconds=time.monotonic() - started,
    )
    if outcome.ok:
        expected.unlink()
    return outcome


def _publish_and_capture(messages: int, publisher: _Publisher, job_runner: JobRunner, bars: Progress) -> int:
    """Return the number of messages that were committed when the job was killed."""
    job_runner.prepare()
    publisher.publish(PUBLISHED_FIRST)
    bar = _bar(bars, "capture", messages)

    def report(count: int) -> None:
        bars.update(bar, completed=count)

    with job_runner.running(to_end=False) as run:
        run.wait_for_commit(report)
        # New messages give the job something to lose: messages that are read and not yet committed.
        publisher.publish(PUBLISHED_AT_KILL)
        killed_at = run.kill()
    if not 0 < killed_at < messages:
        raise DemoError(
            f"the job was not killed during the capture: it had committed {killed_at} of {messages} messages"
        )
    bars.update(bar, completed=killed_at, description="capture, killed once")
    publisher.finish()
    with job_runner.running(to_end=True) as run:
        run.wait_for_end(report)
    return killed_at


def _settings(folder: Path, bootstrap_servers: str) -> Settings:
    # A catalog that the user configured under the default name must not see the demo's tables.
    catalog = "k2" if Config().get_catalog_config("k2") is None else "k2-demo"
    return read_settings(
        {}, bootstrap_servers=bootstrap_servers, data_dir=folder, catalog=catalog, query_timeout_seconds=600
    )


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _bar(bars: Progress, name: str, total: int) -> TaskID:
    if bars.disable:
        bars.console.print(f"{name} ...", highlight=False)
    return bars.add_task(name, total=total)
