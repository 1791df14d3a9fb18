"""A table of trades as the job leaves it, of any size, made by its own writer of files and its own commits."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.table import Table

from k2.iceberg.arrow_columns import arrow_schema
from k2.iceberg.catalog import open_catalog
from k2.iceberg.commit import Advance, Committer
from k2.iceberg.data_files import write_file
from k2.iceberg.tables import TableName, open_table
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.settings import Settings

__all__ = ["BEGIN", "EXCHANGES", "SYMBOLS", "Filling", "fill"]

BEGIN: Final = datetime(2024, 8, 9, tzinfo=UTC)
EXCHANGES: Final = ("binance", "coinbase")
SYMBOLS: Final = tuple(f"COIN{number:02d}-USD" for number in range(50))
"""Of each exchange."""
_HERE: Final = TopicPartition("trades", 0)
_DAY_US: Final = 86_400_000_000


def fill(settings: Settings, rows: int, commits: int, days: int = 1) -> Table:
    """Make the table `trades`, with so many rows in so many commits, even in time over some days."""
    filling = Filling(settings)
    for _ in range(commits):
        filling.commit(rows // commits, days, commits)
    return filling.table


class Filling:
    """The table `trades`, to which commits are added."""

    def __init__(self, settings: Settings) -> None:
        """Open or make it."""
        self._committer = Committer(open_table(open_catalog(settings), settings, TableName.TRADES))
        self._random = np.random.default_rng(7)
        self.count = 0
        """Of the commits that were added."""

    @property
    def table(self) -> Table:
        """The table as it is."""
        return self._committer.table

    def commit(self, rows: int, days: int, commits: int) -> None:
        """Add a commit, of the next part of some days that are divided into so many commits."""
        span_us = days * _DAY_US // commits
        first_us = int(BEGIN.timestamp() * 1_000_000) + self.count * span_us
        times = np.sort(self._random.integers(first_us, first_us + span_us, rows))
        offset = self.count * rows
        files = [
            write_file(self.table, piece, (day, exchange))
            for day, exchange, piece in _pieces(_batch(offset, times, self._random), self.table)
        ]
        move = PartitionProgress(offset + rows, received=rows, stored=rows)
        self._committer.commit(Advance("0", self._committer.progress().of("0"), {_HERE: move}, files))
        self.count += 1


def _batch(offset: int, times: NDArray[np.int64], random: np.random.Generator) -> pa.Table:
    n = len(times)
    numbers = np.arange(offset, offset + n)
    cents = random.integers(100, 10_000, n)
    prices = pa.array(cents, pa.int64()).cast(pa.decimal128(38, 0)).cast(pa.decimal128(38, 18))
    stamps = pa.array(times, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "exchange": pa.array(np.array(EXCHANGES)[random.integers(0, len(EXCHANGES), n)]),
            "symbol": pa.array(np.array(SYMBOLS)[random.integers(0, len(SYMBOLS), n)]),
            "trade_id": pa.array(numbers).cast(pa.string()),
            "sequence": pa.array(numbers),
            "session": pa.array(np.ones(n, dtype=np.int32)),
            "price": prices,
            "quantity": prices,
            "side": pa.array(np.array(["buy", "sell"])[random.integers(0, 2, n)]),
            "timestamp": stamps,
            "received": stamps,
            "topic": pa.repeat("trades", n),
            "partition": pa.array(np.zeros(n, dtype=np.int32)),
            "offset": pa.array(numbers),
            "index": pa.array(np.zeros(n, dtype=np.int32)),
            "kafka_timestamp": stamps,
        }
    )


def _pieces(batch: pa.Table, table: Table) -> Iterator[tuple[int, str, pa.Table]]:
    """Yield what goes into one file each: of a day and exchange, sorted by symbol and time."""
    days = batch["timestamp"].cast(pa.int64()).to_numpy() // _DAY_US
    names = np.array(batch["exchange"].to_pylist())
    for day in np.unique(days).tolist():
        for exchange in EXCHANGES:
            chosen = np.flatnonzero((days == day) & (names == exchange))
            if not len(chosen):
                continue
            piece = batch.take(chosen).sort_by([("symbol", "ascending"), ("timestamp", "ascending")])
            yield day, exchange, piece.cast(arrow_schema(table.schema()))
