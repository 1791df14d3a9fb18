"""Result of a query or report, taken as Arrow, pandas, polars, a DuckDB relation, or Python objects."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from k2.analysis.extras import import_extra
from k2.query.engine import RecordBatchStream
from k2.query.output_formats import check_names, objects

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result"]

SCALES: Final = (8, 12, 18)
"""Decimals with which prices are tried as whole numbers."""


class Result:
    """The rows of a query or report.

    Each method runs it again: on the newest commit, or on the one that `as_of` selects. All methods raise:

        QueryError: the query is invalid or cannot be answered.
        QueryTimeoutError, QueryMemoryError, QueryBusyError: a configured limit was exceeded.
        NoTableError: a table does not exist.
    """

    def __init__(
        self,
        name: str,
        table: Callable[[], pa.Table],
        rows: Callable[[], AbstractContextManager[RecordBatchStream]] | None = None,
    ) -> None:
        """Run the query by `table`, or by `rows` as a stream if it has one."""
        self._name = name
        self._table = table
        self._rows = rows

    def __repr__(self) -> str:
        return f"<k2 result of {self._name}: use to_pandas(), to_polars(), to_arrow(), to_duckdb() or to_pylist()>"

    def to_arrow(self) -> pa.Table:
        """Return an Arrow table: decimals exact, times in microseconds (UTC)."""
        table = self._table()
        check_names(table.schema)
        return table

    def to_pandas(self, *, exact: bool = False) -> "pd.DataFrame":
        """Return a pandas frame.

        Prices, quantities and all other decimals are floats; with `exact` they are `decimal.Decimal` objects with all
        digits. Integers have pandas' nullable types, so that a missing value does not make floats of the others.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = import_extra("pandas", "pandas", "to_pandas()")
        types: dict[pa.DataType, Any] = {
            pa.int8(): pandas.Int8Dtype(),
            pa.int16(): pandas.Int16Dtype(),
            pa.int32(): pandas.Int32Dtype(),
            pa.int64(): pandas.Int64Dtype(),
        }
        table = self.to_arrow()
        frame: pd.DataFrame = (table if exact else _as_floats(table)).to_pandas(
            types_mapper=types.get, date_as_object=False
        )
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """Return a polars frame, with decimals exact.

        Raises:
            MissingExtraError: polars is not installed.
        """
        polars = import_extra("polars", "polars", "to_polars()")
        frame: pl.DataFrame = polars.from_arrow(self.to_arrow())
        return frame

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Return a relation of your connection (DuckDB's default connection if None), outside of the sandbox."""
        table = self.to_arrow()
        return duckdb.from_arrow(table) if connection is None else connection.from_arrow(table)

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return a dictionary for each row, with decimals exact."""
        return [row for batch in self.to_arrow().to_batches() for row in objects(batch)]

    @contextmanager
    def batches(self) -> Iterator[pa.RecordBatchReader]:
        """Yield the rows as a stream of record batches, for results larger than the memory.

        The time limit covers the whole block.
        """
        if self._rows is None:
            yield self.to_arrow().to_reader()
            return
        with self._rows() as rows:
            check_names(rows.schema)
            yield pa.RecordBatchReader.from_batches(rows.schema, rows.batches)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows by Arrow's PyCapsule interface, so that other libraries take a result as it is."""
        stream: object = self.to_arrow().__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
        return stream


def _as_floats(table: pa.Table) -> pa.Table:
    """Return a table with the nearest float of each decimal."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            chunks = [_nearest_floats(chunk) for chunk in table.column(index).chunks]
            table = table.set_column(index, field.name, pa.chunked_array(chunks, pa.float64()))
    return table


def _nearest_floats(decimals: "pa.Array[Any]") -> "pa.Array[Any]":
    """Return the nearest float of each decimal; Arrow's own conversion is the next one for some, such as 0.0000001.

    A whole number of up to 53 bits, divided by a power of ten of up to 22 zeros, is rounded once. The casts fail if a
    value has more decimals, or is larger. Text is parsed right as well, and takes ten times as long.
    """
    for scale in SCALES:
        with suppress(pa.ArrowInvalid):
            scaled = decimals.cast(pa.decimal128(38, scale))
            units = pa.Array.from_buffers(
                pa.decimal128(38, 0), len(scaled), scaled.buffers(), null_count=scaled.null_count, offset=scaled.offset
            )
            return pc.divide(units.cast(pa.int64()).cast(pa.float64()), 10.0**scale)
    return decimals.cast(pa.string()).cast(pa.float64())
