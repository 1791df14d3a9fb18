"""Slices of trades for tests, made from plain rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from k2.dedup.deduplicator import short_fingerprints
from k2.dedup.trade_id_hash import KEY_BYTES, TradeIdHasher
from k2.model.batch import NULL_TIME, MessageBatch, TradeBatch, TradeColumns, TradeSlice
from k2.model.progress import TopicPartition
from k2.model.state_source import StoredIds
from k2.model.symbols import Symbols
from k2.model.trade import Trade
from k2.model.verdicts import STORED


class Row(NamedTuple):
    """One trade as the rules and the writer see it; times in microseconds."""

    sequence: int | None = None
    timestamp: int = 0
    symbol: str = "BTC-USD"
    exchange: str = "kraken"
    trade_id: str | None = None
    kafka_timestamp: int = NULL_TIME
    price: int = 1
    """Times 10**18."""
    quantity: int = 1
    """Likewise."""
    side: int = 0
    received: int | None = None
    offset: int | None = None
    """None: in a message of its own, where `slice_of` places it."""
    trade_index: int = 0
    """In its message."""
    verdict: int = STORED
    first_sequence: int | None = None
    """The first of the numbers that end with `sequence`, if there are several."""

    def __repr__(self) -> str:
        """Show only what is not the default, so that a long stream stays readable."""
        given = (f"{name}={value!r}" for name, value in self._asdict().items() if value != self._field_defaults[name])
        return f"Row({', '.join(given)})"

    def trade(self) -> Trade:
        """Return the trade that a venue's decoder would return."""
        return Trade(
            self.exchange,
            self.symbol,
            self.trade_id,
            self.sequence,
            self.price,
            self.quantity,
            self.side,
            self.timestamp,
            self.received,
            first_sequence=self.first_sequence,
        )


def slice_of(
    rows: Sequence[Row],
    *,
    topic: str = "trades",
    partition: int = 0,
    venue: str = "k2",
    first_offset: int = 0,
    session: int = 0,
) -> TradeSlice:
    """Return a slice of all the rows, in a batch of their own, before any rule is applied unless a row says otherwise.

    A row without an offset is in a message of its own, at `first_offset` plus its place. Offsets must not decrease.
    """
    row_offsets = [first_offset + place if row.offset is None else row.offset for place, row in enumerate(rows)]
    offsets, first_rows, messages = np.unique(
        np.array(row_offsets, dtype=np.int64), return_index=True, return_inverse=True
    )
    kafka_timestamps = np.array([row.kafka_timestamp for row in rows], dtype=np.int64)
    columns = TradeColumns.from_trades(
        [row.trade() for row in rows], messages.tolist(), [row.trade_index for row in rows], Symbols()
    )
    return TradeSlice(
        TradeBatch(_messages(offsets, kafka_timestamps[first_rows], topic, partition, venue, first_offset), columns),
        group=0,
        rows=np.arange(len(rows), dtype=np.int32),
        verdicts=np.array([row.verdict for row in rows], dtype=np.uint8),
        sessions=np.full(len(rows), session, dtype=np.int32),
    )


def _id_keys_of(columns: TradeColumns) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    id_keys = np.empty((len(columns), 3), dtype=np.int64)
    assert isinstance(columns.names, Symbols)
    hasher = TradeIdHasher(columns.names, bytes(KEY_BYTES))
    id_keys[:, :2] = hasher.of(columns.text, columns.id_starts, columns.id_sizes, columns.symbols)
    id_keys[:, 2] = short_fingerprints(columns.prices, columns.quantities, columns.sides)
    return id_keys


def stored_ids(rows: Sequence[Row], reached: int, partition: int = 0) -> StoredIds:
    """Return what a table of these rows says of one partition of topic `trades`."""
    columns = slice_of(rows).batch.columns
    return StoredIds(
        topic_partition=TopicPartition("trades", partition),
        reached=reached,
        symbols=columns.symbols,
        names=columns.names,
        id_keys=_id_keys_of(columns),
        times=np.array([row.kafka_timestamp for row in rows], dtype=np.int64),
    )


def _messages(
    offsets: np.ndarray[tuple[int], np.dtype[np.int64]],
    kafka_timestamps: np.ndarray[tuple[int], np.dtype[np.int64]],
    topic: str,
    partition: int,
    venue: str,
    first_offset: int,
) -> MessageBatch:
    """Return a batch of messages without bytes."""
    count = len(offsets)
    return MessageBatch(
        topic=topic,
        partition=partition,
        venue=venue,
        first_offset=int(offsets[0]) if count else first_offset,
        next_offset=int(offsets[-1]) + 1 if count else first_offset,
        offsets=offsets,
        kafka_timestamps=kafka_timestamps,
        data=np.zeros(0, dtype=np.uint8),
        value_starts=np.zeros(count, dtype=np.int64),
        value_sizes=np.zeros(count, dtype=np.int32),
        key_starts=np.zeros(count, dtype=np.int64),
        key_sizes=np.full(count, -1, dtype=np.int32),
    )
