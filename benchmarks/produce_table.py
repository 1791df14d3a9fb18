"""Cost of `k2 produce --table` without Kafka: `python -m benchmarks.produce_table [--rows N]`.

A table of one day is read in each order, in a process of its own, and its messages are made and counted, not sent.
Printed are wall time, CPU microseconds per row, and the memory of the process at its peak.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self
from unittest.mock import patch

from benchmarks.market import fill
from benchmarks.process_status import own_status
from k2.cli import produce_table
from k2.ops.settings import read_settings
from k2.query.ordered_trades import TradeOrder

COMMITS: Final = 10


class CountingProducer:
    """Takes the place of the producer, and counts the messages."""

    def __init__(self, *_: object) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        """Return the producer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""

    def ensure_topic(self, *, partitions: int) -> None:
        """Create nothing."""

    def send(self, *_: object, **__: object) -> None:
        """Count a message."""
        self.count += 1


def publish(folder: Path, order: str) -> None:
    """Read the table of a folder in an order; print what that takes."""
    selection = produce_table.Selection(None, None, None, None, None)
    producer = CountingProducer()
    wall, cpu = time.perf_counter(), time.process_time()
    with patch.object(produce_table, "TradeProducer", lambda *_: producer):
        produce_table.publish_table(
            read_settings({}, data_dir=folder),
            "replayed",
            selection,
            order,
            1,
            lambda _: None,
            has_trade_times=True,
            as_json=True,
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"by {order}: {producer.count:,} rows, {wall:.1f} s, {cpu / producer.count * 1e6:.2f} us of CPU a row, "
        f"at most {own_status().peak_mb / 1_000:.2f} GB"
    )


def main() -> None:
    """Fill a table and measure both orders, or be the process that is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.produce_table", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--folder", type=Path, help="publish the table of this folder, and make none")
    parser.add_argument("--order", choices=[*TradeOrder], default=TradeOrder.TIME, help="in this order")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        publish(arguments.folder, arguments.order)
        return
    with tempfile.TemporaryDirectory() as name:
        fill(read_settings({}, data_dir=Path(name)), arguments.rows, COMMITS)
        for order in TradeOrder:
            command = [sys.executable, "-m", "benchmarks.produce_table", "--folder", name, "--order", order]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
