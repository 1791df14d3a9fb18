"""Output columns: rows of many batches copied into columns, so that trades do not keep their messages alive."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.compiled import compiled
from k2.model.words_compiled import copy_bytes

__all__ = ["OutputColumns", "append_rows", "empty_columns", "id_bytes", "map_columns"]


class OutputColumns(NamedTuple):
    """Trades with their Kafka coordinates: one array for each column, all of length n."""

    symbols: NDArray[np.int32]
    """int32[n], symbol ids of the buffer's registry."""
    sessions: NDArray[np.int32]
    sequences: NDArray[np.int64]
    """int64[n]; undefined where `has_sequence` is false."""
    first_sequences: NDArray[np.int64]
    """int64[n], the first of the numbers that end with `sequences`."""
    has_sequence: NDArray[np.bool_]
    prices: NDArray[np.uint64]
    """uint64[n, 2]: decimal(38, 18), low word first."""
    quantities: NDArray[np.uint64]
    sides: NDArray[np.int8]
    timestamps: NDArray[np.int64]
    """int64[n], microseconds since the epoch, UTC."""
    received: NDArray[np.int64]
    """int64[n], microseconds since the epoch, UTC; `NULL_TIME` if the trade has none."""
    kafka_timestamps: NDArray[np.int64]
    """int64[n], microseconds since the epoch, UTC; `NULL_TIME` if the message has none."""
    topic_partitions: NDArray[np.int32]
    """int32[n], indexes into the buffer's list of topic partitions."""
    offsets: NDArray[np.int64]
    indexes: NDArray[np.int32]
    origins: NDArray[np.int32]
    """int32[n], indexes into the buffer's list of origins; -1 for a trade of the live feed."""
    id_starts: NDArray[np.int64]
    """int64[n], start of each trade id in the buffer's text."""
    id_sizes: NDArray[np.int32]
    """int32[n], bytes; -1 if the trade has no id."""


def empty_columns(capacity: int) -> OutputColumns:
    """Return uninitialised columns for `capacity` rows."""
    return OutputColumns(
        symbols=np.empty(capacity, np.int32),
        sessions=np.empty(capacity, np.int32),
        sequences=np.empty(capacity, np.int64),
        first_sequences=np.empty(capacity, np.int64),
        has_sequence=np.empty(capacity, np.bool_),
        prices=np.empty((capacity, 2), np.uint64),
        quantities=np.empty((capacity, 2), np.uint64),
        sides=np.empty(capacity, np.int8),
        timestamps=np.empty(capacity, np.int64),
        received=np.empty(capacity, np.int64),
        kafka_timestamps=np.empty(capacity, np.int64),
        topic_partitions=np.empty(capacity, np.int32),
        offsets=np.empty(capacity, np.int64),
        indexes=np.empty(capacity, np.int32),
        origins=np.empty(capacity, np.int32),
        id_starts=np.empty(capacity, np.int64),
        id_sizes=np.empty(capacity, np.int32),
    )


def map_columns(columns: OutputColumns, function: Callable[[NDArray[Any]], NDArray[Any]]) -> OutputColumns:
    """Return columns with `function` applied to each of them."""
    return OutputColumns(*map(function, columns))  # type: ignore[arg-type]


def append_rows(
    target: OutputColumns,
    start: int,
    text: NDArray[np.uint8],
    text_start: int,
    trade_slice: TradeSlice,
    slice_indices: NDArray[np.int64],
    topic_partition: int,
) -> int:
    """Copy the selected rows of a slice into `target` from row `start` on; return the new end of the text.

    `slice_indices` is int64[m], indexes into the slice. `target` and `text` must have enough capacity.
    """
    columns, source = trade_slice.batch.columns, trade_slice.batch.source
    decoded = _Decoded(
        columns.symbols,
        columns.sequences,
        columns.first_sequences,
        columns.has_sequence,
        columns.prices,
        columns.quantities,
        columns.sides,
        columns.timestamps,
        columns.received,
        columns.messages,
        columns.indexes,
        source.offsets,
        source.kafka_timestamps,
    )
    _copy_columns(target, start, decoded, trade_slice.rows, trade_slice.sessions, slice_indices, topic_partition)
    ids = (columns.text, columns.id_starts, columns.id_sizes)
    return _copy_ids(target, start, text, text_start, *ids, trade_slice.rows, slice_indices)


class _Decoded(NamedTuple):
    symbols: NDArray[np.int32]
    sequences: NDArray[np.int64]
    first_sequences: NDArray[np.int64]
    has_sequence: NDArray[np.bool_]
    prices: NDArray[np.uint64]
    quantities: NDArray[np.uint64]
    sides: NDArray[np.int8]
    timestamps: NDArray[np.int64]
    received: NDArray[np.int64]
    messages: NDArray[np.int32]
    indexes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    """int64[messages], by message, not by row."""
    kafka_timestamps: NDArray[np.int64]
    """int64[messages]."""


@compiled
def _copy_columns(
    target: OutputColumns,
    start: int,
    source: _Decoded,
    rows: NDArray[np.int32],
    sessions: NDArray[np.int32],
    slice_indices: NDArray[np.int64],
    topic_partition: int,
) -> None:
    """Copy the rows at int64[m] `slice_indices` of a slice to `target` from row `start` on."""
    for at in range(len(slice_indices)):
        idx, to = slice_indices[at], start + at
        row = rows[idx]
        message = source.messages[row]
        target.symbols[to] = source.symbols[row]
        target.sessions[to] = sessions[idx]
        target.sequences[to] = source.sequences[row]
        target.first_sequences[to] = source.first_sequences[row]
        target.has_sequence[to] = source.has_sequence[row]
        target.prices[to, 0] = source.prices[row, 0]
        target.prices[to, 1] = source.prices[row, 1]
        target.quantities[to, 0] = source.quantities[row, 0]
        target.quantities[to, 1] = source.quantities[row, 1]
        target.sides[to] = source.sides[row]
        target.timestamps[to] = source.timestamps[row]
        target.received[to] = source.received[row]
        target.kafka_timestamps[to] = source.kafka_timestamps[message]
        target.topic_partitions[to] = topic_partition
        target.offsets[to] = source.offsets[message]
        target.indexes[to] = source.indexes[row]
        target.origins[to] = -1


@compiled
def _copy_ids(
    target: OutputColumns,
    start: int,
    text: NDArray[np.uint8],
    text_start: int,
    source: NDArray[np.uint8],
    source_starts: NDArray[np.int64],
    source_sizes: NDArray[np.int32],
    rows: NDArray[np.int32],
    slice_indices: NDArray[np.int64],
) -> int:
    """Copy the selected rows' ids into the text from `text_start` on; return where they end."""
    end = np.uint64(text_start)
    for at in range(len(slice_indices)):
        row = rows[slice_indices[at]]
        size = source_sizes[row]
        target.id_starts[start + at] = end
        target.id_sizes[start + at] = size
        if size > 0:
            copy_bytes(source, np.uint64(source_starts[row]), text, end, np.uint64(size))
            end += np.uint64(size)
    return int(end)


def id_bytes(trade_slice: TradeSlice, slice_indices: NDArray[np.int64]) -> int:
    """Return the total size of the selected rows' ids, in bytes; `slice_indices` are indexes into the slice."""
    sizes = trade_slice.batch.columns.id_sizes[trade_slice.rows[slice_indices]]
    return int(np.maximum(sizes, 0).sum(dtype=np.int64))
