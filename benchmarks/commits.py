"""What a commit takes as its table grows older: `python -m benchmarks.commits`.

The real writer lands small epochs, one commit each, in a new table of an SQLite catalog. Flat latency shows as a ratio
near one of the last hundred commits over the second hundred; and of that table over a young one, their commits in turn,
so that a drift of the machine meets both alike.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2.iceberg.catalog import open_catalog
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.ops.settings import Settings
from tests.iceberg.pieces import Row, piece_of, read_to, settings_in, writer_of

COMMITS: Final = 1_000
HUNDRED: Final = 100
ROWS: Final = 4
"""A commit's rows: so few that what is measured is the commit, not the data file."""


@dataclass(frozen=True)
class Cost:
    """What the end of one epoch took."""

    wall_ms: float
    cpu_ms: float


def main() -> None:
    """Print the medians of each hundred commits, the ratios, and what a commit reads and writes of the table."""
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
    """Bring a few rows and end the epoch; give what its end took."""
    first, stop = number * ROWS, (number + 1) * ROWS
    writer.write_batch([piece_of([Row(offset) for offset in range(first, stop)]), read_to(stop)])
    wall, cpu = time.perf_counter(), time.process_time()
    writer.snapshot()
    return Cost((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


def report(costs: Sequence[Cost]) -> None:
    """Print a line for each hundred, then the ratio of the last to the second."""
    hundreds = [median(costs[start : start + HUNDRED]) for start in range(0, len(costs), HUNDRED)]
    for number, cost in enumerate(hundreds):
        print(f"commits from {number * HUNDRED:5}: {cost.wall_ms:6.1f} ms, {cost.cpu_ms:6.1f} ms CPU")
    if len(hundreds) > 2:
        print(f"last hundred over second: {ratios(hundreds[-1], hundreds[1])}")


def ratios(cost: Cost, base: Cost) -> str:
    """Word the ratios of two costs."""
    return f"{cost.wall_ms / base.wall_ms:.2f}, {cost.cpu_ms / base.cpu_ms:.2f} in CPU"


def median(costs: Sequence[Cost]) -> Cost:
    """Return the medians of some commits."""
    return Cost(statistics.median(cost.wall_ms for cost in costs), statistics.median(cost.cpu_ms for cost in costs))


def describe(settings: Settings) -> None:
    """Print what a commit reads and writes of the table in the end."""
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    current = table.current_snapshot()
    manifests = 0 if current is None else len(current.manifests(table.io))
    size = len(table.io.new_input(table.metadata_location))
    print(f"{len(table.snapshots())} snapshots, {manifests} manifests, {size:,} bytes of metadata")


if __name__ == "__main__":
    main()
