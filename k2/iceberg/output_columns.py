"""Rows of many batches brought together as columns, so that no message is kept alive by its trades."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.compiled import compiled

__all__ = ["OutputColumns", "append_rows", "concat_text", "empty_columns", "id_bytes", "map_columns"]


class OutputColumns(NamedTuple):
    """Trades with where they came from, a column an array, each as long as the others."""

    symbols: NDArray[np.int32]
    """int32[n], numbers of `k2.model.symbols.SYMBOLS`."""
    sessions: NDArray[np.int32]
    sequences: NDArray[np.int64]
    """int64[n]; meaningless where `has_sequence` is false."""
    has_sequence: NDArray[np.bool_]
    prices: NDArray[np.uint64]
    """uint64[n, 2]: decimal(38, 18), low word first."""
    quantities: NDArray[np.uint64]
    sides: NDArray[np.int8]
    timestamps: NDArray[np.int64]
    """int64[n], microseconds since the epoch, UTC."""
    received: NDArray[np.int64]
    """int64[n], likewise; `NULL_TIME` where none."""
    kafka_timestamps: NDArray[np.int64]
    """int64[n], likewise."""
    places: NDArray[np.int32]
    """int32[n]: which of the holder's topic partitions."""
    offsets: NDArray[np.int64]
    indexes: NDArray[np.int32]
    id_starts: NDArray[np.int64]
    """int64[n], into the holder's text."""
    id_sizes: NDArray[np.int32]
    """int32[n], bytes; -1 where the trade has no id."""


def empty_columns(capacity: int) -> OutputColumns:
    """Return columns with room for `capacity` rows."""
    return OutputColumns(
        symbols=np.empty(capacity, np.int32),
        sessions=np.empty(capacity, np.int32),
        sequences=np.empty(capacity, np.int64),
        has_sequence=np.empty(capacity, np.bool_),
        prices=np.empty((capacity, 2), np.uint64),
        quantities=np.empty((capacity, 2), np.uint64),
        sides=np.empty(capacity, np.int8),
        timestamps=np.empty(capacity, np.int64),
        received=np.empty(capacity, np.int64),
        kafka_timestamps=np.empty(capacity, np.int64),
        places=np.empty(capacity, np.int32),
        offsets=np.empty(capacity, np.int64),
        indexes=np.empty(capacity, np.int32),
        id_starts=np.empty(capacity, np.int64),
        id_sizes=np.empty(capacity, np.int32),
    )


def map_columns(rows: OutputColumns, change: Callable[[NDArray[Any]], NDArray[Any]]) -> OutputColumns:
    """Return rows with the same done to each column."""
    return OutputColumns(*map(change, rows))  # type: ignore[arg-type]


def append_rows(
    target: OutputColumns,
    start: int,
    text: NDArray[np.uint8],
    text_start: int,
    piece: TradeSlice,
    picks: NDArray[np.int64],
    place: int,
) -> int:
    """Copy the picked rows of a slice behind row `start`; give where the text now ends.

    `picks` are places in the slice. The caller sees to it that rows and text have room.
    """
    columns, source = piece.batch.columns, piece.batch.source
    decoded = _Decoded(
        columns.symbols,
        columns.sequences,
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
    _copy_columns(target, start, decoded, piece.rows, piece.sessions, picks, place)
    ids = (columns.text, columns.id_starts, columns.id_sizes)
    return _copy_ids(target, start, text, text_start, *ids, piece.rows, picks)


class _Decoded(NamedTuple):
    symbols: NDArray[np.int32]
    sequences: NDArray[np.int64]
    has_sequence: NDArray[np.bool_]
    prices: NDArray[np.uint64]
    quantities: NDArray[np.uint64]
    sides: NDArray[np.int8]
    timestamps: NDArray[np.int64]
    received: NDArray[np.int64]
    messages: NDArray[np.int32]
    indexes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    """A message each, as `kafka_timestamps`."""
    kafka_timestamps: NDArray[np.int64]


@compiled
def _copy_columns(
    target: OutputColumns,
    start: int,
    source: _Decoded,
    rows: NDArray[np.int32],
    sessions: NDArray[np.int32],
    picks: NDArray[np.int64],
    place: int,
) -> None:
    """Copy the rows that int64[m] `picks` choose of a slice to `target` from row `start` on."""
    for at in range(len(picks)):
        pick, to = picks[at], start + at
        row = rows[pick]
        message = source.messages[row]
        target.symbols[to] = source.symbols[row]
        target.sessions[to] = sessions[pick]
        target.sequences[to] = source.sequences[row]
        target.has_sequence[to] = source.has_sequence[row]
        target.prices[to, 0] = source.prices[row, 0]
        target.prices[to, 1] = source.prices[row, 1]
        target.quantities[to, 0] = source.quantities[row, 0]
        target.quantities[to, 1] = source.quantities[row, 1]
        target.sides[to] = source.sides[row]
        target.timestamps[to] = source.timestamps[row]
        target.received[to] = source.received[row]
        target.kafka_timestamps[to] = source.kafka_timestamps[message]
        target.places[to] = place
        target.offsets[to] = source.offsets[message]
        target.indexes[to] = source.indexes[row]


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
    picks: NDArray[np.int64],
) -> int:
    """Copy the picked rows' ids behind `text_start`; give where they end."""
    end = text_start
    for at in range(len(picks)):
        row = rows[picks[at]]
        size, begin = source_sizes[row], source_starts[row]
        target.id_starts[start + at] = end
        target.id_sizes[start + at] = size
        for byte in range(size):
            text[end + byte] = source[begin + byte]
        end += max(size, 0)
    return end


def id_bytes(piece: TradeSlice, picks: NDArray[np.int64]) -> int:
    """Return how many bytes of text the ids of the picked rows take."""
    sizes = piece.batch.columns.id_sizes[piece.rows[picks]]
    return int(np.maximum(sizes, 0).sum(dtype=np.int64))


@compiled
def concat_text(
    text: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    ends: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> int:
    """Copy the rows' texts side by side into `out`; give their bytes.

    `ends` is int32[rows + 1] and gets what Arrow calls the offsets; a size of -1 takes no bytes.
    """
    end = 0
    ends[0] = 0
    for row in range(len(sizes)):
        size, begin = sizes[row], starts[row]
        for byte in range(size):
            out[end + byte] = text[begin + byte]
        end += max(size, 0)
        ends[row + 1] = end
    return end
