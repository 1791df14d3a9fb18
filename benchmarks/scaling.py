"""What changes the cost of a message, one thing at a time: `python -m benchmarks.scaling [--rows workers symbols]`.

Each row of a table differs in one thing from the standard: one process with one worker and one writer, 4 partitions,
300 symbols, 200-byte values, epochs of 5 s. All rows run in turn, in one session, so that drift of the machine affects
all equally. Each reads its messages and, in a second run, a twentieth of them; the difference of the two is the cost of
the messages without that of the start, of which each symbol is a part.

`commits`, `crossing`, `numbers` and `ids` are not runs of the job: what a commit takes as its table ages; a row that
another process tracks or writes than the one that has it; and what tracking and deduplication take per row as numbers
and ids fill the window.
"""

import argparse
import json
import logging
import multiprocessing
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import structlog

from benchmarks import commits, fingerprints, window
from benchmarks.job import EPOCH_SECONDS, bare, job
from benchmarks.mixture import Mixture, topic_of
from benchmarks.process import Measured
from k2.model.symbols import Symbols
from k2.ops.settings import read_settings
from k2.storage.catalog import find_table
from k2.venues.decode import decode
from k2.venues.slices import split
from tests.brokers import Broker, KafkaProcess, own_broker
from tests.flows.job_io import message_batch
from tests.iceberg.trades_table import settings_in, writer_of

__all__ = ["Cost", "Row", "cost_of", "rows_of"]

T = TypeVar("T")

MESSAGES: Final = 1_000_000
RUNS: Final = 3
SHORT_SHARE: Final = 20
"""Messages of a full run for each one of the short run."""
VALUE_BYTES_MAX: Final = 500_000_000
"""Rows with larger values have fewer messages, so that the broker's disk holds them."""
STANDARD: Final = "standard"
COMMITS: Final = (1, 100, 1_000, 5_000)
COMMITS_MEASURED: Final = 20
CROSSING_ROWS: Final = 20_000
"""As many as a poll has at most."""
MILLIONS: Final = (1, 10, 100)


class Row(NamedTuple):
    """One way to run the job."""

    label: str
    mixture: Mixture
    partitions: int = 4
    workers: int = 1
    processes: int = 1
    writers: int = 1
    epoch_seconds: int = EPOCH_SECONDS

    @property
    def topic(self) -> tuple[Mixture, int]:
        """What its topic has."""
        return self.mixture, self.partitions


class Cost(NamedTuple):
    """Medians of a row."""

    messages: int
    cpu_us: float
    """CPU microseconds per message."""
    times_bare: float
    """The same, in CPU times of a bare `consume()` loop on the same messages."""
    messages_per_second: float
    peak_mb: float
    start_cpu_seconds: float
    """What the short run takes beyond its messages: the start, and what each symbol costs once."""
    commits: int
    stored_bytes: float
    """Bytes of data files per row."""
    kafka_bytes: float
    """Bytes per message in Kafka's log, with its key, compressed with lz4; 0 if the broker is not Apache Kafka."""


class Written(NamedTuple):
    """What a run has written to the table."""

    commits: int = 0
    bytes_per_row: float = 0.0


class Run(NamedTuple):
    """A run on all messages and one on few."""

    full: Measured
    short: Measured
    written: Written = Written()


def rows_of(messages: int) -> dict[str, list[Row]]:
    """Return the rows by the name of their table; each table begins with the standard."""
    mixture = Mixture(messages)
    standard = Row(STANDARD, mixture)

    def of_bytes(size: int) -> Row:
        return Row(f"{size:,} B", Mixture(min(messages, VALUE_BYTES_MAX // size), value_bytes=size))

    return {
        "workers": [standard, *(Row(f"-w {count}", mixture, workers=count) for count in (2, 4))],
        "processes": [standard, *(Row(f"{count} processes", mixture, processes=count) for count in (2, 4))],
        "partitions": [standard, *(Row(f"{count} partitions", mixture, partitions=count) for count in (1, 16, 64))],
        "symbols": [
            standard,
            *(Row(f"{count:,} symbols", Mixture(messages, symbols=count)) for count in (1, 10, 1_000, 10_000)),
        ],
        "writers": [standard, *(Row(f"K2_WRITERS={count}", mixture, writers=count) for count in (2, 4))],
        "values": [standard, *(of_bytes(size) for size in (1_000, 4_000))],
        "epochs": [
            standard,
            Row("each batch", mixture, epoch_seconds=0),
            *(Row(f"{count} s", mixture, epoch_seconds=count) for count in (1, 10, 60)),
        ],
    }


class Session:
    """Topics on one broker, and the runs on them."""

    def __init__(self, broker: Broker, rows: Iterable[Row]) -> None:
        self._broker = broker
        self.rows = list(dict.fromkeys(rows))
        self._topics: dict[tuple[Mixture, int], tuple[str, str]] = {}
        self._bare: dict[tuple[Mixture, int], list[Run]] = {}
        self._runs: dict[Row, list[Run]] = {row: [] for row in self.rows}
        for row in self.rows:
            if row.topic not in self._topics:
                print(f"publishing {row.mixture.messages:,} messages: {row.label}", file=sys.stderr)
                self._topics[row.topic] = (
                    topic_of(broker, row.mixture, row.partitions),
                    topic_of(broker, short_of(row.mixture), row.partitions),
                )

    def run(self, runs: int) -> dict[Row, Cost]:
        """Run all rows in turn, `runs` times."""
        for row in {row.processes > 1: row for row in self.rows}.values():
            self._run(row)  # compiles what such a row needs
        for _ in range(runs):
            for topic, (full, short) in self._topics.items():
                self._bare.setdefault(topic, []).append(Run(bare(self._broker, full), bare(self._broker, short)))
            for row in self.rows:
                run = self._run(row)
                self._runs[row].append(run)
                print(f"{row.label}: {run.full.cpu_seconds:.2f} s of CPU", file=sys.stderr)
        return {
            row: cost_of(row.mixture, found, self._bare[row.topic], self._kafka_bytes(row))
            for row, found in self._runs.items()
        }

    def _kafka_bytes(self, row: Row) -> float:
        if not isinstance(self._broker.process, KafkaProcess):
            return 0.0
        full, _ = self._topics[row.topic]
        logs = self._broker.process.log.glob(f"{full}-*/*.log")
        return sum(log.stat().st_size for log in logs) / row.mixture.messages

    def _run(self, row: Row) -> Run:
        full, short = self._topics[row.topic]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "data")
            measured = self._job(row, full, folder)
            written = _written(folder)
        with tempfile.TemporaryDirectory() as name:
            return Run(measured, self._job(row, short, Path(name, "data")), written)

    def _job(self, row: Row, topic: str, folder: Path) -> Measured:
        return job(self._broker, topic, row.workers, row.processes, row.epoch_seconds, folder, writers=str(row.writers))


def _written(folder: Path) -> Written:
    table = find_table(read_settings({}, data_dir=folder), "trades")
    assert table is not None, "the job has written it"
    files = table.inspect.files()
    size, rows = (np.sum(files[name].to_numpy()) for name in ("file_size_in_bytes", "record_count"))
    return Written(table.metadata.next_sequence_number() - 1, float(size / rows))


def short_of(mixture: Mixture) -> Mixture:
    """Return the mixture of the short run."""
    fields = {name: getattr(mixture, name) for name in mixture.__struct_fields__}
    return Mixture(**fields | {"messages": mixture.messages // SHORT_SHARE})


def cost_of(mixture: Mixture, runs: Sequence[Run], bare_runs: Sequence[Run], kafka_bytes: float = 0.0) -> Cost:
    """Return the medians of a row's runs, and of the bare loop on the same messages."""
    short = short_of(mixture).messages
    messages = mixture.messages - short
    cpu_us = _difference(runs, "cpu_seconds") * 1e6 / messages
    start = statistics.median(run.short.cpu_seconds for run in runs)
    return Cost(
        messages=mixture.messages,
        cpu_us=cpu_us,
        times_bare=cpu_us * messages / 1e6 / _difference(bare_runs, "cpu_seconds"),
        messages_per_second=messages / _difference(runs, "wall_seconds"),
        peak_mb=statistics.median(run.full.peak_mb for run in runs),
        start_cpu_seconds=start - cpu_us * short / 1e6,
        commits=round(statistics.median(run.written.commits for run in runs)),
        stored_bytes=statistics.median(run.written.bytes_per_row for run in runs),
        kafka_bytes=kafka_bytes,
    )


def _difference(runs: Sequence[Run], field: str) -> float:
    medians = [
        statistics.median(getattr(run, field) for run in kind)
        for kind in ([run.full for run in runs], [run.short for run in runs])
    ]
    return float(medians[0] - medians[1])


def report(name: str, rows: Sequence[Row], costs: Mapping[Row, Cost]) -> list[dict[str, Any]]:
    """Print one table; return its rows for JSON."""
    columns = (
        f"{'us':>8}{'times bare':>12}{'ratio':>8}{'messages/s':>13}{'MB':>8}{'start s':>9}{'commits':>9}{'B a row':>9}"
    )
    print(f"\n{name:<16}{columns}")
    found = []
    for row in rows:
        cost = costs[row]
        ratio = cost.cpu_us / costs[rows[0]].cpu_us
        print(
            f"{row.label:<16}{cost.cpu_us:8.2f}{cost.times_bare:12.2f}{ratio:8.2f}{cost.messages_per_second:13,.0f}"
            f"{cost.peak_mb:8,.0f}{cost.start_cpu_seconds:9.2f}{cost.commits:9,}{cost.stored_bytes:9.1f}"
        )
        found.append({"table": name, "row": row.label, "ratio": ratio, **cost._asdict()})
    return found


def report_commits() -> list[dict[str, Any]]:
    """Print what a commit takes as its table ages, in turn with a young table."""
    found = list[dict[str, Any]]()
    print(f"\n{'commits':<16}{'ms':>8}{'CPU ms':>8}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        old, young = (writer_of(settings_in(Path(folder, name))) for name in ("old", "young"))
        count = 0
        for age in COMMITS:
            for number in range(count, age):
                commits.epoch(old, number)
            pairs = [
                (commits.epoch(old, age + number), commits.epoch(young, len(found) * COMMITS_MEASURED + number))
                for number in range(COMMITS_MEASURED)
            ]
            count = age + COMMITS_MEASURED
            cost, base = (commits.median(column) for column in zip(*pairs, strict=True))
            ratio = cost.cpu_ms / base.cpu_ms
            print(f"{age:<16,}{cost.wall_ms:8.1f}{cost.cpu_ms:8.1f}{ratio:8.2f}", flush=True)
            found.append({"table": "commits", "row": f"{age:,}", "wall_ms": cost.wall_ms, "cpu_ms": cost.cpu_ms})
    return found


def report_crossing() -> list[dict[str, Any]]:
    """Print what a row costs that goes to another process: its slice is pickled, sent and read."""
    here, there = Symbols(), Symbols()
    batch = decode(message_batch(list(Mixture(CROSSING_ROWS).records())), symbols=here).trades
    slices = split(batch)
    seconds, size = list[float](), 0
    for _ in range(RUNS + 1):
        started = time.process_time()
        pickled = [pickle.dumps(one) for one in slices]
        for one in pickled:
            pickle.loads(one).with_ids_of(there)  # noqa: S301  our own
        seconds.append(time.process_time() - started)
        size = sum(map(len, pickled))
    rows = sum(map(len, slices))
    cpu_us = statistics.median(seconds[1:]) / rows * 1e6
    size = size // rows
    print(f"\n{'crossing':<16}{'us':>8}{'bytes':>8}\na row           {cpu_us:8.2f}{size:8.0f}", flush=True)
    return [{"table": "crossing", "row": "a row", "cpu_us": cpu_us, "bytes": size}]


def report_numbers() -> list[dict[str, Any]]:
    """Print what numbers in the window cost, per row."""
    return _report_window("numbers", fingerprints.measure, "cpu_us", "allocated_bytes")


def report_ids() -> list[dict[str, Any]]:
    """Print what ids in the window cost, per row."""
    return _report_window("ids", window.measure_rows, "expiring_us", "bytes_per_id")


def _report_window(table: str, measure: Callable[[int], NamedTuple], micros: str, size: str) -> list[dict[str, Any]]:
    """Print and return what `measure` says of some millions; `micros` and `size` are fields of its results."""
    found = []
    print(f"\n{table:<16}{'us':>8}{'bytes':>8}")
    for millions in MILLIONS:
        cost = _apart(measure, millions * 1_000_000)._asdict()
        print(f"{millions:>3} million     {cost[micros]:8.3f}{cost[size]:8.2f}", flush=True)
        found.append({"table": table, "row": f"{millions} million", **cost})
    return found


def _apart(measure: Callable[[int], T], count: int) -> T:
    """Call a function in a process of its own, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, count).result()


STEPS: Final[dict[str, Callable[[], list[dict[str, Any]]]]] = {
    "commits": report_commits,
    "crossing": report_crossing,
    "numbers": report_numbers,
    "ids": report_ids,
}


def main() -> None:
    """Run the tables that were asked for, and print them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    tables = rows_of(MESSAGES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*tables, *STEPS]
    parser.add_argument("--rows", nargs="*", choices=names, default=names, help="the tables to measure (default: all)")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    chosen = parser.parse_args()
    tables = {name: rows for name, rows in rows_of(chosen.messages).items() if name in chosen.rows}
    found = list[dict[str, Any]]()
    if tables:
        with own_broker() as broker:
            costs = Session(broker, (row for rows in tables.values() for row in rows)).run(chosen.runs)
            print(f"broker: {broker.name}; {chosen.messages:,} messages, medians of {chosen.runs} runs")
        for name, rows in tables.items():
            found += report(name, rows, costs)
    for name, step in STEPS.items():
        if name in chosen.rows:
            found += step()
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
