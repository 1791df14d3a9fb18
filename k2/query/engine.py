"""A DuckDB connection in memory: tables are registered as views, and queries have time and memory limits."""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from k2.query.evolution import has_evolved, lacking_columns, names_are_ids, select_by_id
from k2.query.manifests import ManifestCache, SpecFiles
from k2.query.planning import added_files, planned_files
from k2.query.store_dataset import StoreDataset

__all__ = [
    "Engine",
    "QueryCancelledError",
    "QueryError",
    "QueryLimits",
    "QueryMemoryError",
    "QueryTimeoutError",
    "RecordBatchStream",
    "SqlParameters",
]

SqlParameters = Mapping[str, object] | Sequence[object]
"""Values of `$name`, or of `?` and `$1` by position."""

BATCH_ROWS: Final = 65_536
DROPS_MAX: Final = 100
"""Attempts to drop a view; an interrupt may come in between."""
RERUNS_MAX: Final = 10
"""How often a failed statement is run again to find its error."""
LOCAL_SCHEMES: Final = {"", "file"}


class QueryError(K2Error, ValueError):
    """A query is invalid or cannot be answered."""

    exit_code = 2


class QueryTimeoutError(K2Error, TimeoutError):
    """A query exceeded its time limit."""

    exit_code = 2


class QueryMemoryError(K2Error, MemoryError):
    """A query, or its result, exceeded the memory limit."""

    exit_code = 2


class QueryCancelledError(K2Error):
    """A query was cancelled because its client disconnected."""


class QueryLimits(NamedTuple):
    """Limits of one query."""

    timeout_seconds: float
    memory: str
    """The setting's text, for messages."""
    result_bytes_max: int
    """Size of a result held in memory; DuckDB does not count it as its own memory."""


class RecordBatchStream(NamedTuple):
    """A result as a stream of record batches of at most 65,536 rows."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def first(self, count: int) -> "RecordBatchStream":
        """Return a stream of the first `count` rows."""
        return RecordBatchStream(self.schema, _first(self.batches, count))


class Engine:
    """A connection on which tables are registered under names, and each query has a time limit.

    One thread may use it at a time; `cancel` may be called from any thread.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        limits: QueryLimits,
        folders: Iterable[str] = (),
        manifests: ManifestCache | None = None,
    ) -> None:
        """Use a connection that may read local files in `folders`; `manifests` is a cache shared between engines."""
        self._connection = connection
        self._limits = limits
        self._manifests = manifests or ManifestCache()
        self._folders = tuple(folders)
        self._views: set[str] = set()
        self._registered: set[str] = set()
        self._is_cancelled = False
        self._is_expired = False

    def register(
        self,
        name: str,
        table: Table,
        *,
        row_filter: BooleanExpression | None = None,
        snapshot_id: int | None = None,
        committed_after: int = 0,
    ) -> None:
        """Register an Iceberg table under a name, as of a snapshot (the current one by default).

        `row_filter` skips data files without a matching row; filtering the rows is left to the query.
        `committed_after` skips manifests up to that Iceberg sequence number: all that they list was committed by then.
        Files that DuckDB cannot open itself, such as those on S3, are read through Arrow, with columns and filters
        pushed down.

        Raises:
            TableError: the table has delete files, which are not applied here.
        """
        scan = table.scan(row_filter=row_filter or AlwaysTrue(), snapshot_id=snapshot_id)
        with _planning_errors():
            files = planned_files(self._manifests, table, scan, committed_after)
        self._register_files(name, table, files, scan)

    def register_added(self, name: str, table: Table, snapshot_ids: Collection[int]) -> None:
        """Register the rows that some snapshots added; no rows if PyArrow cannot read the table's files.

        Raises:
            TableError: the table has delete files.
        """
        with _planning_errors():
            files = added_files(table, snapshot_ids) if isinstance(table.io, PyArrowFileIO) else []
        self._register_files(name, table, files, table.scan())

    def register_files(self, name: str, table: Table, files: list[str]) -> None:
        """Register the rows of some data files of a table; a column that a file lacks is null where that is possible.

        Raises:
            TableError: a program renamed columns, and DuckDB cannot read the files itself.
        """
        self._register_files(name, table, files, table.scan(), by_id=True)

    def _register_files(
        self, name: str, table: Table, files: list[str], scan: DataScan, *, by_id: bool = False
    ) -> None:
        with self._complete(name, table) as stored:
            self._register_stored(stored, table, files, scan, by_id=by_id)

    @contextmanager
    def _complete(self, name: str, table: Table) -> Iterator[str]:
        """Yield the name under which to register a table as it is; then add nulls for the columns that it lacks."""
        lacking = lacking_columns(table)
        stored = f"{name} as stored" if lacking else name
        yield stored
        if lacking:
            self.register_view(name, f'SELECT *{lacking} FROM "{stored}"')

    def _register_stored(self, name: str, table: Table, files: list[str], scan: DataScan, *, by_id: bool) -> None:
        paths = [PyArrowFileIO.parse_location(file)[2] for file in files]
        if not files:
            self._register_no_rows(name, table)
        elif not all(map(self._is_readable, files, paths)):
            self.register_arrow(name, _dataset(table, scan, files, paths))
        elif (by_id or has_evolved(table)) and (select := select_by_id(table.schema(), paths)) is not None:
            self._views.add(name)
            self._connection.sql(select).create_view(name)
        elif not has_evolved(table):
            # The folders' names repeat columns: DuckDB must not read values from them.
            self._views.add(name)
            self._connection.read_parquet(paths, hive_partitioning=False).create_view(name)
        else:
            self.register_arrow(name, _dataset(table, scan, files, paths))

    def files(self, table: Table) -> list[SpecFiles]:
        """Return the files of an Iceberg table's current snapshot, from its manifests."""
        snapshot = table.current_snapshot()
        with _planning_errors():
            return [] if snapshot is None else self._manifests.files(table, snapshot)

    def register_empty(self, name: str, table: Table) -> None:
        """Register an Iceberg table's columns under a name, without any rows."""
        with self._complete(name, table) as stored:
            self._register_no_rows(stored, table)

    def _register_no_rows(self, name: str, table: Table) -> None:
        self.register_arrow(name, schema_to_pyarrow(table.schema(), include_field_ids=False).empty_table())

    def register_arrow(self, name: str, rows: pa.Table | ds.Dataset) -> None:
        """Register an Arrow table or dataset under a name."""
        # Recorded first: an interrupt may come after the registration has taken effect.
        self._registered.add(name)
        self._connection.register(name, rows)

    def register_view(self, name: str, select: str) -> None:
        """Register a statement over registered tables under a name."""
        self._views.add(name)
        self._connection.execute(f'CREATE VIEW "{name}" AS {select}')

    def query(self, sql: str, parameters: SqlParameters | None = None) -> list[dict[str, Any]]:
        """Return the rows of `table`, each as a dictionary."""
        rows: list[dict[str, Any]] = self.table(sql, parameters).to_pylist()
        return rows

    def table(self, sql: str, parameters: SqlParameters | None = None) -> pa.Table:
        """Run a statement and return the whole result; values are passed as parameters only.

        Raises:
            QueryTimeoutError: it exceeded `K2_QUERY_TIMEOUT_SECONDS` and was stopped.
            QueryMemoryError: it, or its result, exceeded `K2_QUERY_MEMORY_LIMIT`.
            QueryCancelledError: `cancel` was called.
        """
        with self.rows(sql, parameters) as rows:
            return pa.Table.from_batches(self._within_memory(rows.batches), rows.schema)

    @contextmanager
    def rows(
        self, sql: str, parameters: SqlParameters | None = None, *, batch_rows: int = BATCH_ROWS
    ) -> Iterator[RecordBatchStream]:
        """Run a statement and yield its rows as a stream; the time limit covers the whole block. Raises as `table`.

        The first batch is read before the block begins, so errors that prevent it are raised there.
        """
        with self._timed():
            with _read_errors():
                reader = self._connection.execute(sql, parameters or {}).to_arrow_reader(batch_rows)
            batches = self._read(reader, sql, parameters)
            first = [*islice(batches, 1)]
            yield RecordBatchStream(reader.schema, chain(first, batches))

    @contextmanager
    def relation(self, sql: str, parameters: SqlParameters | None = None) -> Iterator[duckdb.DuckDBPyRelation]:
        """Yield a statement as a DuckDB relation; the time limit covers the whole block."""
        with self._timed():
            yield self._connection.sql(sql, params=parameters or {})

    def _read(
        self, reader: pa.RecordBatchReader, sql: str, parameters: SqlParameters | None
    ) -> Iterator[pa.RecordBatch]:
        """Read the result of a statement; if it fails, raise its own error.

        If one of DuckDB's threads fails, another may report that it was interrupted before the error itself is seen.
        The statement is then run again, within the same time limit, until its own error is raised.
        """
        try:
            yield from _read(reader)
        except duckdb.InterruptException:
            for _ in range(RERUNS_MAX):
                if self._is_expired or self._is_cancelled:
                    break
                with suppress(duckdb.InterruptException):
                    for _batch in _read(self._connection.execute(sql, parameters or {}).to_arrow_reader(BATCH_ROWS)):
                        pass
            raise

    def _expire(self) -> None:
        self._is_expired = True
        self._connection.interrupt()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        if self._is_cancelled:
            raise self._interrupted()
        self._is_expired = False
        timer = threading.Timer(self._limits.timeout_seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException as error:
            if not (self._is_expired or self._is_cancelled):
                raise
            raise self._interrupted() from error
        finally:
            timer.cancel()
            # Its interrupt may be in progress, and must not reach the connection's next query.
            timer.join()

    def cancel(self) -> None:
        """Stop the running query and reject later ones."""
        self._is_cancelled = True
        self._connection.interrupt()

    def clear(self) -> None:
        """Unregister all tables."""
        while self._registered:
            name = self._registered.pop()
            self._connection.unregister(name)
            # An interrupt may have stopped that silently, and the next query would read what is left.
            self._drop(f'temp.main."{name}"')
        while self._views:
            self._drop(f'"{self._views.pop()}"')

    def _drop(self, view: str) -> None:
        for _ in range(DROPS_MAX):
            # An interrupt is meant for the previous query, not for this statement.
            with suppress(duckdb.InterruptException):
                self._connection.execute(f"DROP VIEW IF EXISTS {view}")
                return

    def _is_readable(self, file: str, path: str) -> bool:
        is_local = PyArrowFileIO.parse_location(file)[0] in LOCAL_SCHEMES
        return is_local and any(path.startswith(folder) for folder in self._folders)

    def _within_memory(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held_bytes = 0
        for batch in batches:
            held_bytes += batch.nbytes
            if held_bytes > self._limits.result_bytes_max:
                raise QueryMemoryError(
                    f"the result is larger than K2_QUERY_MEMORY_LIMIT={self._limits.memory}: "
                    "limit the number of rows, or raise the setting"
                )
            yield batch

    def _interrupted(self) -> K2Error:
        if self._is_cancelled:
            return QueryCancelledError("query cancelled: the client disconnected")
        return QueryTimeoutError(
            f"the query took longer than {self._limits.timeout_seconds:g} s and was stopped; "
            "narrow it, or raise K2_QUERY_TIMEOUT_SECONDS"
        )


def _read(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _read_errors():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch


@contextmanager
def _read_errors() -> Iterator[None]:
    """Convert errors that DuckDB reports through Arrow, or Arrow through DuckDB, to DuckDB's own by their message."""
    try:
        yield
    except duckdb.InvalidInputException as error:
        if _ARROW_ERROR not in str(error):
            raise
        raise duckdb.IOException(str(error).partition(_ARROW_ERROR)[2]) from error
    except OSError as error:
        message = str(error)
        raise _ERRORS_BY_PREFIX.get(message.partition(" Error:")[0], duckdb.Error)(message) from error


@contextmanager
def _planning_errors() -> Iterator[None]:
    """Raise `duckdb.IOException` if a manifest is gone, for example after expiry, or its store does not respond."""
    try:
        yield
    except K2Error:
        raise
    except OSError as error:
        raise duckdb.IOException(str(error)) from error


_ARROW_ERROR: Final = "arrow_scan: get_next failed(): IOError: "
_ERRORS_BY_PREFIX: Final[dict[str, type[duckdb.Error]]] = {
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
    """Return the rows of files that only PyIceberg can read; lazily, as a dataset, if its file IO is PyArrow's."""
    if not isinstance(table.io, PyArrowFileIO):
        return scan.to_arrow()
    if not names_are_ids(table):
        raise TableError(
            f"table {'.'.join(table.name())}: another program renamed or replaced columns, and DuckDB cannot read its "
            "files itself; query it with an engine that resolves columns by field id"
        )
    scheme, host, _ = PyArrowFileIO.parse_location(files[0], table.io.properties)
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    return StoreDataset(paths, schema, table.io.fs_by_scheme(scheme, host))
