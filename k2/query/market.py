"""Queries of the trades table, for Python, the `k2` commands and the HTTP API.

from k2.query.market import open_market
from k2.query.query_builders import ohlcv

with open_market(read_settings()) as market:
    bars = market.table(ohlcv(exchange="binance", symbol="BTCUSDT", interval="5m"))
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import duckdb
import pyarrow as pa

from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryError, RecordBatchStream, SqlParameters
from k2.query.parameters import AsOf
from k2.query.pool import READS_MAX, EnginePool, Pool
from k2.query.query_builders import COLUMNS, TradesQuery
from k2.query.sandbox import referenced_tables
from k2.query.sql_errors import describe_error
from k2.query.tables import check_columns, existing_table
from k2.query.views import register_corrected_trades, register_table, register_tables

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Market", "open_market"]

SQL_BATCH_ROWS: Final = 8_192
"""Rows per batch of a user's statement, whose rows may have any width."""
_NOT_THE_STATEMENT_ERRORS: Final = (
    duckdb.FatalException,
    duckdb.IOException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
)
Result = TypeVar("Result")
Runner = Callable[[Engine, str, SqlParameters], AbstractContextManager[Result]]


class Market:
    """Runs queries on the trades table, each on one snapshot; thread-safe."""

    def __init__(self, pool: EnginePool) -> None:
        """Use the connections of a pool."""
        self._pool = pool

    def table(self, query: TradesQuery) -> pa.Table:
        """Return the whole result as an Arrow table.

        Raises:
            QueryError: the snapshot does not exist, or a sum exceeds decimal(38, 18).
            QueryTimeoutError, QueryMemoryError, QueryBusyError: a configured limit was exceeded.
            NoTableError: the table `trades` does not exist.
            TableError: it was not created by the job.
        """
        with self._run(query, _whole) as run:
            return run

    def rows(self, query: TradesQuery) -> AbstractContextManager[RecordBatchStream]:
        """Return a context manager of the result as a stream; the time limit covers the whole block."""
        return self._run(query, Engine.rows)

    def relation(self, query: TradesQuery) -> AbstractContextManager[duckdb.DuckDBPyRelation]:
        """Return a context manager of the result as a DuckDB relation, for further queries in the same time limit."""
        return self._run(query, Engine.relation)

    def polars(self, query: TradesQuery) -> "pl.DataFrame":
        """Return the whole result as a polars frame; requires polars."""
        import polars as pl  # noqa: PLC0415  an analyst's, not the job's

        frame = pl.from_arrow(self.table(query))
        assert isinstance(frame, pl.DataFrame), "of a table"
        return frame

    def sql(
        self, sql: str, as_of: AsOf | None = None, parameters: SqlParameters | None = None
    ) -> AbstractContextManager[RecordBatchStream]:
        """Return a context manager of the result of one SELECT as a stream; the time limit covers the whole block.

        The tables are `trades`, `sequence_events`, `commits`, `corrections` and `dead_letters`. The statement may also
        use `corrected_trades`, `quality`, `trades_derived`, `vwap` and `ohlcv` (`k2.query.sql_macros`). Values are
        those of its parameters: `$name` if `parameters` is a mapping, `?` or `$1` if it is a sequence.

        Raises:
            QueryError: the statement is rejected or DuckDB cannot run it, or the snapshot does not exist.
            QueryTimeoutError, QueryMemoryError, QueryBusyError: a configured limit was exceeded.
            NoTableError: a table of the statement does not exist.
        """
        return self._run_sql(sql, as_of, parameters or {}, partial(Engine.rows, batch_rows=SQL_BATCH_ROWS))

    def sql_table(self, sql: str, as_of: AsOf | None = None, parameters: SqlParameters | None = None) -> pa.Table:
        """Return the whole result of one SELECT as an Arrow table; the rest as `sql`."""
        with self._run_sql(sql, as_of, parameters or {}, _whole) as table:
            return table

    @contextmanager
    def _run_sql(
        self, sql: str, as_of: AsOf | None, parameters: SqlParameters, run: Runner[Result]
    ) -> Iterator[Result]:
        with self._pool.engine() as engine, _translate_errors(), ExitStack() as opened:
            names = referenced_tables(engine, sql)

            def begin() -> Result:
                register_tables(engine, self._pool, names, as_of)
                return opened.enter_context(run(engine, sql, parameters))

            yield _retry_if_files_gone(engine, begin)

    @contextmanager
    def _run(self, query: TradesQuery, run: Runner[Result]) -> Iterator[Result]:
        with self._pool.engine() as engine, ExitStack() as opened:

            def begin() -> Result:
                table = existing_table(self._pool.settings, "trades", self._pool)
                check_columns(table, COLUMNS)
                register_table(engine, table, query.filters.as_of, query.filters.row_filter)
                if query.is_corrected:
                    register_corrected_trades(engine, self._pool, table, query.filters.as_of)
                return opened.enter_context(run(engine, query.sql, query.parameters))

            yield _retry_if_files_gone(engine, begin)


@contextmanager
def open_market(settings: Settings) -> Iterator[Market]:
    """Yield a market with its own connection pool.

    Raises:
        SettingsError: the memory limit is not valid for DuckDB.
    """
    with Pool(settings) as pool:
        yield Market(pool)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Convert DuckDB's errors on a user's statement to `QueryError`."""
    try:
        yield
    except _NOT_THE_STATEMENT_ERRORS:
        raise
    except duckdb.Error as error:
        raise QueryError(f"SQL: {describe_error(error)}") from error


def _whole(engine: Engine, sql: str, parameters: SqlParameters) -> AbstractContextManager[pa.Table]:
    return nullcontext(engine.table(sql, parameters))


def _retry_if_files_gone(engine: Engine, begin: Callable[[], Result]) -> Result:
    """Retry if compaction or expiry removed a planned data file."""
    for _ in range(READS_MAX - 1):
        try:
            return begin()
        except duckdb.IOException:
            engine.clear()
    return begin()
