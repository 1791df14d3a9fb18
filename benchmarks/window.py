"""What deduplication by id costs: a row, an id, a snapshot, a start: `python -m benchmarks.window --ids 100000000`."""

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
from k2.iceberg.tables import TableName, open_table
from k2.model.batch import MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.key_groups import GROUPS
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.symbols import SYMBOLS
from k2.ops.settings import read_settings
from k2.restore.trade_ids import StoredTradeIds
from k2.storage.catalog import open_catalog

ROWS: Final = 20_000
ID_BYTES: Final = 12
DIGITS: Final = 10 ** np.arange(ID_BYTES - 1, -1, -1, dtype=np.int64)
SYMBOL_COUNT: Final = 160
SYMBOL_NAMES: Final = [f"S{number}" for number in range(SYMBOL_COUNT)]
FIRST: Final = 1_700_000_000_000_000


class Took(NamedTuple):
    """CPU seconds of the calls of a run: all of them, and the longest."""

    total: float
    longest: float


def market(first: int, symbol: int) -> TradeSlice:
    """Return trades without numbers, with ids of twelve digits from one on, a microsecond apart."""
    place = np.arange(ROWS, dtype=np.int64)
    zeros, sizes = np.zeros(ROWS, dtype=np.int64), np.full(ROWS, ID_BYTES, dtype=np.int32)
    text = ((first + place)[:, None] // DIGITS % 10 + ord("0")).astype(np.uint8)
    columns = TradeColumns(
        symbols=np.full(ROWS, symbol, dtype=np.int32),
        sequences=zeros,
        has_sequence=np.zeros(ROWS, dtype=np.bool_),
        prices=np.ones((ROWS, 2), dtype=np.uint64),
        quantities=np.ones((ROWS, 2), dtype=np.uint64),
        sides=np.zeros(ROWS, dtype=np.int8),
        timestamps=place,
        received=place,
        text=text.ravel(),
        id_starts=place * ID_BYTES,
        id_sizes=sizes,
        messages=place.astype(np.int32),
        indexes=np.zeros(ROWS, dtype=np.int32),
    )
    none = np.zeros(0, dtype=np.uint8)
    times = FIRST + first + place
    parts = none, zeros, sizes, zeros, sizes
    source = MessageBatch("trades", 0, "k2", first, first + ROWS, first + place, times, *parts)
    rows = place.astype(np.int32)
    nothing = np.zeros(ROWS, dtype=np.uint8), np.zeros(ROWS, dtype=np.int32)
    return TradeSlice(TradeBatch(source, columns), 0, rows, *nothing)


def run(groups: list[GroupDeduplicator], first: int, last: int) -> Took:
    """Deduplicate trades from one id to another, a slice a group in turn."""
    total = longest = 0.0
    for number, start in enumerate(range(first, last, ROWS)):
        piece = market(start, SYMBOLS.intern("bench", f"S{number % len(groups)}"))
        began = time.process_time()
        groups[number % len(groups)].deduplicate(piece)
        took = time.process_time() - began
        total, longest = total + took, max(longest, took)
    return Took(total, longest)


def resident_bytes() -> int:
    """Return the memory that this process has now (Linux)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def measure_rows(ids: int) -> None:
    """Fill two windows with that many ids, then go on for a tenth of that while the oldest expire."""
    run([GroupDeduplicator(ids)], 0, 2 * ROWS)
    before = resident_bytes()
    groups = [GroupDeduplicator(ids // 2) for _ in range(GROUPS)]
    filled = run(groups, 0, ids)
    held, resident = sum(map(len, groups)), resident_bytes() - before
    size = sum(group.size_bytes for group in groups)
    on, again = (run(groups, ids, ids + ids // 10) for _ in range(2))
    mean_ms = on.total / (ids // 10) * ROWS * 1e3
    states = [len(pickle.dumps(group.snapshot())) for group in groups]
    print(f"{held:,} ids held by {GROUPS} key groups: {size / held:.1f} bytes an id ({resident / held:.1f} resident)")
    print(f"  a row while they fill {filled.total / ids * 1e6:.3f} us")
    print(f"  a row while as many expire {on.total / ids * 1e7:.3f} us, a duplicate {again.total / ids * 1e7:.3f} us")
    print(f"  the longest call of {ROWS:,} rows while they expire {on.longest * 1e3:.1f} ms, the mean {mean_ms:.1f} ms")
    print(f"  snapshots of an epoch {sum(states):,} bytes, {max(states):,} at most of a key group")


def made(folder: Path, ids: int) -> Table:
    """Make a table of that many trades, a million a file."""
    settings = read_settings({}, data_dir=folder)
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
    """Take that many ids from a table, as a start without a recovery store does."""
    with tempfile.TemporaryDirectory() as folder:
        table = made(Path(folder), ids)
        progress = Progress({"0": {TopicPartition("trades", 0): PartitionProgress(offset=ids, stored=ids)}})
        began, cpu = time.perf_counter(), time.process_time()
        history = StoredTradeIds(table, progress, None)
        groups = [GroupDeduplicator(ids) for _ in range(GROUPS)]
        for number, group in enumerate(groups):
            group.absorb(history.ids(number, ids, is_resumed=False))
        millions = sum(map(len, groups)) / 1e6
        print(f"a start that takes {millions:g} million ids from the table, for each million of them:")
        print(f"  {(time.perf_counter() - began) / millions:.2f} s, {(time.process_time() - cpu) / millions:.2f} s CPU")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=2_000_000, help="how many are held (2,000,000)")
    parser.add_argument("--stored", type=int, default=1_000_000, help="how many a start takes from a table (1,000,000)")
    arguments = parser.parse_args()
    measure_rows(arguments.ids)
    measure_start(arguments.stored)


if __name__ == "__main__":
    main()
