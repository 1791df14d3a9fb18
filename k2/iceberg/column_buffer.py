"""The column buffer of a writer: columns of a fixed size, which are written to files when they are full, and reused."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.iceberg.arrow_columns import FileRows, Sources, SymbolOrder, split_by_file
from k2.iceberg.output_columns import append_rows, empty_columns, id_bytes, map_columns
from k2.model.batch import TradeSlice
from k2.model.decimals import from_words
from k2.model.progress import TopicPartition
from k2.model.symbols import Symbols
from k2.sequencing.conflicts import Content, StoredKey

__all__ = ["FLUSH_ROWS", "FLUSH_TEXT_BYTES", "ColumnBuffer"]

FLUSH_ROWS: Final = 300_000
"""Maximum number of rows in a buffer: some 40 MB, and the same again while they are written."""
FLUSH_TEXT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of ids at which a buffer is full, however few its rows."""
_ID_BYTES: Final = 16
"""Bytes of an id for which there is room from the start."""


class ColumnBuffer:
    """Columns of stored trades; rows are copied in, so that no message outlives its batch."""

    def __init__(self, schema: pa.Schema, flush_rows: int = FLUSH_ROWS, symbols: Symbols | None = None) -> None:
        """Create an empty buffer, with the registry `symbols` or one of its own."""
        self.schema = schema
        self._symbols = Symbols() if symbols is None else symbols
        self._symbol_order = SymbolOrder(self._symbols)
        self._flush_rows = flush_rows
        # Pages without rows take no memory, and columns that grew would leave holes of all their former sizes.
        self._columns = empty_columns(flush_rows)
        self._text: NDArray[np.uint8] = np.empty(_ID_BYTES * flush_rows, dtype=np.uint8)
        self._count = 0
        self._text_bytes = 0
        self._topic_partitions: dict[TopicPartition, int] = {}
        self._origins: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether the buffer must be drained before more rows are added."""
        return self._count >= self._flush_rows or self._text_bytes >= FLUSH_TEXT_BYTES

    def add(self, trade_slice: TradeSlice, slice_indices: NDArray[np.int64]) -> int:
        """Copy the rows at int64[m] `slice_indices` until the buffer is full; return the number of copied rows."""
        slice_indices = slice_indices[: self._flush_rows - self._count]
        trade_slice = trade_slice.with_ids_of(self._symbols)
        self._grow_text(id_bytes(trade_slice, slice_indices))
        topic_partition = self._topic_partitions.setdefault(
            trade_slice.batch.source.topic_partition, len(self._topic_partitions)
        )
        self._text_bytes = append_rows(
            self._columns, self._count, self._text, self._text_bytes, trade_slice, slice_indices, topic_partition
        )
        if trade_slice.batch.source.marks:
            self._set_origins(trade_slice, slice_indices)
        self._count += len(slice_indices)
        return len(slice_indices)

    def _set_origins(self, trade_slice: TradeSlice, slice_indices: NDArray[np.int64]) -> None:
        """Set the origins of the rows that were just copied."""
        messages = trade_slice.batch.columns.messages[trade_slice.rows[slice_indices]].tolist()
        for row, message_idx in enumerate(messages, start=self._count):
            marks = trade_slice.batch.source.marks.get(message_idx)
            if marks is not None and marks.origin is not None:
                self._columns.origins[row] = self._origins.setdefault(marks.origin, len(self._origins))

    def drain(self) -> Iterator[FileRows]:
        """Yield the rows by file, whose parts must be made before the next file is asked for; empty the buffer."""
        if self._count:
            columns = map_columns(self._columns, lambda column: column[: self._count])
            names = Sources(list(self._topic_partitions), list(self._origins))
            yield from split_by_file(columns, self._text, names, self.schema, self._symbol_order)
        self._count = 0
        self._text_bytes = 0
        self._topic_partitions.clear()
        self._origins.clear()

    def find(self, wanted: Collection[StoredKey]) -> Mapping[StoredKey, Content]:
        """Return the content of the rows whose key is in `wanted`."""
        columns = map_columns(self._columns, lambda column: column[: self._count])
        symbols = sorted({self._symbols.intern(key.exchange, key.symbol) for key in wanted})
        numbers = sorted({key.number for key in wanted if isinstance(key.number, int)})
        id_sizes = sorted({len(key.number.encode()) for key in wanted if isinstance(key.number, str)})
        may_match = np.where(
            columns.sessions > 0, np.isin(columns.sequences, numbers), np.isin(columns.id_sizes, id_sizes)
        )
        candidates = np.flatnonzero(may_match & np.isin(columns.symbols, symbols)).tolist()
        keys = ((self._key(row), row) for row in candidates)
        return {key: self._content(row) for key, row in keys if key in wanted}

    def _key(self, row: int) -> StoredKey:
        session = int(self._columns.sessions[row])
        number = int(self._columns.sequences[row]) if session else self._trade_id(row) or ""
        return StoredKey(*self._symbols.name(int(self._columns.symbols[row])), session, number)

    def _content(self, row: int) -> Content:
        price, quantity = (
            from_words(*words[row].tolist()) for words in (self._columns.prices, self._columns.quantities)
        )
        return Content(price, quantity, int(self._columns.sides[row]), self._trade_id(row))

    def _trade_id(self, row: int) -> str | None:
        start, size = int(self._columns.id_starts[row]), int(self._columns.id_sizes[row])
        return None if size < 0 else self._text[start : start + size].tobytes().decode()

    def _grow_text(self, added_bytes: int) -> None:
        if self._text_bytes + added_bytes > len(self._text):
            grown = np.empty(max(2 * len(self._text), self._text_bytes + added_bytes), dtype=np.uint8)
            grown[: self._text_bytes] = self._text[: self._text_bytes]
            self._text = grown
