"""One connection to DuckDB in memory, on which tables are shown under names, and queries are bounded."""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.table import DataScan, Table

from k2.model.errors import K2Error, TableError
from k2.query.manifests import Manifests
from k2.query.planning import added_files, planned_files

__all__ = [
    "Engine",
    "Limits",
    "QueryCancelledError",
    "QueryError",
    "QueryMemoryError",
    "QueryTimeoutError",
    "Rows",
]

BATCH_ROWS: Final = 65_536
DROPS_MAX: Final = 100
"""So often is a view dropped, where interrupts come in between."""
LOCAL_SCHEMES: Final = {"", "file"}


class QueryError(K2Error, ValueError):
    """A query cannot be answered as it is asked."""

    exit_code = 2


class QueryTimeoutError(K2Error, TimeoutError):
    """A query took longer than it may."""

    exit_code = 2


class QueryMemoryError(K2Error, MemoryError):
    """A query needs more memory than it may have."""

    exit_code = 2


class QueryCancelledError(K2Error):
    """A query was stopped, since nobody waits for its answer any more."""


class Limits(NamedTuple):
    """What one query may take."""

    timeout_seconds: float
    memory: str
    """As the setting says it, for people."""
    result_bytes_max: int
    """Of a result that is held whole; DuckDB does not count it as its own memory."""


class Rows(NamedTuple):
    """A result as it comes, at most 65,536 rows at a time."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def first(self, count: int) -> "Rows":
        """Return so many of them at the most."""
        return Rows(self.schema, _first(self.batches, count))


class Engine:
    """A connection on which tables are shown under names, and each query has a time limit.

    One thread uses it at a time; `cancel` may be called from any.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        limits: Limits,
        folders: Iterable[str] = (),
        manifests: Manifests | None = None,
    ) -> None:
        """Take a connection that may read local files in some folders; `manifests` remembers those read before."""
        self._connection = connection
        self._limits = limits
        self._manifests = manifests or Manifests()
        self._folders = tuple(folders)
        self._views: set[str] = set()
        self._registered: set[str] = set()
        self._is_cancelled = False

    def show(
        self,
        name: str,
        table: Table,
        *,
        where: BooleanExpression | None = None,
        snapshot_id: int | None = None,
    ) -> None:
        """Show an Iceberg table's rows under a name, as of a snapshot (the current one by default).

        `where` leaves out whole files that hold no row that fits; the rows are for the query to filter. Files that
        DuckDB cannot open itself, on S3 for one, are read through Arrow, with the query's columns and filters.

        Raises:
            TableError: the table has delete files, which are not applied here, or was altered since it was made.
        """
        scan = table.scan(row_filter=where or AlwaysTrue(), snapshot_id=snapshot_id)
        with _faults_planned():
            files = planned_files(self._manifests, table, scan)
        self._show_files(name, table, files, scan)

    def show_added(self, name: str, table: Table, snapshot_ids: Collection[int]) -> None:
        """Show the rows that some snapshots brought into an Iceberg table; none where PyArrow cannot read their files.

        Raises:
            TableError: the table was altered since it was made.
        """
        with _faults_planned():
            files = added_files(table, snapshot_ids) if isinstance(table.io, PyArrowFileIO) else []
        self._show_files(name, table, files, table.scan())

    def _show_files(self, name: str, table: Table, files: list[str], scan: DataScan) -> None:
        _check_unaltered(table)
        paths = [PyArrowFileIO.parse_location(file)[2] for file in files]
        if not files:
            self.show_none(name, table)
        elif all(map(self._is_readable, files, paths)):
            # The folders' names repeat columns: DuckDB must not read values out of them.
            self._views.add(name)
            self._connection.read_parquet(paths, hive_partitioning=False).create_view(name)
        else:
            self.show_arrow(name, _dataset(table, scan, files, paths))

    def show_none(self, name: str, table: Table) -> None:
        """Show an Iceberg table's columns under a name, without any row."""
        self.show_arrow(name, schema_to_pyarrow(table.schema(), include_field_ids=False).empty_table())

    def show_arrow(self, name: str, rows: pa.Table | ds.Dataset) -> None:
        """Show an Arrow table's rows, or a dataset's, under a name."""
        # Noted before, as an interrupt may come when it is there already.
        self._registered.add(name)
        self._connection.register(name, rows)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Return the rows of `table`, a dictionary each."""
        rows: list[dict[str, Any]] = self.table(sql, parameters).to_pylist()
        return rows

    def table(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """Run a statement, its values as parameters only; give the result whole.

        Raises:
            QueryTimeoutError: it took longer than `K2_QUERY_TIMEOUT_SECONDS`, and was stopped.
            QueryMemoryError: it, or its result, needs more memory than `K2_QUERY_MEMORY_LIMIT`.
            QueryCancelledError: `cancel` was called meanwhile.
        """
        with self.rows(sql, parameters) as rows:
            return pa.Table.from_batches(self._held(rows.batches), rows.schema)

    @contextmanager
    def rows(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, batch_rows: int = BATCH_ROWS
    ) -> Iterator[Rows]:
        """Run a statement likewise, and give its rows as they come; the time limit is that of the whole block.

        The first rows are there when the block begins, so that what prevents them is told there.
        """
        with self._timed():
            with _faults_read():
                reader = self._connection.execute(sql, parameters or {}).to_arrow_reader(batch_rows)
            batches = _read(reader)
            first = [*islice(batches, 1)]
            yield Rows(reader.schema, chain(first, batches))

    @contextmanager
    def relation(self, sql: str, parameters: Mapping[str, object] | None = None) -> Iterator[duckdb.DuckDBPyRelation]:
        """Yield a statement as a DuckDB relation; the time limit is that of the whole block."""
        with self._timed():
            yield self._connection.sql(sql, params=parameters or {})

    @contextmanager
    def _timed(self) -> Iterator[None]:
        if self._is_cancelled:
            raise self._interrupted()
        timer = threading.Timer(self._limits.timeout_seconds, self._connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException as error:
            raise self._interrupted() from error
        finally:
            timer.cancel()
            # Its interrupt may be under way, and must not meet the connection's next query.
            timer.join()

    def tables_in(self, sql: str) -> set[str]:
        """Return the names of the tables that a statement asks for."""
        return self._connection.get_table_names(sql)

    def cancel(self) -> None:
        """Stop the query that runs, and those that come."""
        self._is_cancelled = True
        self._connection.interrupt()

    def clear(self) -> None:
        """Show nothing any more."""
        while self._registered:
            name = self._registered.pop()
            self._connection.unregister(name)
            # An interrupt may have stopped that unsaid, and the next query would read what is left.
            self._drop(f'temp.main."{name}"')
        while self._views:
            self._drop(f'"{self._views.pop()}"')

    def _drop(self, view: str) -> None:
        for _ in range(DROPS_MAX):
            # An interrupt is for the query before, not for this.
            with suppress(duckdb.InterruptException):
                self._connection.execute(f"DROP VIEW IF EXISTS {view}")
                return

    def _is_readable(self, file: str, path: str) -> bool:
        is_local = PyArrowFileIO.parse_location(file)[0] in LOCAL_SCHEMES
        return is_local and any(path.startswith(folder) for folder in self._folders)

    def _held(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held_bytes = 0
        for batch in batches:
            held_bytes += batch.nbytes
            if held_bytes > self._limits.result_bytes_max:
                raise QueryMemoryError(
                    f"the result is larger than K2_QUERY_MEMORY_LIMIT={self._limits.memory}; limit it, or raise that"
                )
            yield batch

    def _interrupted(self) -> K2Error:
        if self._is_cancelled:
            return QueryCancelledError("the query was stopped: nobody waits for its answer any more")
        return QueryTimeoutError(
            f"the query took longer than {self._limits.timeout_seconds:g} s and was stopped; "
            "narrow it, or raise K2_QUERY_TIMEOUT_SECONDS"
        )


def _check_unaltered(table: Table) -> None:
    """Refuse a table of which older files have other columns: here they are read by the columns' names alone."""
    if len(table.metadata.schemas) > 1:
        raise TableError(
            f"table {'.'.join(table.name())} was altered since it was made: another program changed its columns, "
            "which queries here do not follow"
        )


def _read(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _faults_read():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch


@contextmanager
def _faults_read() -> Iterator[None]:
    """Raise as DuckDB's own what it says through Arrow, or Arrow through it, where words alone are left of a fault."""
    try:
        yield
    except duckdb.InvalidInputException as error:
        if _ARROW_READS not in str(error):
            raise
        raise duckdb.IOException(str(error).partition(_ARROW_READS)[2]) from error
    except OSError as error:
        words = str(error)
        raise _WORDED.get(words.partition(" Error:")[0], duckdb.Error)(words) from error


@contextmanager
def _faults_planned() -> Iterator[None]:
    """Raise as DuckDB's own that a list of files is gone, by an expiry for one, or its store does not answer."""
    try:
        yield
    except K2Error:
        raise
    except OSError as error:
        raise duckdb.IOException(str(error)) from error


_ARROW_READS: Final = "arrow_scan: get_next failed(): IOError: "
_WORDED: Final[dict[str, type[duckdb.Error]]] = {
    "FATAL": duckdb.FatalException,
    "INTERNAL": duckdb.InternalException,
    "INTERRUPT": duckdb.InterruptException,
    "IO": duckdb.IOException,
    "Out of Memory": duckdb.OutOfMemoryException,
    "Out of Range": duckdb.OutOfRangeException,
}


def _first(batches: Iterator[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
    while count > 0 and (batch := next(batches, None)) is not None:
        yield batch.slice(0, count)
        count -= batch.num_rows


def _dataset(table: Table, scan: DataScan, files: list[str], paths: list[str]) -> pa.Table | ds.Dataset:
    """Return the rows of files wherever PyIceberg can read them, where it can without reading any yet."""
    if not isinstance(table.io, PyArrowFileIO):
        return scan.to_arrow()
    scheme, host, _ = PyArrowFileIO.parse_location(files[0], table.io.properties)
    schema = schema_to_pyarrow(scan.projection(), include_field_ids=False)
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=table.io.fs_by_scheme(scheme, host))
