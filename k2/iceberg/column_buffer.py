"""A writer's rows until they are a file: columns that grow to a bound, then are written and used again."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.iceberg.arrow_columns import Share, shares
from k2.iceberg.output_columns import append_rows, empty_columns, id_bytes, map_columns
from k2.model.batch import TradeSlice
from k2.model.decimals import from_words
from k2.model.progress import TopicPartition
from k2.model.symbols import SYMBOLS
from k2.sequencing.conflicts import Content, StoredKey

__all__ = ["FLUSH_ROWS", "FLUSH_TEXT_BYTES", "ColumnBuffer"]

FLUSH_ROWS: Final = 300_000
"""Rows a buffer holds at most: some 40 MB, and as much again while they are written."""
FLUSH_TEXT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of ids after which a buffer counts as full, however few its rows."""
_FIRST_ROWS: Final = 16_384


class ColumnBuffer:
    """Columns of stored trades; what is added is copied, so that no message outlives its batch."""

    def __init__(self, schema: pa.Schema, flush_rows: int = FLUSH_ROWS) -> None:
        self._schema = schema
        self._flush_rows = flush_rows
        self._rows = empty_columns(min(_FIRST_ROWS, flush_rows))
        self._text: NDArray[np.uint8] = np.empty(16 * _FIRST_ROWS, dtype=np.uint8)
        self._count = 0
        self._text_bytes = 0
        self._places: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether it is to be drained before more is added."""
        return self._count >= self._flush_rows or self._text_bytes >= FLUSH_TEXT_BYTES

    def add(self, piece: TradeSlice, picks: NDArray[np.int64]) -> int:
        """Copy as many of the picked rows (places in the slice) as there is room for; give how many."""
        picks = picks[: self._flush_rows - self._count]
        source = piece.batch.source
        self._make_room(len(picks), id_bytes(piece, picks))
        place = self._places.setdefault(TopicPartition(source.topic, source.partition), len(self._places))
        self._text_bytes = append_rows(self._rows, self._count, self._text, self._text_bytes, piece, picks, place)
        self._count += len(picks)
        return len(picks)

    def drain(self) -> Iterator[Share]:
        """Yield the rows as the shares of files, and begin again."""
        if self._count:
            rows = map_columns(self._rows, lambda column: column[: self._count])
            yield from shares(rows, self._text, list(self._places), self._schema)
        self._count = 0
        self._text_bytes = 0
        self._places.clear()

    def find(self, wanted: Collection[StoredKey]) -> Mapping[StoredKey, Content]:
        """Return the content of those rows whose key is wanted."""
        rows = map_columns(self._rows, lambda column: column[: self._count])
        symbols = sorted({SYMBOLS.intern(key.exchange, key.symbol) for key in wanted})
        numbers = sorted({key.number for key in wanted if isinstance(key.number, int)})
        id_sizes = sorted({len(key.number.encode()) for key in wanted if isinstance(key.number, str)})
        is_near = np.where(rows.sessions > 0, np.isin(rows.sequences, numbers), np.isin(rows.id_sizes, id_sizes))
        candidates = np.flatnonzero(is_near & np.isin(rows.symbols, symbols)).tolist()
        pairs = ((self._key(row), row) for row in candidates)
        return {key: self._content(row) for key, row in pairs if key in wanted}

    def _key(self, row: int) -> StoredKey:
        session = int(self._rows.sessions[row])
        number = int(self._rows.sequences[row]) if session else self._trade_id(row) or ""
        return StoredKey(*SYMBOLS.name(int(self._rows.symbols[row])), session, number)

    def _content(self, row: int) -> Content:
        price, quantity = (from_words(*words[row].tolist()) for words in (self._rows.prices, self._rows.quantities))
        return Content(price, quantity, int(self._rows.sides[row]), self._trade_id(row))

    def _trade_id(self, row: int) -> str | None:
        start, size = int(self._rows.id_starts[row]), int(self._rows.id_sizes[row])
        return None if size < 0 else self._text[start : start + size].tobytes().decode()

    def _make_room(self, rows: int, text_bytes: int) -> None:
        capacity = len(self._rows.symbols)
        if self._count + rows > capacity:
            wanted = min(max(2 * capacity, self._count + rows), self._flush_rows)
            self._rows = map_columns(self._rows, lambda column: _grown(column, self._count, wanted))
        if self._text_bytes + text_bytes > len(self._text):
            wanted = max(2 * len(self._text), self._text_bytes + text_bytes)
            self._text = _grown(self._text, self._text_bytes, wanted)


def _grown(column: NDArray[Any], used: int, capacity: int) -> NDArray[Any]:
    grown = np.empty((capacity, *column.shape[1:]), dtype=column.dtype)
    grown[:used] = column[:used]
    return grown
