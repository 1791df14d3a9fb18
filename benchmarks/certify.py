"""Certificates of one day: `python -m benchmarks.certify [--rows N] [--symbols N] [--folder DIR]`.

A table of one day with ten million rows of ten thousand symbols is made, all certificates of the day are issued, and
issued again, when nothing is new. Printed are wall time, CPU time and the memory of the process at its peak, and the
CPU time of the signatures alone.
`--folder` keeps the table for another run.
"""

import argparse
import resource
import shutil
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.market import BEGIN
from k2.certificates.signing import new_key, private_key, signed
from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.commit import Committer
from k2.iceberg.data_files import write_file
from k2.iceberg.pending_commit import PendingCommit
from k2.iceberg.tables import TableName, open_table
from k2.model.progress import PartitionDelta, TopicPartition
from k2.ops.settings import Settings, read_settings
from k2.query.certify import IssuedCertificate, certify
from k2.storage.catalog import find_table, open_catalog

__all__ = ["main"]

COMMITS: Final = 20
_DAY_US: Final = 86_400_000_000


def main() -> None:
    """Make the table unless it exists, issue the certificates twice, and print what that costs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certify", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with _folder(arguments.folder) as folder:
        settings = read_settings({}, data_dir=Path(folder))
        if find_table(settings, "trades") is None:
            _fill(settings, arguments.rows, arguments.symbols)
        shutil.rmtree(Path(folder) / "certificates", ignore_errors=True)
        key = Path(folder) / "key.pem"
        if not key.exists():
            new_key(key)
        _measure(settings, "first", key)
        issued = _measure(settings, "again", key)
        unsigned = [{name: one.document[name] for name in one.document if name != "signature"} for one in issued]
        signer, cpu = private_key(key), time.process_time()
        for document in unsigned:
            signed(document, signer)
        print(f"signatures: {len(issued):,}: CPU {time.process_time() - cpu:.2f} s")


def _measure(settings: Settings, what: str, key: Path) -> list[IssuedCertificate]:
    wall, cpu = time.perf_counter(), time.process_time()
    issued = certify(settings, "binance", BEGIN.date(), folder=settings.data_dir / "certificates", key=private_key(key))
    rows = sum(one.document["trades"] for one in issued)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{what}: {rows:,} rows, {len(issued):,} certificates, {sum(one.is_new for one in issued):,} of them new: "
        f"{time.perf_counter() - wall:.1f} s, CPU {time.process_time() - cpu:.1f} s, at most {peak_mb:,} MB"
    )
    return issued


def _folder(folder: Path | None) -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory() if folder is None else nullcontext(str(folder))


def _fill(settings: Settings, rows: int, symbols: int) -> None:
    """Commit the day in equal parts, each sorted by symbol and time as the job writes it."""
    committer = Committer(open_table(open_catalog(settings), settings, TableName.TRADES))
    partition, random = TopicPartition("trades", 0), np.random.default_rng(7)
    names, seen = np.array([f"COIN{number:05d}-USD" for number in range(symbols)]), np.zeros(symbols, dtype=np.int64)
    for commit in range(COMMITS):
        count = rows // COMMITS
        symbol = np.sort(random.integers(0, symbols, count))
        counts = np.bincount(symbol, minlength=symbols)
        numbers = np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts) + seen[symbol] + 1
        seen += counts
        first_us = int(BEGIN.timestamp() * 1_000_000) + commit * _DAY_US // COMMITS
        times = first_us + (numbers % 1_000) * (_DAY_US // COMMITS // 1_000)
        stamps, cents = pa.array(times, pa.timestamp("us", tz="UTC")), pa.array(random.integers(100, 9_999_999, count))
        sequence = pa.array(numbers)
        batch = pa.table(
            {
                "exchange": pa.repeat("binance", count),
                "symbol": pa.array(names[symbol]),
                "trade_id": sequence.cast(pa.string()),
                "sequence": sequence,
                "session": pa.array(np.ones(count, dtype=np.int32)),
                "price": cents.cast(pa.decimal128(38, 18)),
                "quantity": cents.cast(pa.decimal128(38, 18)),
                "side": pa.array(np.array(["buy", "sell"])[random.integers(0, 2, count)]),
                "timestamp": stamps,
                "received": stamps,
                "topic": pa.repeat("trades", count),
                "partition": pa.array(np.zeros(count, dtype=np.int32)),
                "offset": pa.array(np.arange(commit * count, (commit + 1) * count)),
                "index": pa.array(np.zeros(count, dtype=np.int32)),
                "kafka_timestamp": stamps,
                "origin": pa.nulls(count, pa.string()),
                "first_sequence": pa.nulls(count, pa.int64()),
            }
        )
        day = (BEGIN.date() - BEGIN.date().replace(1970, 1, 1)).days
        file = write_file(committer.table, batch.cast(arrow_schema(committer.table.schema())), (day, "binance"))
        advanced = PartitionDelta((commit + 1) * count, received=count, stored=count)
        committer.commit(PendingCommit("0", committer.progress().of("0"), {partition: advanced}, [file]))


if __name__ == "__main__":
    main()
