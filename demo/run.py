"""The demo from end to end: publish, capture, kill, capture on, compare."""

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

from demo.actual import Actual, find
from demo.broker import EmbeddedBroker
from demo.comparison import Check, compare
from demo.expected import Expected, ExpectedRows
from demo.faults import Stream
from demo.job_runner import DemoError, JobRunner
from demo.market import listings
from k2.kafka.producer import TradeProducer
from k2.ops.settings import Settings, read_settings
from k2.storage.catalog import open_catalog

__all__ = ["Outcome", "Plan", "run_demo"]

TOPIC: Final = "trades"
PARTITIONS: Final = 4
PUBLISHED_FIRST: Final = 0.75
"""The share that lies in the topic when the job starts."""
PUBLISHED_AT_KILL: Final = 0.85
"""The share when it is killed: the rest comes after, so the kill is in the middle however fast the job is."""
_SLICE: Final = 5_000


@dataclass(frozen=True)
class Plan:
    """What to do, and where: `folder` is there and empty."""

    folder: Path
    messages: int
    symbols: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What was done, and what came of it."""

    plan: Plan
    settings: Settings
    expected: Expected
    found: Actual
    checks: list[Check]
    killed_at: int
    """Messages in the table when the job was killed."""
    publish_seconds: float
    run_seconds: list[float]
    """The job's two runs, each from the start of its process to its end."""
    seconds: float
    """All in."""

    @property
    def ok(self) -> bool:
        """Whether everything found is what was injected, and the sums come out."""
        return all(check.ok for check in self.checks) and all(one.holds for one in self.found.partitions)

    @property
    def messages_per_second(self) -> float:
        """All messages over the seconds of both runs: start-up, and what was read twice, count as time."""
        return self.plan.messages / sum(self.run_seconds)


class _Publisher:
    """Publishes the stream in instalments, keeping no more than a chunk of it."""

    def __init__(self, stream: Stream, settings: Settings, bars: Progress) -> None:
        self.seconds = 0.0
        self._settings = settings
        self._bars = bars
        self._bar = _bar(bars, "publish", stream.messages)
        self._total = stream.messages
        self._sent = 0
        self._pairs = chain.from_iterable(zip(part.keys, part.values, strict=True) for part in stream)

    def publish(self, share: float) -> None:
        """Publish until this share of the stream is in the topic, each message acknowledged."""
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
        """Publish what is left."""
        self.publish(1)
        # The expected are closed at the stream's very end, behind its last message.
        assert next(self._pairs, None) is None, "more messages than planned"


def run_demo(plan: Plan) -> Outcome:
    """Publish a market with faults, capture it with a kill on the way, and compare; progress goes to stderr.

    The broker and the job are gone at the end, whatever ended it; the folder stays.

    Raises:
        DemoError: the job failed or stood still.
        SettingsError: the folder cannot hold a catalog.
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
        # A folder, or a catalog of the user's, that does not do is told before anything is published.
        open_catalog(settings)
        stream = Stream(plan.messages, plan.symbols, plan.seed, rows)
        capture = JobRunner(settings, plan.folder / "job.log")
        publisher = _Publisher(stream, settings, bars)
        killed_at = _publish_and_capture(plan.messages, publisher, capture, bars)
    found = find(settings, expected)
    outcome = Outcome(
        plan=plan,
        settings=settings,
        expected=stream.totals,
        found=found,
        checks=compare(stream.totals, found),
        killed_at=killed_at,
        publish_seconds=publisher.seconds,
        run_seconds=capture.seconds,
        seconds=time.monotonic() - started,
    )
    if outcome.ok:
        expected.unlink()
    return outcome


def _publish_and_capture(messages: int, publisher: _Publisher, capture: JobRunner, bars: Progress) -> int:
    """Return how many messages were in when the job was killed."""
    capture.prepare()
    publisher.publish(PUBLISHED_FIRST)
    bar = _bar(bars, "capture", messages)

    def tell(count: int) -> None:
        bars.update(bar, completed=count)

    with capture.running(to_end=False) as run:
        run.wait_for_commit(tell)
        # Fresh messages give the job something to lose: read, and not yet committed.
        publisher.publish(PUBLISHED_AT_KILL)
        killed_at = run.kill()
    if not 0 < killed_at < messages:
        raise DemoError(f"the job was to be killed on the way, and was at {killed_at} of {messages} messages")
    bars.update(bar, completed=killed_at, description="capture, killed once")
    publisher.finish()
    with capture.running(to_end=True) as run:
        run.wait_for_end(tell)
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
    return bars.add_task(name, total=total)
