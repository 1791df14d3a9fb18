"""Stored trades in the order of their venue times or offsets, in slices that fit into memory.

The table is divided by counts, first by day (or by block of offsets), then by second, so that a slice has at most
`SLICE_ROWS` rows unless one second has more. Each slice is one query, sorted by itself.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan
from pyiceberg.table import Table

from k2.model.times import DAY_US, SECOND_US, time_of
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.parameters import RowsParameters
from k2.query.pool import Pool
from k2.query.tables import check_columns, existing_table

__all__ = ["SLICE_ROWS", "OrderedTrades", "Span", "TradeOrder", "joined"]

SLICE_ROWS: Final = 200_000
OFFSETS: Final = 65_536
"""Offsets of a block; a block has at most as many rows as its messages have trades."""


class TradeOrder(StrEnum):
    """Order of the trades."""

    TIME = "time"
    """Venue time, then Kafka coordinates."""
    OFFSET = "offset"
    """Topic partition by topic partition, each by offset."""


class Span(NamedTuple):
    """A range of times or offsets, and the number of rows in it."""

    first: int
    until: int
    """Exclusive."""
    rows: int


def joined(spans: Iterable[Span], rows_max: int) -> Iterator[Span]:
    """Join neighbouring spans, in ascending order, while they have at most `rows_max` rows together."""
    held: Span | None = None
    for span in spans:
        if held is None or held.rows + span.rows > rows_max:
            if held is not None:
                yield held
            held = span
        else:
            held = Span(held.first, span.until, held.rows + span.rows)
    if held is not None:
        yield held


class OrderedTrades:
    """The selected trades of one version of the table: those that it had when this was created."""

    def __init__(self, settings: Settings, selection: RowsParameters, order: TradeOrder, pool: Pool) -> None:
        """Select from the table as it is now.

        Raises:
            NoTableError: the table `trades` does not exist.
            TableError: it is not the job's.
        """
        self._table: Table = existing_table(settings, "trades", pool)
        check_columns(self._table, _COLUMNS)
        self._pool, self._selection, self._order = pool, selection, order

    def count(self) -> int:
        """Return the number of selected trades."""
        rows: int = self._query(f"SELECT count(*) AS rows FROM trades WHERE {self._selection.sql_condition}")[0]["rows"]
        return rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the trades in order, as record batches with the columns of `_SELECT`; one slice is held at a time.

        Raises:
            FilesGoneError: compaction or expiry has removed a data file of the version that is read.
            QueryTimeoutError, QueryMemoryError: a slice exceeds a limit of a query.
        """
        if self._order is TradeOrder.TIME:
            yield from self._by_time()
        else:
            yield from self._by_offset()

    def _by_time(self) -> Iterator[pa.RecordBatch]:
        for day in joined(self._spans(_BY_TIME, DAY_US), SLICE_ROWS):
            spans = [day] if day.rows <= SLICE_ROWS else joined(self._spans(_BY_TIME, SECOND_US, day), SLICE_ROWS)
            for span in spans:
                yield from self._slice('ORDER BY "timestamp", topic, partition, "offset", "index"', span)

    def _by_offset(self) -> Iterator[pa.RecordBatch]:
        partitions = self._query(
            f"SELECT DISTINCT topic, partition FROM trades WHERE {self._selection.sql_condition} ORDER BY ALL"
        )
        for where in partitions:
            for span in joined(self._spans(_BY_OFFSET, OFFSETS, where=where), SLICE_ROWS):
                yield from self._slice('ORDER BY "offset", "index"', span, where)

    def _spans(
        self, by: str, width: int, within: Span | None = None, where: dict[str, Any] | None = None
    ) -> Iterator[Span]:
        bucket = f"{by} // {width} - ({by} % {width} < 0)::INT"
        sql = f"SELECT {bucket} AS bucket, count(*) AS rows FROM trades WHERE {self._condition(within, where)}"
        for row in self._query(f"{sql} GROUP BY bucket ORDER BY bucket", within, where):
            yield Span(row["bucket"] * width, (row["bucket"] + 1) * width, row["rows"])

    def _slice(self, order: str, span: Span, where: dict[str, Any] | None = None) -> list[pa.RecordBatch]:
        sql = f"SELECT {_SELECT} FROM trades WHERE {self._condition(span, where)} {order}"
        with self._pool.engine() as engine:
            self._register(engine, span)
            with engine.rows(sql, self._parameters(span, where)) as rows:
                return [*rows.batches]

    def _query(self, sql: str, span: Span | None = None, where: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        with self._pool.engine() as engine:
            self._register(engine, span)
            return engine.query(sql, self._parameters(span, where))

    def _register(self, engine: Engine, span: Span | None) -> None:
        row_filter = self._selection.row_filter
        if span is not None and self._order is TradeOrder.TIME:
            first, until = (time_of(bound).isoformat() for bound in (span.first, span.until))
            # PyIceberg's type annotations lack these constructors.
            of_span = And(GreaterThanOrEqual("timestamp", first), LessThan("timestamp", until))  # type: ignore[call-arg,arg-type]
            row_filter = And(row_filter, of_span)
        engine.register("trades", self._table, row_filter=row_filter)

    def _condition(self, span: Span | None, where: dict[str, Any] | None) -> str:
        by = '"timestamp"' if self._order is TradeOrder.TIME else _BY_OFFSET
        of_span = f" AND {by} >= $first AND {by} < $until" if span is not None else ""
        of_partition = " AND topic = $topic AND partition = $partition" if where is not None else ""
        return f"{self._selection.sql_condition}{of_span}{of_partition}"

    def _parameters(self, span: Span | None, where: dict[str, Any] | None) -> dict[str, object]:
        bounds: dict[str, object] = {}
        if span is not None:
            is_time = self._order is TradeOrder.TIME
            of = {"first": span.first, "until": span.until}
            bounds = {name: time_of(bound) if is_time else bound for name, bound in of.items()}
        return {**self._selection.sql_parameters, **bounds, **(where or {})}


_BY_TIME: Final = 'epoch_us("timestamp")'
_BY_OFFSET: Final = '"offset"'
_PLAIN: Final = "rtrim(rtrim({}::VARCHAR, '0'), '.')"
_SELECT: Final = f"""exchange, symbol, {_PLAIN.format("price")} AS price, {_PLAIN.format("quantity")} AS quantity,
    epoch_us("timestamp") AS "timestamp", trade_id, sequence, first_sequence, side, epoch_us(received) AS received,
    origin
"""
_COLUMNS: Final = ("exchange", "symbol", "price", "quantity", "timestamp", "trade_id", "topic", "partition", "offset")
