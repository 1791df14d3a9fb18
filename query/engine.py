"""DuckDB in memory over files that PyIceberg plans: the tables' own rows, within limits."""

import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.table import DataScan, Table

from runtime.settings import Settings
from trades.errors import K2Error, SettingsError, TableError, UnreachableError

__all__ = ["Engine", "QueryMemoryError", "QueryTimeoutError", "open_engine"]

LOCAL_SCHEMES: Final = {"", "file"}


class QueryTimeoutError(K2Error, TimeoutError):
    """A query took longer than it may."""


class QueryMemoryError(K2Error, MemoryError):
    """A query needs more memory than it may have."""


@contextmanager
def open_engine(settings: Settings) -> Iterator["Engine"]:
    """Give an engine with the settings' memory limit and timeout; what it spills to disk goes with it.

    Raises:
        SettingsError: the memory limit is none that DuckDB can have.
        QueryMemoryError: within the block, a query needs more.
        UnreachableError: within the block, a file of a table cannot be read.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="k2-query-") as spill, _connected(settings, spill) as connection:
            yield Engine(connection, settings.query_timeout_seconds)
    except duckdb.OutOfMemoryException as error:
        raise QueryMemoryError(f"the query needs more memory than {_limit(settings)} gives it; raise it") from error
    except duckdb.IOException as error:
        raise UnreachableError(f"a file of the table cannot be read: {_first_line(error)}") from error


@contextmanager
def _connected(settings: Settings, spill: str) -> Iterator[duckdb.DuckDBPyConnection]:
    # nothing is downloaded at run time
    fixed = {"temp_directory": spill, "autoinstall_known_extensions": "false"}
    try:
        connection = duckdb.connect(config={"memory_limit": settings.query_memory_limit, **fixed})
    except duckdb.ParserException as error:
        raise SettingsError(f"{_limit(settings)}: {_first_line(error)}") from error
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def _limit(settings: Settings) -> str:
    return f"K2_QUERY_MEMORY_LIMIT={settings.query_memory_limit}"


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


class Engine:
    """A connection on which tables are shown under names, and queries bounded in time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds

    def show(
        self,
        name: str,
        table: Table,
        *,
        where: BooleanExpression | None = None,
        snapshot_id: int | None = None,
    ) -> None:
        """Show an Iceberg table's rows under a name, as of a snapshot (the current one by default).

        `where` leaves out whole files that hold no row that fits; the rows are for the query to filter.

        Raises:
            TableError: the table has delete files, which are not applied here.
        """
        scan = table.scan(row_filter=where or AlwaysTrue(), snapshot_id=snapshot_id)
        files = _planned_files(table, scan)
        if not files:
            self.show_arrow(name, schema_to_pyarrow(table.schema(), include_field_ids=False).empty_table())
        elif all(_is_local(file) for file in files):
            paths = [PyArrowFileIO.parse_location(file)[2] for file in files]
            # the folders' names repeat columns: DuckDB must not read values out of them
            self._connection.read_parquet(paths, hive_partitioning=False).create_view(name)
        else:
            self.show_arrow(name, scan.to_arrow())

    def show_arrow(self, name: str, rows: pa.Table) -> None:
        """Show an Arrow table's rows under a name."""
        self._connection.register(name, rows)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Give the rows of `table`, a dictionary each."""
        rows: list[dict[str, Any]] = self.table(sql, parameters).to_pylist()
        return rows

    def table(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """Run a statement, its values as parameters only.

        Raises:
            QueryTimeoutError: it took longer than `K2_QUERY_TIMEOUT_SECONDS`, and was stopped.
        """
        timer = threading.Timer(self._timeout_seconds, self._connection.interrupt)
        timer.start()
        try:
            return self._connection.execute(sql, parameters or {}).to_arrow_table()
        except duckdb.InterruptException as error:
            raise QueryTimeoutError(
                f"the query took longer than {self._timeout_seconds:g} s and was stopped; "
                "narrow it, or raise K2_QUERY_TIMEOUT_SECONDS"
            ) from error
        finally:
            timer.cancel()


def _planned_files(table: Table, scan: DataScan) -> list[str]:
    tasks = list(scan.plan_files())
    if any(task.delete_files for task in tasks):
        raise TableError(
            f"table {'.'.join(table.name())} has delete files, which queries here do not apply; compact it"
        )
    return [task.file.file_path for task in tasks]


def _is_local(file: str) -> bool:
    return PyArrowFileIO.parse_location(file)[0] in LOCAL_SCHEMES
