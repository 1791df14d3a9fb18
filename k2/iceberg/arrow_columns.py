"""Convert output columns to Arrow tables, one for each file, in the file's sort order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema

from k2.iceberg.data_files import ROW_GROUP_ROWS
from k2.iceberg.output_columns import OutputColumns, map_columns
from k2.iceberg.sort_order import SortKeys, counting_sort, sort_rows
from k2.model.batch import NULL_TIME
from k2.model.columns import TRADES, Column, ColumnType
from k2.model.progress import TopicPartition
from k2.model.symbol_names import SymbolNames
from k2.model.times import DAY_US
from k2.model.trade import SIDES
from k2.model.words_compiled import compact

__all__ = ["FileRows", "Sources", "SymbolOrder", "arrow_schema", "split_by_file"]

_DICTIONARIES: Final = frozenset(
    column.name for column in TRADES if column.is_dictionary and column.type is ColumnType.STRING
)
_DECIMAL: Final = pa.decimal128(38, 18)
_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class FileRows:
    """The rows of one file: those of one day and exchange."""

    day: int
    """Days since the epoch."""
    exchange: str
    parts: Callable[[], Iterator[pa.Table]]
    """Yields the sorted rows, `ROW_GROUP_ROWS` at a time, each of which is made when it is asked for; a failed write
    calls it again. The columns that they come from must not change until then."""


class Sources(NamedTuple):
    """The names to which the columns `topic_partitions` and `origins` of output columns are indexes."""

    topic_partitions: Sequence[TopicPartition]
    origins: Sequence[str] = ()


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


class SymbolOrder:
    """The order of a registry's symbols by exchange and symbol, in UTF-8; sorted again only when symbols are added."""

    def __init__(self, names: SymbolNames) -> None:
        self._names = names
        self._places: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        """int64[symbols]: the place of each symbol id among all."""

    def ranks(self, symbols: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[tuple[str, str]]]:
        """Return int32[n]: the rank of each of int32[n] `symbols` among those that occur, and the names by rank."""
        present = np.flatnonzero(np.bincount(symbols))
        if present[-1] >= len(self._places):
            # Strings sort by code point, which is the order of their UTF-8.
            in_order = sorted(range(int(present[-1]) + 1), key=self._names.name)
            self._places = np.empty(len(in_order), dtype=np.int64)
            self._places[in_order] = np.arange(len(in_order))
        ranked = present[np.argsort(self._places[present])]
        ranks = np.zeros(int(present[-1]) + 1, dtype=np.int32)
        ranks[ranked] = np.arange(len(ranked), dtype=np.int32)
        return ranks[symbols], [self._names.name(symbol_id) for symbol_id in ranked.tolist()]


def split_by_file(
    rows: OutputColumns,
    text: NDArray[np.uint8],
    sources: Sources,
    schema: pa.Schema,
    symbol_order: SymbolOrder,
) -> Iterator[FileRows]:
    """Split rows by day and exchange; within each file, sort them by symbol (its UTF-8), then venue time.

    Rows of one symbol and time are sorted by topic, partition, offset and index, so that the same
    rows produce the same file whatever order they arrived in.
    """
    ranks, names = symbol_order.ranks(rows.symbols)
    partition_ranks, sorted_partitions = _partition_ranks(rows.topic_partitions, sources.topic_partitions)
    keys = SortKeys(rows.timestamps, partition_ranks, rows.offsets, rows.indexes)
    days, order = _by_day(rows.timestamps, sort_rows(ranks, len(names), keys))
    exchanges = np.array(_codes([exchange for exchange, _ in names]), dtype=np.int32)
    unsorted = _Unsorted(rows, text, ranks, names, partition_ranks, sorted_partitions, sources.origins)
    for start, stop in _runs(days, exchanges[ranks[order]]):
        exchange, _ = names[int(ranks[order[start]])]
        yield FileRows(int(days[start]), exchange, partial(_parts, unsorted, order[start:stop], schema))


class _Unsorted(NamedTuple):
    """What the columns of files are made of, in the order of arrival."""

    rows: OutputColumns
    text: NDArray[np.uint8]
    ranks: NDArray[np.int32]
    """int32[n], indexes to `names`."""
    names: list[tuple[str, str]]
    partition_ranks: NDArray[np.int32]
    """int32[n], indexes to `topic_partitions`."""
    topic_partitions: list[TopicPartition]
    origins: Sequence[str]


def _parts(unsorted: _Unsorted, order: NDArray[np.int64], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows int64[n] `order` of one exchange, in that order."""
    for start in range(0, len(order), ROW_GROUP_ROWS):
        # Not held here while the next part is made.
        yield _part(unsorted, order[start : start + ROW_GROUP_ROWS], schema)


def _part(unsorted: _Unsorted, order: NDArray[np.int64], schema: pa.Schema) -> pa.Table:
    ranks = unsorted.ranks[order]
    low, high = int(ranks[0]), int(ranks[-1]) + 1
    columns = _columns(unsorted.rows, unsorted.text, order)
    columns |= _partition_columns(unsorted.partition_ranks[order], unsorted.topic_partitions)
    columns["origin"] = _origins(unsorted.rows.origins[order], unsorted.origins)
    columns["symbol"] = _dictionary(ranks - low, [symbol for _, symbol in unsorted.names[low:high]])
    columns["exchange"] = _dictionary(np.zeros(len(order), np.int32), [unsorted.names[low][0]])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _partition_ranks(
    codes: NDArray[np.int32], topic_partitions: Sequence[TopicPartition]
) -> tuple[NDArray[np.int32], list[TopicPartition]]:
    order = sorted(range(len(topic_partitions)), key=topic_partitions.__getitem__)
    ranks = np.empty(len(topic_partitions), dtype=np.int32)
    ranks[order] = np.arange(len(topic_partitions), dtype=np.int32)
    return ranks[codes], [topic_partitions[code] for code in order]


def _by_day(timestamps: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group rows by day, in stable order; return the days of the sorted rows, and their order."""
    days = timestamps // DAY_US
    if days.min() == days.max():
        return days, order
    _, codes = np.unique(days, return_inverse=True)
    by_day = np.empty_like(order)
    counting_sort(codes.astype(np.int32), int(codes.max()) + 1, order, by_day)
    return days[by_day], by_day


def _codes(names: list[str]) -> list[int]:
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return [codes[name] for name in names]


def _runs(days: NDArray[np.int64], exchanges: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    changes = np.flatnonzero((days[1:] != days[:-1]) | (exchanges[1:] != exchanges[:-1])) + 1
    bounds = [0, *changes.tolist(), len(days)]
    yield from pairwise(bounds)


def _columns(rows: OutputColumns, text: NDArray[np.uint8], order: NDArray[np.int64]) -> "dict[str, pa.Array[Any]]":
    # `take` reorders a column of two words eight times as fast as indexing.
    sorted_rows = map_columns(rows, lambda column: np.take(column, order, axis=0))
    return {
        "trade_id": _ids(sorted_rows, text),
        "sequence": _plain(sorted_rows.sequences, pa.int64(), sorted_rows.has_sequence),
        "session": _plain(sorted_rows.sessions, pa.int32()),
        "price": _plain(sorted_rows.prices, _DECIMAL),
        "quantity": _plain(sorted_rows.quantities, _DECIMAL),
        "side": _sides(sorted_rows.sides),
        "timestamp": _plain(sorted_rows.timestamps, _TIME),
        "received": _times(sorted_rows.received),
        "offset": _plain(sorted_rows.offsets, pa.int64()),
        "index": _plain(sorted_rows.indexes, pa.int32()),
        "kafka_timestamp": _times(sorted_rows.kafka_timestamps),
        "first_sequence": _plain(
            sorted_rows.first_sequences,
            pa.int64(),
            sorted_rows.has_sequence & (sorted_rows.first_sequences != sorted_rows.sequences),
        ),
    }


def _partition_columns(
    ranks: NDArray[np.int32], topic_partitions: Sequence[TopicPartition]
) -> "dict[str, pa.Array[Any]]":
    topics = list(dict.fromkeys(one.topic for one in topic_partitions))
    topic_codes = np.array([topics.index(one.topic) for one in topic_partitions], dtype=np.int32)
    partitions = np.array([one.partition for one in topic_partitions], dtype=np.int32)
    return {"topic": _dictionary(topic_codes[ranks], topics), "partition": _plain(partitions[ranks], pa.int32())}


def _plain(values: NDArray[Any], arrow_type: pa.DataType, valid: NDArray[np.bool_] | None = None) -> "pa.Array[Any]":
    """Wrap a NumPy array as an Arrow array without copying it."""
    bitmap, nulls = _bitmap(valid)
    return pa.Array.from_buffers(arrow_type, len(values), [bitmap, _buffer(values)], nulls)


def _buffer(values: NDArray[Any]) -> pa.Buffer:
    # The stubs do not declare that an array is a buffer.
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


def _origins(codes: NDArray[np.int32], names: Sequence[str]) -> "pa.Array[Any]":
    if not names:
        return pa.nulls(len(codes), _DICTIONARY)
    indices = _plain(codes, pa.int32(), codes >= 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()), safe=False)


def _sides(sides: NDArray[np.int8]) -> "pa.Array[Any]":
    codes = _plain(sides.astype(np.int32) - 1, pa.int32(), sides > 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(SIDES[1:], pa.string()), safe=False)


def _ids(rows: OutputColumns, text: NDArray[np.uint8]) -> "pa.Array[Any]":
    data, starts = compact(text, rows.id_starts, rows.id_sizes)
    ends = np.append(starts, len(data)).astype(np.int32)
    bitmap, nulls = _bitmap(rows.id_sizes >= 0)
    buffers = [bitmap, _buffer(ends), _buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(rows.id_sizes), buffers, nulls)
