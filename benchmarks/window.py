"""Cost of deduplication by id, per row, id, snapshot and start: `python -m benchmarks.window --ids 100000000`."""

import argparse
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from k2.dedup.deduplicator import GroupDeduplicator
from k2.dedup.trade_id_hash import KEY_BYTES, TradeIdHasher
from k2.iceberg.tables import TableName, open_table
from k2.model.batch import MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.key_groups import GROUPS
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.symbols import Symbols
from k2.ops.settings import Settings, read_settings
from k2.restore.trade_ids import StoredTradeIds
from k2.storage.catalog import open_catalog

ROWS: Final = 20_000
ID_BYTES: Final = 12
DIGITS: Final = 10 ** np.arange(ID_BYTES - 1, -1, -1, dtype=np.int64)
SYMBOL_COUNT: Final = 160
SYMBOL_NAMES: Final = [f"S{number}" for number in range(SYMBOL_COUNT)]
FIRST: Final = 1_700_000_000_000_000
REGISTRY: Final = Symbols()
HASHER: Final = TradeIdHasher(REGISTRY, bytes(KEY_BYTES))


class CpuTime(NamedTuple):
    """CPU seconds of the calls of a run: total and longest."""

    total: float
    longest: float


def market(first: int, symbol: int) -> TradeSlice:
    """Return trades without sequence numbers, one per microsecond, with consecutive 12-digit ids from `first`."""
    row_idx = np.arange(ROWS, dtype=np.int64)
    zeros, sizes = np.zeros(ROWS, dtype=np.int64), np.full(ROWS, ID_BYTES, dtype=np.int32)
    text = ((first + row_idx)[:, None] // DIGITS % 10 + ord("0")).astype(np.uint8)
    columns = TradeColumns(
        symbols=np.full(ROWS, symbol, dtype=np.int32),
        names=REGISTRY,
        sequences=zeros,
        first_sequences=zeros,
        has_sequence=np.zeros(ROWS, dtype=np.bool_),
        prices=np.ones((ROWS, 2), dtype=np.uint64),
        quantities=np.ones((ROWS, 2), dtype=np.uint64),
        sides=np.zeros(ROWS, dtype=np.int8),
        timestamps=row_idx,
        received=row_idx,
        text=text.ravel(),
        id_starts=row_idx * ID_BYTES,
        id_sizes=sizes,
        messages=row_idx.astype(np.int32),
        indexes=np.zeros(ROWS, dtype=np.int32),
    )
    none = np.zeros(0, dtype=np.uint8)
    times = FIRST + first + row_idx
    parts = none, zeros, sizes, zeros, sizes
    source = MessageBatch("trades", 0, "k2", first, first + ROWS, first + row_idx, times, *parts)
    rows = row_idx.astype(np.int32)
    nothing = np.zeros(ROWS, dtype=np.uint8), np.zeros(ROWS, dtype=np.int32)
    return TradeSlice(TradeBatch(source, columns), 0, rows, *nothing)


def run(groups: list[GroupDeduplicator], first: int, last: int) -> CpuTime:
    """Deduplicate trades with ids from `first` to `last`, one slice per group in rotation."""
    total = longest = 0.0
    for slice_idx, start in enumerate(range(first, last, ROWS)):
        group = slice_idx % len(groups)
        trade_slice = market(start, REGISTRY.intern("bench", f"S{group}"))
        started = time.process_time()
        groups[group].deduplicate(trade_slice)
        seconds = time.process_time() - started
        total, longest = total + seconds, max(longest, seconds)
    return CpuTime(total, longest)


def resident_bytes() -> int:
    """Return the resident memory of this process (Linux)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


class IdCost(NamedTuple):
    """What the ids of two windows cost."""

    held: int
    """Number of ids held, by all key groups."""
    bytes_per_id: float
    resident_bytes_per_id: float
    filled_us: float
    """CPU per row while nothing expires."""
    expiring_us: float
    """CPU per row while for each new id an old one expires."""
    duplicate_us: float
    longest_ms: float
    """CPU of the longest call while ids expire."""
    snapshot_bytes: int
    """Of all key groups."""
    group_snapshot_bytes: int
    """Of the largest one."""


def measure_rows(ids: int) -> IdCost:
    """Fill two windows with `ids` ids, then add a tenth of that while the oldest expire."""
    run([GroupDeduplicator(ids, hasher=HASHER)], 0, 2 * ROWS)
    before = resident_bytes()
    groups = [GroupDeduplicator(ids // 2, hasher=HASHER) for _ in range(GROUPS)]
    filled = run(groups, 0, ids)
    held, resident = sum(map(len, groups)), resident_bytes() - before
    size = sum(group.size_bytes for group in groups)
    expiring, duplicates = (run(groups, ids, ids + ids // 10) for _ in range(2))
    states = [len(pickle.dumps(group.snapshot())) for group in groups]
    return IdCost(
        held=held,
        bytes_per_id=size / held,
        resident_bytes_per_id=resident / held,
        filled_us=filled.total / ids * 1e6,
        expiring_us=expiring.total / ids * 1e7,
        duplicate_us=duplicates.total / ids * 1e7,
        longest_ms=expiring.longest * 1e3,
        snapshot_bytes=sum(states),
        group_snapshot_bytes=max(states),
    )


def report_rows(cost: IdCost) -> None:
    """Print what ids cost."""
    print(
        f"{cost.held:,} ids held by {GROUPS} key groups: {cost.bytes_per_id:.1f} bytes per id "
        f"({cost.resident_bytes_per_id:.1f} resident)"
    )
    print(f"  per row while they fill {cost.filled_us:.3f} us")
    print(f"  per row while ids expire {cost.expiring_us:.3f} us, per duplicate {cost.duplicate_us:.3f} us")
    mean_ms = cost.expiring_us * ROWS / 1e3
    print(f"  per call of {ROWS:,} rows while ids expire {mean_ms:.1f} ms, at most {cost.longest_ms:.1f} ms")
    print(f"  snapshots of an epoch {cost.snapshot_bytes:,} bytes, {cost.group_snapshot_bytes:,} at most per key group")


def create_table(settings: Settings, ids: int) -> Table:
    """Create a table of `ids` trades, with a million per file."""
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    schema = schema_to_pyarrow(table.schema())
    for first in range(0, ids, 1_000_000):
        count = min(1_000_000, ids - first)
        numbers = np.arange(first, first + count)
        table.append(pa.table([_column(field, numbers) for field in schema], schema=schema))
    return table


def _column(field: "pa.Field[Any]", numbers: NDArray[np.int64]) -> Any:
    values: Any = np.zeros(len(numbers), dtype=np.int32)
    match field.name:
        case "trade_id":
            values = np.char.zfill(numbers.astype(str), ID_BYTES)
        case "offset":
            values = numbers
        case "kafka_timestamp" | "timestamp":
            values = numbers + FIRST
        case "symbol":
            return pa.DictionaryArray.from_arrays(numbers % SYMBOL_COUNT, SYMBOL_NAMES).cast(field.type)
        case "exchange" | "topic":
            values = ["bench" if field.name == "exchange" else "trades"] * len(numbers)
        case "sequence" | "received" | "side":
            values = [None] * len(numbers)
    return pa.array(values).cast(field.type)


def measure_start(ids: int) -> None:
    """Read `ids` ids from a table, as a start without a recovery store does."""
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings({}, data_dir=Path(folder))
        table = create_table(settings, ids)
        progress = Progress({"0": {TopicPartition("trades", 0): PartitionProgress(offset=ids, stored=ids)}})
        started, cpu_started = time.perf_counter(), time.process_time()
        stored_ids = StoredTradeIds(settings, table, progress, None, REGISTRY)
        groups = [GroupDeduplicator(ids, hasher=HASHER) for _ in range(GROUPS)]
        for number, group in enumerate(groups):
            group.absorb(stored_ids.ids(number, ids, is_resumed=False))
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        millions = sum(map(len, groups)) / 1e6
        print(f"a start that reads {millions:g} million ids from the table, per million ids:")
        print(f"  {wall / millions:.2f} s, {cpu / millions:.2f} s CPU")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=2_000_000, help="number of ids in the windows (default: 2,000,000)")
    parser.add_argument(
        "--stored",
        type=int,
        default=1_000_000,
        help="number of ids that a start reads from a table (default: 1,000,000)",
    )
    arguments = parser.parse_args()
    report_rows(measure_rows(arguments.ids))
    measure_start(arguments.stored)


if __name__ == "__main__":
    main()
