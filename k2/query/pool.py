"""An in-memory DuckDB database with a few connections, each lent to one query at a time."""

import queue
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import wraps
from types import TracebackType
from typing import Final, ParamSpec, Protocol, Self, TypeVar

import duckdb
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2.model.errors import K2Error, SettingsError, UnreachableError, first_line
from k2.ops.retry import missing_file_message
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryCancelledError, QueryError, QueryLimits, QueryMemoryError
from k2.query.manifests import ManifestCache
from k2.query.sql_macros import create_macros
from k2.query.table_cache import TableCache

__all__ = [
    "READS_MAX",
    "CancellableSession",
    "EnginePool",
    "FileDamagedError",
    "FileMissingError",
    "FilesGoneError",
    "Pool",
    "QueryBusyError",
    "open_engine",
    "open_pool",
    "retry_if_files_gone",
    "unlimited",
]

JOB_TABLES: Final = ("trades", "sequence_events", "commits", "corrections")
READS_MAX: Final = 3
"""Attempts of a query whose planned data files are gone because compaction or expiry removed them."""
_MISSING_LOCAL_FILE: Final = re.compile(
    r"""(?:No files found that match the pattern|file) ['"](/[^'"]*)['"](?:.*No such file|$)"""
)
"""Messages of DuckDB and Arrow for a local file that does not exist; keys on S3 do not begin with a slash."""
_DAMAGED_FILE: Final = re.compile(
    r"No magic bytes found|too small to be a Parquet file|Failed to read file|string encoding found in Parquet file"
)
"""Messages of DuckDB for a Parquet file that was cut or changed, found by cutting and changing one."""
SECONDS_MAX: Final = 24 * 3600.0
"""A day of ten thousand symbols takes longer than a user's query may."""
Item = TypeVar("Item")
Parameters = ParamSpec("Parameters")
Report = TypeVar("Report")


class QueryBusyError(K2Error, TimeoutError):
    """No connection became free within the time that a query may wait."""

    exit_code = 3


class FilesGoneError(UnreachableError):
    """A file of a table cannot be read: its store does not respond, or compaction or expiry removed it."""


class FileMissingError(FilesGoneError):
    """A local file of a table does not exist, also after the table was read again."""

    exit_code = 1


class FileDamagedError(K2Error):
    """A data file was cut or changed, so that it is no Parquet file any more; to read it again does not help."""


class EnginePool(Protocol):
    """Interface of what lends connections: `Pool` and `CancellableSession`."""

    @property
    def settings(self) -> Settings:
        """The settings that locate the tables."""

    def engine(self) -> AbstractContextManager[Engine]:
        """Lend a connection for a block."""

    def find_table(self, name: str) -> Table | None:
        """Return one of the job's tables as it is now; None if it does not exist."""


class Pool:
    """An in-memory database with the settings' memory limit, and `K2_QUERY_CONNECTIONS` connections to it.

    It can read the tables' data files and nothing else: no other file, no extension, no network; and none of that can
    be changed. What does not fit into memory is spilled to a temporary folder, which is deleted with the pool.
    """

    def __init__(self, settings: Settings, connections: int | None = None) -> None:
        """Open the database; `connections` overrides the setting.

        Raises:
            SettingsError: the memory limit is not valid for DuckDB.
        """
        self._settings = settings
        self._limits = QueryLimits(
            settings.query_timeout_seconds, settings.query_memory_limit, settings.query_memory_limit_bytes
        )
        self._tables = TableCache(settings)
        self._manifests = ManifestCache()
        self._folders = _data_folders(settings, self._tables)
        self._count = connections or settings.query_connections
        self._renewal = threading.Lock()
        self._opened, self._free = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> Settings:
        """The settings that locate the tables."""
        return self._settings

    @property
    def folders(self) -> tuple[str, ...]:
        """The local folders of the tables' data files."""
        return tuple(self._folders)

    def close(self) -> None:
        """Close the database and stop running queries."""
        self._opened.close()
        self._tables.close()

    def find_table(self, name: str) -> Table | None:
        """Return one of the job's tables as it is now; None if it does not exist.

        Raises:
            UnreachableError: the catalog does not respond, after retries.
        """
        return self._tables.find(name)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Lend a connection; wait for one at most as long as a query may take.

        Raises:
            QueryBusyError: no connection became free.
            QueryMemoryError: a query in the block exceeds the memory limit.
            QueryError: a query in the block is invalid or cannot be answered.
            UnreachableError: a file of a table cannot be read in the block.
        """
        free = self._free
        try:
            connection = free.get(timeout=self._limits.timeout_seconds)
        except queue.Empty:
            raise QueryBusyError(
                f"all {self._count} connections were in use for {self._limits.timeout_seconds:g} s; "
                "retry later, or raise K2_QUERY_CONNECTIONS"
            ) from None
        engine = Engine(connection, self._limits, self._folders, self._manifests)
        try:
            with _translate_errors(self._limits):
                yield engine
        except (duckdb.FatalException, duckdb.InternalException) as error:
            self._renew(free)
            raise QueryError(
                f"DuckDB failed on this query and was restarted: {first_line(error)}; change the query"
            ) from error
        finally:
            with suppress(duckdb.Error):
                engine.clear()
            free.put(connection)

    def _renew(self, broken: "queue.Queue[duckdb.DuckDBPyConnection]") -> None:
        """Open a new database: after an internal error DuckDB answers no further query."""
        with self._renewal:
            if self._free is broken:
                self._opened.close()
                self._opened, self._free = self._open()

    def _open(self) -> "tuple[ExitStack, queue.Queue[duckdb.DuckDBPyConnection]]":
        free: queue.Queue[duckdb.DuckDBPyConnection] = queue.Queue()
        with ExitStack() as stack:
            spill_folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="k2-query-"))
            database = stack.enter_context(self._database(spill_folder))
            create_macros(database)
            for number in range(self._count):
                connection = stack.enter_context(database.cursor())
                # Views belong to a schema, and those of two queries have the same name.
                connection.execute(f"CREATE SCHEMA connection_{number}")
                connection.execute(f"USE connection_{number}")
                connection.execute("SET TimeZone = 'UTC'")
                free.put(connection)
            database.execute("SET allowed_directories = $folders", {"folders": self._folders})
            database.execute("SET enable_external_access = false")
            database.execute("SET lock_configuration = true")
            return stack.pop_all(), free

    def _database(self, spill: str) -> duckdb.DuckDBPyConnection:
        limit = self._settings.query_memory_limit
        try:
            return duckdb.connect(
                config={
                    "memory_limit": limit,
                    "temp_directory": spill,
                    # Nothing is downloaded at run time.
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                    # A name in a statement must never resolve to a Python variable.
                    "python_enable_replacements": "false",
                    # DuckDB pushes a join's few keys to Arrow as a list filter, which needs pytz if they are times.
                    "dynamic_or_filter_threshold": "0",
                }
            )
        except duckdb.ParserException as error:
            raise SettingsError(f"K2_QUERY_MEMORY_LIMIT={limit}: {first_line(error)}") from error


class CancellableSession:
    """A client's use of a pool, which another thread can cancel before the result is complete."""

    def __init__(self, pool: EnginePool) -> None:
        """Use the connections of a pool."""
        self._pool = pool
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._is_cancelled = False

    @property
    def settings(self) -> Settings:
        """The settings that locate the tables."""
        return self._pool.settings

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Lend a connection.

        Raises:
            QueryCancelledError: the session was cancelled.
            QueryBusyError, QueryMemoryError, QueryError, UnreachableError: as `Pool.engine`.
        """
        with self._pool.engine() as engine:
            self._hold(engine)
            self.check()
            try:
                yield engine
            finally:
                self._hold(None)

    def find_table(self, name: str) -> Table | None:
        """Return one of the job's tables, as `Pool.find_table`."""
        return self._pool.find_table(name)

    def check(self) -> None:
        """Raise if the session was cancelled.

        Raises:
            QueryCancelledError: the session was cancelled.
        """
        if self._is_cancelled:
            raise QueryCancelledError("query cancelled: the client disconnected")

    def each(self, found: Iterable[Item]) -> Iterator[Item]:
        """Yield the items until the session is cancelled.

        Raises:
            QueryCancelledError: the session was cancelled.
        """
        for one in found:
            self.check()
            yield one

    def cancel(self) -> None:
        """Stop the running query and reject later ones; call it repeatedly until the query has ended."""
        with self._lock:
            self._is_cancelled = True
            # A connection that was returned runs the query of another session.
            if self._engine is not None:
                self._engine.cancel()

    def _hold(self, engine: Engine | None) -> None:
        with self._lock:
            self._engine = engine


@contextmanager
def open_engine(settings: Settings, pool: EnginePool | None = None) -> Iterator[Engine]:
    """Lend a connection of `pool`, or of a pool that exists for the block only.

    Raises:
        SettingsError: the memory limit is not valid for DuckDB.
        QueryBusyError, QueryMemoryError, QueryError, UnreachableError: as `Pool.engine`.
    """
    with open_pool(settings, pool) as lent, lent.engine() as engine:
        yield engine


@contextmanager
def open_pool(settings: Settings, pool: EnginePool | None = None) -> Iterator[EnginePool]:
    """Lend `pool`, or one with a single connection that exists for the block only; raises as `Pool`."""
    if pool is not None:
        yield pool
        return
    with Pool(settings, connections=1) as own:
        yield own


def unlimited(settings: Settings) -> Settings:
    """Return settings without a user's time limit, for what compares whole days of trades."""
    return settings.model_copy(update={"query_timeout_seconds": SECONDS_MAX})


def retry_if_files_gone(report: Callable[Parameters, Report]) -> Callable[Parameters, Report]:
    """Retry a report, which loads its tables itself, if compaction or expiry removed a planned data file."""

    @wraps(report)
    def retrying(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Report:
        for _ in range(READS_MAX - 1):
            with suppress(FilesGoneError):
                return report(*args, **kwargs)
        return report(*args, **kwargs)

    return retrying


@contextmanager
def _translate_errors(limits: QueryLimits) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise QueryMemoryError(
            f"the query needs more memory than K2_QUERY_MEMORY_LIMIT={limits.memory}; narrow it, or raise the setting"
        ) from error
    except duckdb.IOException as error:
        if found := _MISSING_LOCAL_FILE.search(str(error)):
            message = missing_file_message(found[1])
            raise FileMissingError(f"a file of the table cannot be read: {message}") from error
        raise FilesGoneError(f"a file of the table cannot be read: {first_line(error)}") from error
    except duckdb.OutOfRangeException as error:
        raise QueryError(
            f"a number of the result is out of its type's range: {first_line(error)}; cast it to a larger type"
        ) from error
    except duckdb.Error as error:
        # What its reader of Parquet raises itself has neither a class nor a prefix of its own.
        is_of_reader = type(error) is duckdb.Error and " Error: " not in str(error)
        if not is_of_reader and not _DAMAGED_FILE.search(str(error)):
            raise
        raise FileDamagedError(
            f"a file of the table is damaged: {first_line(error)}; restore it from a backup of the warehouse"
        ) from error


def _data_folders(settings: Settings, tables: TableCache) -> list[str]:
    """Return the local folders of the tables' data files, each with a trailing slash."""
    locations = [str(settings.data_dir.absolute() / "warehouse")]
    for name in JOB_TABLES:
        table = tables.find(name)
        if table is not None:
            path = table.metadata.properties.get("write.data.path", f"{table.location()}/data")
            locations.append(path)
    parsed = (PyArrowFileIO.parse_location(location) for location in locations)
    return sorted({f"{path.rstrip('/')}/" for scheme, _, path in parsed if scheme == "file"})
