"""Slices of trades for tests, made from plain rows: one trade in each message."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from k2.dedup.deduplicator import short_contents
from k2.dedup.trade_id_hash import TradeIdHasher
from k2.model.batch import NULL_TIME, MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.progress import TopicPartition
from k2.model.state_source import SeenIds
from k2.model.symbols import Symbols


class Row(NamedTuple):
    """One trade as the rules see it; times in microseconds."""

    sequence: int | None = None
    timestamp: int = 0
    symbol: str = "BTC-USD"
    exchange: str = "kraken"
    trade_id: str | None = None
    kafka_timestamp: int = NULL_TIME
    price: int = 1
    """Times 10**18, below 2**64."""
    quantity: int = 1
    """Likewise."""
    side: int = 0

    def __repr__(self) -> str:
        """Show only what is not the default, so that a long stream stays readable."""
        given = (f"{name}={value!r}" for name, value in self._asdict().items() if value != self._field_defaults[name])
        return f"Row({', '.join(given)})"


def slice_of(
    rows: Sequence[Row],
    *,
    topic: str = "trades",
    partition: int = 0,
    venue: str = "k2",
    first_offset: int = 0,
) -> TradeSlice:
    """Return a slice of all the rows, in a batch of their own, before any rule is applied."""
    count = len(rows)
    ids = [b"" if row.trade_id is None else row.trade_id.encode() for row in rows]
    sizes = np.array([len(trade_id) for trade_id in ids], dtype=np.int64)
    symbols = Symbols()
    columns = TradeColumns(
        symbols=np.array([symbols.intern(row.exchange, row.symbol) for row in rows], dtype=np.int32),
        names=symbols,
        sequences=np.array([row.sequence or 0 for row in rows], dtype=np.int64),
        has_sequence=np.array([row.sequence is not None for row in rows], dtype=np.bool_),
        prices=np.array([[row.price, 0] for row in rows], dtype=np.uint64).reshape(count, 2),
        quantities=np.array([[row.quantity, 0] for row in rows], dtype=np.uint64).reshape(count, 2),
        sides=np.array([row.side for row in rows], dtype=np.int8),
        timestamps=np.array([row.timestamp for row in rows], dtype=np.int64),
        received=np.zeros(count, dtype=np.int64),
        text=np.array(bytearray(b"".join(ids)), dtype=np.uint8),
        id_starts=np.cumsum(sizes) - sizes,
        id_sizes=np.where([row.trade_id is None for row in rows], -1, sizes).astype(np.int32),
        messages=np.arange(count, dtype=np.int32),
        indexes=np.zeros(count, dtype=np.int32),
    )
    kafka_timestamps = np.array([row.kafka_timestamp for row in rows], dtype=np.int64)
    source = messages_of(kafka_timestamps, topic, partition, venue, first_offset)
    return TradeSlice(
        TradeBatch(source, columns),
        group=0,
        rows=np.arange(count, dtype=np.int32),
        verdicts=np.zeros(count, dtype=np.uint8),
        sessions=np.zeros(count, dtype=np.int32),
    )


def _with_contents(columns: TradeColumns) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    identities = np.empty((len(columns), 3), dtype=np.int64)
    assert isinstance(columns.names, Symbols)
    hasher = TradeIdHasher(columns.names)
    identities[:, :2] = hasher.of(columns.text, columns.id_starts, columns.id_sizes, columns.symbols)
    identities[:, 2] = short_contents(columns.prices, columns.quantities, columns.sides)
    return identities


def seen_ids(rows: Sequence[Row], reached: int, partition: int = 0) -> SeenIds:
    """Return what a table of these rows says of one partition of topic `trades`."""
    columns = slice_of(rows).batch.columns
    return SeenIds(
        topic_partition=TopicPartition("trades", partition),
        reached=reached,
        symbols=columns.symbols,
        names=columns.names,
        id_hashes=_with_contents(columns),
        times=np.array([row.kafka_timestamp for row in rows], dtype=np.int64),
    )


def messages_of(
    kafka_timestamps: np.ndarray[tuple[int], np.dtype[np.int64]],
    topic: str,
    partition: int,
    venue: str,
    first_offset: int,
) -> MessageBatch:
    """Return a batch of messages without bytes, at consecutive offsets."""
    count = len(kafka_timestamps)
    return MessageBatch(
        topic=topic,
        partition=partition,
        venue=venue,
        first_offset=first_offset,
        next_offset=first_offset + count,
        offsets=np.arange(first_offset, first_offset + count, dtype=np.int64),
        kafka_timestamps=kafka_timestamps,
        data=np.zeros(0, dtype=np.uint8),
        value_starts=np.zeros(count, dtype=np.int64),
        value_sizes=np.zeros(count, dtype=np.int32),
        key_starts=np.zeros(count, dtype=np.int64),
        key_sizes=np.full(count, -1, dtype=np.int32),
    )
