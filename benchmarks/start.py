"""Start of the job as its tables grow: `python -m benchmarks.start [--millions 1 10] [--ids 0 1]`.

For tables of several sizes: seconds and CPU seconds of a process from its start until its first epoch is closed and it
ends, on a few messages after what the table has,

- with a recovery store,
- without one, from the checkpoints in the warehouse,
- without one after SIGKILL, with 100,000 rows of which no checkpoint knows,
- without one and without checkpoints, when the state is rebuilt from all rows.

Beyond `--written` million rows, a table has only the entries of files in its metadata; such a table is not rebuilt.
`--ids` adds tables whose trades have no numbers: their ids are in the deduplication window. Last, the bytes that an
epoch writes for rows and for state. The processes read no broker.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main
from pyiceberg.table import Table

from benchmarks.market import Filling
from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg import checkpoint_writer
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from k2.restore.recovery_store import NO_STORE, ResumeInfo, lock_and_check
from k2.restore.tables import TableStateSource
from k2.storage.catalog import find_table
from k2.storage.checkpoints import NamedCheckpoints
from k2.storage.recovery.backup import make_store
from k2.storage.table_properties import CHECKPOINTS
from tests.flows.job_io import message_batch

ROWS_A_COMMIT: Final = 500_000
FEW: Final = 10
UNSEEN: Final = 100_000
"""Rows of the process that is killed."""
BATCH: Final = 50_000
RUN_SECONDS: Final = 5
"""Time until it is killed."""
PARTITION: Final = TopicPartition("trades", 0)
START_US: Final = 1_723_161_600_000_000
FACTOR: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835

Message = Callable[[int], tuple[None, bytes]]
"""Returns a message by its number."""


def _message(number: int) -> tuple[None, bytes]:
    """Return a message of one of a thousand symbols that the tables lack."""
    names = f'"exchange":"kraken","symbol":"NEW-{number % 1000}","sequence":{number // 1000}'
    return None, f'{{{names},"price":"1","quantity":"1","side":"buy","timestamp":{START_US + number}}}'.encode()


def _message_with_id(number: int) -> tuple[None, bytes]:
    """Return a message of such a symbol without a number, with an id as random as a UUID."""
    names = f'"exchange":"kraken","symbol":"NEW-{number % 1000}","trade_id":"{uuid.UUID(int=number * FACTOR % 2**128)}"'
    return None, f'{{{names},"price":"1","quantity":"1","side":"buy","timestamp":{START_US + number}}}'.encode()


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    cpu_seconds: float


class Messages(StatefulSourcePartition[MessageBatch, dict[str, int]]):
    """Some messages up to an offset; then the partition ends, or kills its process."""

    def __init__(self, batches: deque[MessageBatch], end: int, *, is_killed: bool) -> None:
        self._batches = batches
        self._state = {"format": 1, "offset": end}
        self._killed_at = time.monotonic() + RUN_SECONDS if is_killed else None

    def next_batch(self) -> Iterable[MessageBatch]:
        """Return the next batch."""
        if self._batches:
            return [self._batches.popleft()]
        if self._killed_at is None:
            raise StopIteration
        if time.monotonic() > self._killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return []

    def snapshot(self) -> dict[str, int]:
        """Return what the job's own source keeps."""
        return self._state


class Source(FixedPartitionedSource[MessageBatch, dict[str, int]]):
    """A source of one partition, which does not read its state."""

    def __init__(self, build: Callable[[], Messages]) -> None:
        self._build = build

    def list_parts(self) -> list[str]:
        """Return the only partition."""
        return [str(PARTITION)]

    def build_part(self, _step_id: str, _for_part: str, _resume_state: dict[str, int] | None) -> Messages:
        """Return it."""
        return self._build()


def start(
    folder: Path,
    store: Path | None,
    rows: int,
    epoch_seconds: float = 10,
    *,
    is_killed: bool = False,
    message: Message = _message,
) -> None:
    """Run the job on the tables of a folder, on some messages after what they have."""
    settings, resume_info = read_settings({}, data_dir=folder), NO_STORE
    if store is not None:
        held = lock_and_check(settings, store, 0, 1)
        assert held is not None, "the only process has all partitions"
        if held.execution is not None:
            resume_info = ResumeInfo(is_resumed=True, sources=held.sources, written=held.written)
    committed = read_progress(settings).of("0")
    offset = committed[PARTITION].offset if committed else 0
    trades = TradesSink(settings)
    events = LedgerSink(settings, trades.open(), fence=trades)
    events.open()
    source = Source(partial(Messages, _batches(offset, rows, message), offset + rows, is_killed=is_killed))
    job_io = JobIO(source, trades, events, TableStateSource(settings, resume_info))
    flow = trades_flow(job_io, settings)
    recovery = None if store is None else RecoveryConfig(str(store))  # type: ignore[no-untyped-call]
    epoch = timedelta(seconds=epoch_seconds)
    cluster_main(flow, [], 0, epoch_interval=epoch, recovery_config=recovery)  # type: ignore[no-untyped-call]


def _batches(offset: int, rows: int, message: Message) -> deque[MessageBatch]:
    end, batches = offset + rows, deque([MessageBatch.first(PARTITION, "k2", offset)])
    for first in range(offset, end, BATCH):
        batches.append(message_batch([message(at) for at in range(first, min(first + BATCH, end))], first))
    return batches


def measure(folder: Path, *options: str) -> Cost:
    """Return what a start takes in its own process; `options` are those of this module."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.start", "--folder", str(folder), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 or "--kill" in options, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - started, cpu)


def forget_checkpoints(settings: Settings) -> None:
    """Remove the property that names the checkpoints."""
    table = find_table(settings, "trades")
    assert table is not None, "the table was filled"
    with table.transaction() as transaction:
        transaction.remove_properties(CHECKPOINTS.key + "0")


def add_names(settings: Settings, millions: int) -> None:
    """Add entries of files that do not exist, of rows that the checkpoints know."""
    filling = Filling(settings)
    filling.commit(ROWS_A_COMMIT, 1, 1)
    for _ in range(millions * 1_000_000 // ROWS_A_COMMIT - 1):
        filling.commit_names_only()
    table = filling.table
    known = CHECKPOINTS.read(table.metadata.properties, "0")
    assert known.groups, "a run before has taken them"
    seen = checkpoint_writer.CommittedPoint.now(table, read_progress(settings).of("0"))
    with table.transaction() as transaction:
        transaction.set_properties(CHECKPOINTS.set_to(NamedCheckpoints(known.groups, [*known.groups], *seen), "0"))


def measure_table(millions: int, written: int, *, is_numbered: bool) -> None:
    """Print what the kinds of starts take on a table of a size."""
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name, "data"), Path(name, "store")
        settings = read_settings({}, data_dir=folder)
        commits = min(millions, written) * 1_000_000 // ROWS_A_COMMIT
        filling = Filling(settings, is_numbered=is_numbered)
        for _ in range(commits):
            filling.commit(ROWS_A_COMMIT, 1, commits)
        # The first one compiles the rules and writes the ledger, and only the second takes checkpoints.
        for _ in range(2):
            measure(folder)
        rebuilt = None
        if millions <= written:
            forget_checkpoints(settings)
            rebuilt = measure(folder)  # takes them again
        else:
            add_names(settings, millions - written)
        make_store(store, 4)
        measure(folder, "--store", str(store))
        costs = {"store": measure(folder, "--store", str(store)), "checkpoints": measure(folder)}
        measure(folder, "--kill")
        costs["killed"] = measure(folder)
        if rebuilt is not None:
            costs["rebuilt"] = rebuilt
        what = "rows" if is_numbered else "ids"
        for kind, cost in costs.items():
            print(
                f"{millions:>6} million {what:<5} {kind:<12} {cost.seconds:6.1f} s  {cost.cpu_seconds:6.1f} s of CPU",
                flush=True,
            )


def report_bytes(folder: Path, *, is_numbered: bool) -> None:
    """Print the bytes of a run: those of data files, and those of checkpoints."""
    state_bytes = 0
    create = checkpoint_writer._create  # noqa: SLF001

    def counted(table: Table, location: str, data: bytes) -> None:
        nonlocal state_bytes
        state_bytes += len(data)
        create(table, location, data)

    vars(checkpoint_writer)["_create"] = counted
    rows = 25 * UNSEEN
    start(folder, None, rows, epoch_seconds=0, message=_message if is_numbered else _message_with_id)
    data_bytes = sum(file.stat().st_size for file in folder.rglob("*.parquet") if "trades" in str(file))
    what = "numbers" if is_numbered else "ids"
    print(f"{rows:,} rows of 1,000 symbols with {what}: {data_bytes:,} bytes of rows, {state_bytes:,} of state")


def main() -> None:
    """Measure all sizes, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=int, nargs="*", default=[1, 10], help="rows of the tables, millions")
    parser.add_argument("--ids", type=int, nargs="*", default=[1], help="ids in the window, millions")
    parser.add_argument("--written", type=int, default=10, help="millions of rows that exist in files")
    parser.add_argument("--folder", type=Path, help="start on these tables, and measure nothing")
    parser.add_argument("--store", type=Path, help="with this recovery store")
    parser.add_argument("--bytes", choices=["numbers", "ids"], help="report what an epoch writes, of trades with these")
    parser.add_argument("--kill", action="store_true", help="read more messages, and be killed")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        rows = UNSEEN if arguments.kill else FEW
        start(arguments.folder, arguments.store, rows, 0.5 if arguments.kill else 10, is_killed=arguments.kill)
        return
    if arguments.bytes:
        with tempfile.TemporaryDirectory() as name:
            report_bytes(Path(name), is_numbered=arguments.bytes == "numbers")
        return
    for what in ("numbers", "ids"):
        subprocess.run([sys.executable, "-m", "benchmarks.start", "--bytes", what], check=True)
    for millions in arguments.millions:
        measure_table(millions, arguments.written, is_numbered=True)
    for millions in arguments.ids:
        measure_table(millions, millions, is_numbered=False)


if __name__ == "__main__":
    main()
