"""Rows as Arrow columns, in the order in which a file holds them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema

from k2.iceberg.output_columns import OutputColumns, concat_text, map_columns
from k2.iceberg.sort_order import SortKeys, counting_sort, sort_rows
from k2.model.batch import NULL_TIME
from k2.model.columns import TRADES, Column, ColumnType
from k2.model.progress import TopicPartition
from k2.model.symbols import SYMBOLS
from k2.model.trade import SIDES

__all__ = ["Share", "arrow_schema", "shares"]

DAY_US: Final = 86_400_000_000
_DICTIONARIES: Final = frozenset(
    column.name for column in TRADES if column.is_dictionary and column.type is ColumnType.STRING
)
_DECIMAL: Final = pa.decimal128(38, 18)
_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Share:
    """The rows that go to one file: those of one day and exchange."""

    day: int
    """Days since the epoch."""
    exchange: str
    rows: pa.Table


def arrow_schema(
    schema: Schema, columns: Sequence[Column] = TRADES, dictionaries: frozenset[str] = _DICTIONARIES
) -> pa.Schema:
    """Return the Arrow schema of the job's own columns of a table, with its field ids.

    Strings named in `dictionaries` become dictionaries. Columns that others added are left out, and so are null in the
    files that the job writes.
    """
    own = {column.name for column in columns}
    return pa.schema(
        field.with_type(_DICTIONARY if field.name in dictionaries else pa.string()) if _is_string(field.type) else field
        for field in schema_to_pyarrow(schema, include_field_ids=True)
        if field.name in own
    )


def _is_string(arrow_type: pa.DataType) -> bool:
    return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)


def shares(
    rows: OutputColumns, text: NDArray[np.uint8], places: Sequence[TopicPartition], schema: pa.Schema
) -> Iterator[Share]:
    """Cut rows by day and exchange; in each share they are sorted by symbol (its UTF-8), then venue time.

    Rows of one symbol and time are sorted by topic, partition, offset and index, so that the same
    rows make the same file whatever order they came in.
    """
    ranks, names = _ranks(rows.symbols)
    place_ranks, sorted_places = _place_ranks(rows.places, places)
    keys = SortKeys(rows.timestamps, place_ranks, rows.offsets, rows.indexes)
    order = sort_rows(ranks, len(names), keys)
    days, order = _by_day(rows.timestamps, order)
    columns = _columns(rows, text, order) | _place_columns(place_ranks[order], sorted_places)
    ranks = ranks[order]
    exchanges = [exchange for exchange, _ in names]
    for start, stop in _runs(days, np.array(_codes(exchanges), dtype=np.int32)[ranks]):
        low, high = int(ranks[start]), int(ranks[stop - 1]) + 1
        piece = {name: column.slice(start, stop - start) for name, column in columns.items()}
        piece["symbol"] = _dictionary(ranks[start:stop] - low, [symbol for _, symbol in names[low:high]])
        piece["exchange"] = _dictionary(np.zeros(stop - start, np.int32), [exchanges[low]])
        yield Share(int(days[start]), exchanges[low], pa.table([piece[name] for name in schema.names], schema=schema))


def _ranks(symbols: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[tuple[str, str]]]:
    """Return each row's rank by exchange and symbol, as UTF-8 sorts them, and the names by rank."""
    present = np.flatnonzero(np.bincount(symbols))
    # Code points sort as their UTF-8 does.
    ranked = sorted((SYMBOLS.name(int(number)), int(number)) for number in present)
    ranks = np.zeros(int(present[-1]) + 1, dtype=np.int32)
    ranks[[number for _, number in ranked]] = np.arange(len(ranked), dtype=np.int32)
    return ranks[symbols], [name for name, _ in ranked]


def _place_ranks(
    codes: NDArray[np.int32], places: Sequence[TopicPartition]
) -> tuple[NDArray[np.int32], list[TopicPartition]]:
    order = sorted(range(len(places)), key=places.__getitem__)
    ranks = np.empty(len(places), dtype=np.int32)
    ranks[order] = np.arange(len(places), dtype=np.int32)
    return ranks[codes], [places[code] for code in order]


def _by_day(timestamps: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bring the rows of each day together, else in their order; give the days of the rows in that order."""
    days = timestamps // DAY_US
    if days.min() == days.max():
        return days, order
    _, codes = np.unique(days, return_inverse=True)
    by_day = np.empty_like(order)
    counting_sort(codes.astype(np.int32), int(codes.max()) + 1, order, by_day)
    return days[by_day], by_day


def _codes(names: list[str]) -> list[int]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def _runs(days: NDArray[np.int64], exchanges: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    changes = np.flatnonzero((days[1:] != days[:-1]) | (exchanges[1:] != exchanges[:-1])) + 1
    bounds = [0, *changes.tolist(), len(days)]
    yield from pairwise(bounds)


def _columns(rows: OutputColumns, text: NDArray[np.uint8], order: NDArray[np.int64]) -> "dict[str, pa.Array[Any]]":
    # `take` brings a column of two words into order eight times as fast as indexing does.
    taken = map_columns(rows, lambda column: np.take(column, order, axis=0))
    return {
        "trade_id": _ids(taken, text),
        "sequence": _plain(taken.sequences, pa.int64(), taken.has_sequence),
        "session": _plain(taken.sessions, pa.int32()),
        "price": _plain(taken.prices, _DECIMAL),
        "quantity": _plain(taken.quantities, _DECIMAL),
        "side": _sides(taken.sides),
        "timestamp": _plain(taken.timestamps, _TIME),
        "received": _times(taken.received),
        "offset": _plain(taken.offsets, pa.int64()),
        "index": _plain(taken.indexes, pa.int32()),
        "kafka_timestamp": _times(taken.kafka_timestamps),
        "origin": pa.nulls(len(order), _DICTIONARY),
    }


def _place_columns(ranks: NDArray[np.int32], places: Sequence[TopicPartition]) -> "dict[str, pa.Array[Any]]":
    topics = list(dict.fromkeys(place.topic for place in places))
    topic_codes = np.array([topics.index(place.topic) for place in places], dtype=np.int32)
    partitions = np.array([place.partition for place in places], dtype=np.int32)
    return {"topic": _dictionary(topic_codes[ranks], topics), "partition": _plain(partitions[ranks], pa.int32())}


def _plain(values: NDArray[Any], arrow_type: pa.DataType, valid: NDArray[np.bool_] | None = None) -> "pa.Array[Any]":
    """Wrap an array, without a copy, as a column."""
    bitmap, nulls = _bitmap(valid)
    return pa.Array.from_buffers(arrow_type, len(values), [bitmap, _buffer(values)], nulls)


def _buffer(values: NDArray[Any]) -> pa.Buffer:
    # The stubs do not know that an array is a buffer.
    return pa.py_buffer(values)  # type: ignore[arg-type]


def _times(values: NDArray[np.int64]) -> "pa.Array[Any]":
    return _plain(values, _TIME, values != NULL_TIME)


def _bitmap(valid: NDArray[np.bool_] | None) -> tuple[pa.Buffer | None, int]:
    if valid is None or valid.all():
        return None, 0
    bits = np.packbits(valid, bitorder="little")
    return _buffer(bits), int(len(valid) - np.count_nonzero(valid))


def _dictionary(codes: NDArray[np.int32], names: list[str]) -> "pa.Array[Any]":
    return pa.DictionaryArray.from_arrays(_plain(codes, pa.int32()), pa.array(names, pa.string()), safe=False)


def _sides(sides: NDArray[np.int8]) -> "pa.Array[Any]":
    codes = _plain(sides.astype(np.int32) - 1, pa.int32(), sides > 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(SIDES[1:], pa.string()), safe=False)


def _ids(rows: OutputColumns, text: NDArray[np.uint8]) -> "pa.Array[Any]":
    ends = np.empty(len(rows.id_sizes) + 1, dtype=np.int32)
    data = np.empty(int(np.maximum(rows.id_sizes, 0).sum(dtype=np.int64)), dtype=np.uint8)
    concat_text(text, rows.id_starts, rows.id_sizes, ends, data)
    bitmap, nulls = _bitmap(rows.id_sizes >= 0)
    buffers = [bitmap, _buffer(ends), _buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(rows.id_sizes), buffers, nulls)
