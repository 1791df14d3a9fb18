"""Commit latency as the table grows: `python -m benchmarks.commits`.

The job's writer commits small epochs to a new table in an SQLite catalog. If latency is flat, the ratio of the last
hundred commits to the second hundred is near one, and so is the ratio of that table to a young one. The commits to
the two tables alternate, so that drift of the machine affects both equally.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

COMMITS: Final = 1_000
HUNDRED: Final = 100
ROWS: Final = 4
"""Rows per commit: few, so that the commit is measured and not the data file."""


@dataclass(frozen=True)
class Cost:
    """Duration of the end of one epoch."""

    wall_ms: float
    cpu_ms: float


def main() -> None:
    """Print the medians of each hundred commits, the ratios, and the size of the table's metadata."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--commits", type=int, default=COMMITS)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old, young = (settings_in(Path(folder, name)) for name in ("old", "young"))
        old_writer, young_writer = writer_of(old), writer_of(young)
        report([epoch(old_writer, number) for number in range(chosen.commits)])
        describe(old)
        for number in range(HUNDRED):
            epoch(young_writer, number)
        pairs = [
            (epoch(old_writer, chosen.commits + number), epoch(young_writer, HUNDRED + number))
            for number in range(HUNDRED)
        ]
    costs = [median(column) for column in zip(*pairs, strict=True)]
    print(f"old table over young one: {ratios(*costs)}")


def epoch(writer: TradesWriter, number: int) -> Cost:
    """Write a few rows and end the epoch; return the duration of its end."""
    first, stop = number * ROWS, (number + 1) * ROWS
    writer.write_batch([slice_of([row_at(offset) for offset in range(first, stop)]), read_to(stop)])
    wall, cpu = time.perf_counter(), time.process_time()
    writer.snapshot()
    return Cost((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


def report(costs: Sequence[Cost]) -> None:
    """Print a line for each hundred commits, then the ratio of the last to the second."""
    hundreds = [median(costs[start : start + HUNDRED]) for start in range(0, len(costs), HUNDRED)]
    for number, cost in enumerate(hundreds):
        print(f"commits from {number * HUNDRED:5}: {cost.wall_ms:6.1f} ms, {cost.cpu_ms:6.1f} ms CPU")
    if len(hundreds) > 2:
        print(f"last hundred over second: {ratios(hundreds[-1], hundreds[1])}")


def ratios(cost: Cost, base: Cost) -> str:
    """Format the ratios of two costs."""
    return f"{cost.wall_ms / base.wall_ms:.2f}, {cost.cpu_ms / base.cpu_ms:.2f} in CPU"


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median cost of commits."""
    return Cost(statistics.median(cost.wall_ms for cost in costs), statistics.median(cost.cpu_ms for cost in costs))


def describe(settings: Settings) -> None:
    """Print the numbers of snapshots and manifests, and the size of the metadata."""
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    current = table.current_snapshot()
    manifests = 0 if current is None else len(current.manifests(table.io))
    size = len(table.io.new_input(table.metadata_location))
    print(f"{len(table.snapshots())} snapshots, {manifests} manifests, {size:,} bytes of metadata")


if __name__ == "__main__":
    main()
