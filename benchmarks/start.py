"""Start of the job without a recovery store: `python -m benchmarks.start [--millions 1 10]`.

For tables of several sizes: seconds and CPU seconds of a process from its start until its first epoch is closed, with
the checkpoints in the warehouse and without them, when the state is rebuilt from all rows. A run of either kind reads a
few messages after what the table has. The process reads no broker.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from bytewax.testing import cluster_main

from benchmarks.market import fill
from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from k2.restore.tables import TableStateSource
from k2.storage.catalog import find_table
from k2.storage.table_properties import CHECKPOINTS
from tests.flows.job_io import MemorySource, message_batch

ROWS_A_COMMIT: Final = 500_000
MESSAGES: Final = 10
PARTITION: Final = TopicPartition("trades", 0)


def start(folder: Path) -> None:
    """Run the job on the tables of a folder, on a few messages after what they have."""
    settings = read_settings({}, data_dir=folder)
    offset = read_progress(settings).of("0")[PARTITION].offset
    first = MessageBatch.first(PARTITION, "k2", offset)
    source = MemorySource(
        {"trades:0": [first, message_batch([_message(offset + at) for at in range(MESSAGES)], offset)]}
    )
    trades = TradesSink(settings)
    events = LedgerSink(settings, trades.open(), fence=trades)
    events.open()
    job_io = JobIO(source, trades, events, TableStateSource(settings))
    flow = trades_flow(job_io, settings)
    cluster_main(flow, [], 0, epoch_interval=timedelta(seconds=10))  # type: ignore[no-untyped-call]


def _message(number: int) -> tuple[None, bytes]:
    """Return a message of a symbol that the tables lack."""
    name = f'"exchange":"kraken","symbol":"NEW-{number}","sequence":{number}'
    return None, f'{{{name},"price":"1","quantity":"1","side":"buy","timestamp":1723161600000000}}'.encode()


def measure(folder: Path) -> tuple[float, float]:
    """Return the seconds and CPU seconds of a start."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.start", "--folder", str(folder)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


def forget_checkpoints(settings: Settings) -> None:
    """Remove the property that names the checkpoints."""
    table = find_table(settings, "trades")
    assert table is not None, "the table was filled"
    with table.transaction() as transaction:
        transaction.remove_properties(CHECKPOINTS.key + "0")


def main() -> None:
    """Measure all sizes, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10], help="rows of the tables, millions")
    parser.add_argument("--folder", type=Path, help="start on these tables, and measure nothing")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        start(arguments.folder)
        return
    for millions in arguments.millions:
        with tempfile.TemporaryDirectory() as name:
            settings = read_settings({}, data_dir=Path(name))
            rows = millions * 1_000_000
            fill(settings, rows, rows // ROWS_A_COMMIT, days=max(1, millions // 10))
            measure(settings.data_dir)  # compiles the rules, and takes the first checkpoints
            kept = measure(settings.data_dir)
            forget_checkpoints(settings)
            rebuilt = measure(settings.data_dir)
            for what, (seconds, cpu) in (("checkpoints", kept), ("rebuilt", rebuilt)):
                print(f"{millions:>6} million rows  {what:<12} {seconds:6.1f} s  {cpu:6.1f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
