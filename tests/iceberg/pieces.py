"""Slices of trades with every column of the table, made from plain rows; and the table read back."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from pyiceberg.table import Table

from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.iceberg.trades_writer import OnCommit, TradesWriter
from k2.model.batch import NULL_TIME, MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.consumed import Consumed
from k2.model.dead_letter import DeadLetter
from k2.model.reasons import Reason
from k2.model.symbols import Symbols
from k2.model.verdicts import STORED
from k2.ops.settings import Settings, read_settings
from k2.storage.dead_letters import DeadLetterQueue

DAY = 86_400_000_000
SCALE = 10**18
WORD = 2**64


@dataclass(frozen=True)
class Row:
    """One trade in a message of its own."""

    offset: int
    symbol: str = "BTC-USD"
    exchange: str = "kraken"
    trade_id: str | None = "id"
    sequence: int | None = 1
    price: int = SCALE
    """Times 10**18."""
    quantity: int = SCALE
    side: int = 1
    timestamp: int = 20_000 * DAY
    received: int = NULL_TIME
    kafka_timestamp: int = NULL_TIME
    index: int = 0
    verdict: int = STORED

    @property
    def place(self) -> tuple[int, int]:
        """The key of the row in its topic partition."""
        return self.offset, self.index


def words(values: Sequence[int]) -> Any:
    """Return int128 values as uint64[n, 2]: two's complement, low word first."""
    pairs = [(value % WORD, (value >> 64) % WORD) for value in values]
    return np.array(pairs, dtype=np.uint64).reshape(len(values), 2)


def piece_of(rows: Sequence[Row], partition: int = 0, topic: str = "trades", session: int = 0) -> TradeSlice:
    """Return a slice of the rows, whose offsets must not decrease."""
    ids = [b"" if row.trade_id is None else row.trade_id.encode() for row in rows]
    sizes = np.array([len(text) for text in ids], dtype=np.int64)
    data = np.frombuffer(b"".join(ids), dtype=np.uint8)
    offsets = sorted({row.offset for row in rows})
    count = len(offsets)
    kafka = {row.offset: row.kafka_timestamp for row in rows}
    source = MessageBatch(
        topic=topic,
        partition=partition,
        venue="k2",
        first_offset=offsets[0],
        next_offset=offsets[-1] + 1,
        offsets=np.array(offsets, dtype=np.int64),
        kafka_timestamps=np.array([kafka[offset] for offset in offsets], dtype=np.int64),
        data=data,
        value_starts=np.zeros(count, dtype=np.int64),
        value_sizes=np.zeros(count, dtype=np.int32),
        key_starts=np.zeros(count, dtype=np.int64),
        key_sizes=np.full(count, -1, dtype=np.int32),
    )
    symbols = Symbols()
    columns = TradeColumns(
        symbols=np.array([symbols.intern(row.exchange, row.symbol) for row in rows], dtype=np.int32),
        names=symbols,
        sequences=np.array([row.sequence or 0 for row in rows], dtype=np.int64),
        has_sequence=np.array([row.sequence is not None for row in rows], dtype=np.bool_),
        prices=words([row.price for row in rows]),
        quantities=words([row.quantity for row in rows]),
        sides=np.array([row.side for row in rows], dtype=np.int8),
        timestamps=np.array([row.timestamp for row in rows], dtype=np.int64),
        received=np.array([row.received for row in rows], dtype=np.int64),
        text=data,
        id_starts=np.cumsum(sizes) - sizes,
        id_sizes=np.where([row.trade_id is None for row in rows], -1, sizes).astype(np.int32),
        messages=np.array([offsets.index(row.offset) for row in rows], dtype=np.int32),
        indexes=np.array([row.index for row in rows], dtype=np.int32),
    )
    return TradeSlice(
        TradeBatch(source, columns),
        group=0,
        rows=np.arange(len(rows), dtype=np.int32),
        verdicts=np.array([row.verdict for row in rows], dtype=np.uint8),
        sessions=np.full(len(rows), session, dtype=np.int32),
    )


def read_to(
    next_offset: int, partition: int = 0, rejected: Sequence[int] = (), skipped: Sequence[int] = ()
) -> Consumed:
    """Report that a partition was read up to an offset."""
    return Consumed(
        "trades",
        partition,
        0,
        next_offset,
        tuple(letter(partition, offset) for offset in rejected),
        np.array(skipped, dtype=np.int64),
    )


def letter(partition: int, offset: int) -> DeadLetter:
    """Return an unreadable message."""
    return DeadLetter(
        topic="trades",
        partition=partition,
        offset=offset,
        kafka_timestamp=None,
        key=None,
        value="{",
        reason=Reason.MALFORMED,
        error="not JSON",
        error_type="ValueError",
        venue="k2",
    )


def settings_in(folder: Path, **values: Any) -> Settings:
    """Return settings of a job that keeps all files in one folder."""
    return read_settings({}, data_dir=folder, **values)


def writer_of(
    settings: Settings, writer: str = "0", on_commit: OnCommit | None = None, flush_rows: int = 300_000
) -> TradesWriter:
    """Return an opened writer, as in a process of its own."""
    handle = TableHandle(settings, TableName.TRADES, None)
    progress = handle.committer().progress().of(writer)
    return TradesWriter(writer, handle, progress, dlq_of(settings), on_commit, flush_rows)


def dlq_of(settings: Settings) -> DeadLetterQueue:
    """Return a dead-letter writer with a series that no other writer of the test has."""
    return DeadLetterQueue(settings.dead_letter_folder, f"{uuid.uuid4().hex}-", {}, settings.dlq_file_bytes_max)


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
