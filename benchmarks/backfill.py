"""Cost of comparing an archive with the table: `python -m benchmarks.backfill [--rows N]`.

An archive of one symbol's day, zipped as Binance has it, is read, and compared with a table that lacks a tenth of its
trades. Printed are wall time and CPU time, and the memory of a process that only reads the archive. Then what the
choice of conversions saves: a price's text to a decimal by Arrow and by DuckDB, and a time with a fraction to
microseconds by its text and by a multiplication. Nothing is published.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow

from benchmarks.process_status import own_status
from k2.fill.archives import _TIMES, Archive, read_archive
from k2.fill.backfill import backfill
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import append, event, made, trade

SYMBOL: Final = "BTCUSDT"
FIRST_TIME_MS: Final = 1_723_161_600_000
ROUNDS: Final = 3
TEXTS: Final = 200_000
BY_DUCKDB: Final = {
    "a price by DuckDB": "max(CAST(price AS DECIMAL(38, 18)))",
    "a time by its text": f"max({_TIMES['s']('seconds')})",
    "a time multiplied": "max(CAST(CAST(seconds AS DECIMAL(38, 18)) * 1000000 AS BIGINT))",
}

T = TypeVar("T")


def main() -> None:
    """Make the archive and the table, and print what reading, comparing and converting cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--archive", type=Path, help="read this archive, and print the memory of that alone")
    arguments = parser.parse_args()
    if arguments.archive is not None:
        report_memory(arguments.archive)
        return
    rows = arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        settings, path = Settings(data_dir=Path(folder, "data")), Path(folder, f"{SYMBOL}-trades-2024-08-09.zip")
        missing = range(rows * 4 // 10, rows // 2)
        make_table(settings, rows, missing)
        make_archive(path, rows)
        subprocess.run([sys.executable, "-m", "benchmarks.backfill", "--archive", str(path)], check=True)
        for _ in range(ROUNDS):
            report(settings, path, missing)
    report_conversions()


def make_table(settings: Settings, rows: int, missing: range) -> None:
    """Make the tables with the trades 1 to `rows` but those that are missing, which the ledger has as a gap."""
    opened = event("gap_opened", missing[0], missing[-1], symbol=SYMBOL, exchange="binance", session=1)
    started = event("session_started", 1, 1, symbol=SYMBOL, exchange="binance", session=1)
    append(made(settings, TableName.SEQUENCE_EVENTS), [started, opened])
    table = made(settings, TableName.TRADES)
    schema = schema_to_pyarrow(table.schema())
    numbers = pa.array([number for number in range(1, rows + 1) if number not in missing])
    columns = {
        "sequence": numbers,
        "offset": numbers,
        "trade_id": numbers.cast(pa.string()),
        "timestamp": pa.array((numbers.to_numpy() + FIRST_TIME_MS) * 1_000).cast(pa.timestamp("us", "UTC")),
    }
    same = trade(0, symbol=SYMBOL, exchange="binance", session=1)
    for name in schema.names:
        if name not in columns:
            columns[name] = pa.array([same[name]], schema.field(name).type).take(pa.array(np.zeros(len(numbers), int)))
    table.append(pa.table({name: columns[name].cast(schema.field(name).type) for name in schema.names}, schema=schema))


def make_archive(path: Path, rows: int) -> None:
    """Write the trades as Binance's archives have them."""
    lines = (f"{number},2.50,2,5.0,{FIRST_TIME_MS + number},False,True\n" for number in range(1, rows + 1))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, "".join(lines))


def report(settings: Settings, path: Path, missing: range) -> None:
    """Read the archive and compare it; print what both took."""
    archive = measured("read", partial(read_archive, path))
    found = measured("compared", partial(chosen, settings, archive))
    assert found == len(missing), f"the {len(missing):,} missing trades are chosen, not {found:,}"


def report_memory(path: Path) -> None:
    """Read the archive; print the memory of the process before it, with its columns, and at its peak."""
    before_mb = own_status().resident_mb
    archive = read_archive(path)
    print(
        f"file {path.stat().st_size / 1e6:.0f} MB, columns {archive.trades.nbytes / 1e6:.0f} MB; "
        f"process {before_mb:.0f} MB before it, at most {own_status().peak_mb:.0f} MB"
    )


def chosen(settings: Settings, archive: Archive) -> int:
    """Return the number of trades of an archive that would be published."""
    (backfilled,) = backfill(settings, [(archive, "archive")], send=lambda *_: None, wait=lambda *_: None)
    return backfilled.published


def measured(what: str, act: Callable[[], T]) -> T:
    """Return what a call returns, and print its time."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = act()
    print(f"{what:<8}  {time.perf_counter() - wall:5.2f} s, {time.process_time() - cpu:5.2f} s of CPU")
    return found


def report_conversions() -> None:
    """Print what a value costs in each conversion."""
    texts = pa.table(
        {
            "price": [f"{60_000 + number % 999}.{number % 100:02}" for number in range(TEXTS)],
            "seconds": [f"{FIRST_TIME_MS // 1_000 + number}.{number % 1_000_000:06}" for number in range(TEXTS)],
        }
    )
    engine = duckdb.connect(config={"threads": 1}).from_arrow(texts)
    acts: dict[str, Callable[[], object]] = {"a price by Arrow": partial(texts["price"].cast, pa.decimal128(38, 18))}
    acts |= {what: engine.aggregate(sql).fetchall for what, sql in BY_DUCKDB.items()}
    for what, act in acts.items():
        start = time.process_time()
        act()
        print(f"{what:<18}  {(time.process_time() - start) / TEXTS * 1e6:6.2f} us of CPU")


if __name__ == "__main__":
    main()
