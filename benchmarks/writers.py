"""Commits of several writers at once to one table: `python -m benchmarks.writers [--writers 1 2 4 8]`.

Each writer is a process, as one of a cluster. All close an epoch at the same moment, as Bytewax makes them, with few
rows, so that the commit is measured and not the data file. Of commits that meet, one is taken and the others are
rebased. Printed are the time until the commit of a writer is in, and that until all are; and how often a commit met
another. The catalogs are SQLite, and PostgreSQL if it is installed; both run on the same cores as the writers, and this
PostgreSQL does not wait for the disk.
"""

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any, Final, NamedTuple

import structlog

from benchmarks.commits import ROWS
from tests.catalogs.fixtures import variables_of
from tests.catalogs.servers import running_postgresql
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

__all__ = ["CATALOGS", "Closing", "measure"]

CATALOGS: Final = ("sqlite", "postgresql")
EPOCHS: Final = 20
GROUPS_OF: Final = (1, 2, 4, 8)


class Closing(NamedTuple):
    """What the ends of epochs take, medians."""

    writer_seconds: float
    """Of one writer, until its commit is in."""
    all_seconds: float
    """Until the commits of all writers are in."""
    conflicts: float
    """Mean number of commits of others that a commit met."""
    cpu_ms: float
    """Mean CPU of a writer's process per epoch."""


class _Epoch(NamedTuple):
    """What one writer measured."""

    seconds: float
    conflicts: int
    cpu_ms: float


def measure(folder: Path, writers: int, epochs: int = EPOCHS) -> Closing:
    """Close epochs of this number of writers in a new table, in the catalog that the environment names."""
    writer_of(settings_in(folder, writers=writers)).close()  # creates the tables
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        barrier = manager.Barrier(writers)
        with ProcessPoolExecutor(writers, mp_context=context) as pool:
            started = [pool.submit(_write, folder, writer, writers, epochs, barrier) for writer in range(writers)]
            measured = [future.result() for future in started]
    every = [epoch for one in measured for epoch in one]
    return Closing(
        writer_seconds=statistics.median(epoch.seconds for epoch in every),
        all_seconds=statistics.median(max(epoch.seconds for epoch in row) for row in zip(*measured, strict=True)),
        conflicts=statistics.fmean(epoch.conflicts for epoch in every),
        cpu_ms=statistics.fmean(epoch.cpu_ms for epoch in every),
    )


def _write(folder: Path, writer: int, writers: int, epochs: int, barrier: Barrier) -> list[_Epoch]:
    """Be one of the writers."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    conflicts = 0

    def sleep(seconds: float) -> None:
        nonlocal conflicts
        conflicts += 1
        time.sleep(seconds)

    opened = writer_of(settings_in(folder, writers=writers), str(writer))
    opened._committer._sleep = sleep  # noqa: SLF001  it waits after a conflict, and no metric counts those
    measured = list[_Epoch]()
    for number in range(epochs + 1):
        first, stop, before = number * ROWS, (number + 1) * ROWS, conflicts
        rows = [row_at(offset, symbol=f"S{writer}") for offset in range(first, stop)]
        opened.write_batch([slice_of(rows), read_to(stop)])
        barrier.wait()
        began, cpu = time.perf_counter(), time.process_time()
        opened.snapshot()
        epoch = _Epoch(time.perf_counter() - began, conflicts - before, (time.process_time() - cpu) * 1e3)
        # The first epoch compiles, and begins with metadata of the same age.
        measured += [epoch] if number else []
    return measured


@contextmanager
def _catalog(kind: str, folder: Path) -> Iterator[None]:
    """Have PyIceberg's environment name a catalog of this kind."""
    if kind == "sqlite":
        yield
        return
    with running_postgresql() as server:
        variables = variables_of(kind, server.port, folder / "warehouse")
        os.environ.update(variables)
        yield
        for name in variables:
            del os.environ[name]


def report(kind: str, counts: Sequence[int], epochs: int) -> list[dict[str, Any]]:
    """Print the ends of epochs in one kind of catalog; return the rows for JSON."""
    found = list[dict[str, Any]]()
    print(f"{kind:<14}{'a writer ms':>12}{'all ms':>9}{'conflicts':>11}{'CPU ms':>8}")
    for count in counts:
        with tempfile.TemporaryDirectory() as name, _catalog(kind, Path(name)):
            closing = measure(Path(name, "data"), count, epochs)
        print(
            f"{count:>3} writers   {closing.writer_seconds * 1e3:12.0f}{closing.all_seconds * 1e3:9.0f}"
            f"{closing.conflicts:11.2f}{closing.cpu_ms:8.0f}",
            flush=True,
        )
        found.append({"table": kind, "writers": count, **closing._asdict()})
    return found


def main() -> None:
    """Measure the catalogs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, nargs="*", default=list(GROUPS_OF))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--catalogs", nargs="*", choices=CATALOGS, default=list(CATALOGS))
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    chosen = parser.parse_args()
    found = [row for kind in chosen.catalogs for row in report(kind, chosen.writers, chosen.epochs)]
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
