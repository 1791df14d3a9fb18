"""Table `trades` written as the job writes it, with rows that a test chooses, and read back."""

import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
from pyiceberg.table import Table

from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.iceberg.trades_writer import Lag, OnCommit, TradesWriter
from k2.model.consumed import Consumed
from k2.ops.settings import Settings, read_settings
from k2.storage.dead_letters.folders import dead_letter_log
from k2.storage.dead_letters.queue import DeadLetterQueue
from tests.model.dead_letters import dead_letter
from tests.model.trade_slices import Row

DAY = 86_400_000_000
SCALE = 10**18
_FILLED: Final = {
    "trade_id": "id",
    "sequence": 1,
    "price": SCALE,
    "quantity": SCALE,
    "side": 1,
    "timestamp": 20_000 * DAY,
}


def row_at(offset: int, **values: Any) -> Row:
    """Return a trade with a value in each column that every venue fills, in the message at this offset."""
    return Row(offset=offset, **{**_FILLED, **values})


def read_to(
    next_offset: int, partition: int = 0, rejected: Sequence[int] = (), skipped: Sequence[int] = ()
) -> Consumed:
    """Report that a partition was read up to an offset."""
    return Consumed(
        "trades",
        partition,
        0,
        next_offset,
        tuple(dead_letter(offset, partition=partition) for offset in rejected),
        np.array(skipped, dtype=np.int64),
    )


def settings_in(folder: Path, **values: Any) -> Settings:
    """Return settings of a job that keeps all files in one folder."""
    return read_settings({}, data_dir=folder, **values)


def writer_of(
    settings: Settings,
    writer: str = "0",
    on_commit: OnCommit | None = None,
    flush_rows: int = 300_000,
    lag: Lag | None = None,
) -> TradesWriter:
    """Return an opened writer, as in a process of its own."""
    handle = TableHandle(settings, TableName.TRADES, None)
    progress = handle.committer().progress().of(writer)
    return TradesWriter(writer, handle, progress, dlq_of(settings), on_commit, flush_rows, lag=lag)


def dlq_of(settings: Settings) -> DeadLetterQueue:
    """Return a dead-letter writer with a series that no other writer of the test has."""
    return DeadLetterQueue(dead_letter_log(settings, f"{uuid.uuid4().hex}-", {}))


def rows_of(table: Table) -> list[dict[str, Any]]:
    """Return all rows of the table, sorted by topic, partition, offset and index."""
    rows: list[dict[str, Any]] = table.refresh().scan().to_arrow().to_pylist()
    return sorted(rows, key=lambda row: (row["topic"], row["partition"], row["offset"], row["index"]))


def offsets_of(table: Table) -> list[int]:
    """Return the offsets of all rows."""
    return [row["offset"] for row in rows_of(table)]


def decimal_of(value: int) -> Decimal:
    """Return the exact decimal whose mantissa at scale 18 is `value`."""
    return Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -18))
