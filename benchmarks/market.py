"""Trades table of any size, written like a table of the job: with its data file writer and its commits."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.manifest import DATA_FILE_TYPE, DataFile
from pyiceberg.table import Table

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.commit import Committer
from k2.iceberg.data_files import write_file
from k2.iceberg.pending_commit import PendingCommit
from k2.iceberg.tables import TableName, open_table
from k2.model.progress import PartitionDelta, TopicPartition
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog

__all__ = ["BEGIN", "EXCHANGES", "SYMBOLS", "Filling", "fill"]

BEGIN: Final = datetime(2024, 8, 9, tzinfo=UTC)
EXCHANGES: Final = ("binance", "coinbase")
SYMBOLS: Final = tuple(f"COIN{number:02d}-USD" for number in range(50))
"""Symbols of each exchange."""
_TOPIC_PARTITION: Final = TopicPartition("trades", 0)
_DAY_US: Final = 86_400_000_000


def fill(settings: Settings, rows: int, commits: int, days: int = 1) -> Table:
    """Create the table `trades` with `rows` rows in `commits` commits, evenly distributed over `days` days."""
    filling = Filling(settings)
    for _ in range(commits):
        filling.commit(rows // commits, days, commits)
    return filling.table


class Filling:
    """Table `trades` to which commits are added."""

    def __init__(self, settings: Settings, *, is_numbered: bool = True) -> None:
        """Open the table, or create it; trades that are not numbered have an id only."""
        self._committer = Committer(open_table(open_catalog(settings), settings, TableName.TRADES))
        self._random = np.random.default_rng(7)
        self._is_numbered = is_numbered
        self.count = 0
        """Number of commits that were added."""
        known = self._committer.progress().of("0").get(_TOPIC_PARTITION)
        self._offset = 0 if known is None else known.offset
        self._files: list[DataFile] = []
        """Those of the last commit with rows."""
        self._next_numbers = np.ones(len(EXCHANGES) * len(SYMBOLS), dtype=np.int64)

    @property
    def table(self) -> Table:
        """The table after the last commit."""
        return self._committer.table

    def commit(self, rows: int, days: int, commits: int) -> None:
        """Commit rows of the next time span, if `days` days are divided into `commits` equal spans."""
        span_us = days * _DAY_US // commits
        first_us = int(BEGIN.timestamp() * 1_000_000) + self.count * span_us
        times = np.sort(self._random.integers(first_us, first_us + span_us, rows))
        self._files = [
            write_file(self.table, partition_rows, (day, exchange))
            for day, exchange, partition_rows in _partitions(self._batch(self._offset, times), self.table)
        ]
        self._commit(self._files, rows)

    def commit_names_only(self) -> None:
        """Commit entries like those of the last commit with rows, of files that do not exist."""
        files = [_renamed(file, f"{file.file_path}.{self.count}") for file in self._files]
        self._commit(files, sum(file.record_count for file in files))

    def _commit(self, files: list[DataFile], rows: int) -> None:
        self._offset += rows
        advanced = PartitionDelta(self._offset, received=rows, stored=rows)
        self._committer.commit(
            PendingCommit("0", self._committer.progress().of("0"), {_TOPIC_PARTITION: advanced}, files)
        )
        self.count += 1

    def _batch(self, offset: int, times: NDArray[np.int64]) -> pa.Table:
        count, random = len(times), self._random
        offsets = np.arange(offset, offset + count)
        cents = random.integers(100, 10_000, count)
        prices = pa.array(cents, pa.int64()).cast(pa.decimal128(38, 0)).cast(pa.decimal128(38, 18))
        stamps = pa.array(times, pa.timestamp("us", tz="UTC"))
        names = random.integers(0, len(self._next_numbers), count)
        numbers = pa.array(self._number(names))
        return pa.table(
            {
                "exchange": pa.array(np.array(EXCHANGES)[names // len(SYMBOLS)]),
                "symbol": pa.array(np.array(SYMBOLS)[names % len(SYMBOLS)]),
                "trade_id": numbers.cast(pa.string()),
                "sequence": numbers if self._is_numbered else pa.nulls(count, pa.int64()),
                "session": pa.array(np.full(count, self._is_numbered, dtype=np.int32)),
                "price": prices,
                "quantity": prices,
                "side": pa.array(np.array(["buy", "sell"])[random.integers(0, 2, count)]),
                "timestamp": stamps,
                "received": stamps,
                "topic": pa.repeat("trades", count),
                "partition": pa.array(np.zeros(count, dtype=np.int32)),
                "offset": pa.array(offsets),
                "index": pa.array(np.zeros(count, dtype=np.int32)),
                "kafka_timestamp": stamps,
                "origin": pa.nulls(count, pa.string()),
                "first_sequence": pa.nulls(count, pa.int64()),
            }
        )

    def _number(self, names: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of trades of these symbols, int64[n] each, without a gap, and count them."""
        order = np.argsort(names, kind="stable")
        counts = np.bincount(names, minlength=len(self._next_numbers))
        numbers = np.empty(len(names), dtype=np.int64)
        numbers[order] = np.arange(len(names)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers += self._next_numbers[names]
        self._next_numbers += counts
        return numbers


def _renamed(file: DataFile, path: str) -> DataFile:
    names = [field.name for field in DATA_FILE_TYPE[2].fields]
    values = {name: getattr(file, name) for name in names if hasattr(file, name)}
    renamed = DataFile.from_args(2, **values | {"file_path": path})
    renamed.spec_id = file.spec_id
    return renamed


def _partitions(batch: pa.Table, table: Table) -> Iterator[tuple[int, str, pa.Table]]:
    """Yield the rows of each table partition (day, exchange), sorted by symbol and time."""
    days = batch["timestamp"].cast(pa.int64()).to_numpy() // _DAY_US
    names = np.array(batch["exchange"].to_pylist())
    for day in np.unique(days).tolist():
        for exchange in EXCHANGES:
            selected = np.flatnonzero((days == day) & (names == exchange))
            if not len(selected):
                continue
            partition_rows = batch.take(selected).sort_by([("symbol", "ascending"), ("timestamp", "ascending")])
            yield day, exchange, partition_rows.cast(arrow_schema(table.schema()))
