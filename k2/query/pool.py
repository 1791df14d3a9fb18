"""DuckDB in memory with a few connections, each lent to one query at a time."""

import queue
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

from k2.model.errors import K2Error, SettingsError, UnreachableError
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryCancelledError, QueryError, QueryLimits, QueryMemoryError
from k2.query.manifests import ManifestCache
from k2.query.table_cache import TableCache

__all__ = [
    "READS_MAX",
    "CancellableSession",
    "EnginePool",
    "FilesGoneError",
    "Pool",
    "QueryBusyError",
    "first_line",
    "open_engine",
    "retry_if_files_gone",
]

TABLES: Final = ("trades", "sequence_events", "commits")
READS_MAX: Final = 3
"""How often a query is begun again where files that it was to read are gone: a compaction replaced them."""
Item = TypeVar("Item")
Given = ParamSpec("Given")
Report = TypeVar("Report")


class QueryBusyError(K2Error, TimeoutError):
    """All connections are taken, and were for as long as one may wait."""

    exit_code = 3


class FilesGoneError(UnreachableError):
    """A file of a table cannot be read: its store does not answer, or a compaction or an expiry took it away."""


class EnginePool(Protocol):
    """What lends connections."""

    @property
    def settings(self) -> Settings:
        """Where the tables are."""

    def engine(self) -> AbstractContextManager[Engine]:
        """Lend one for a block."""

    def find_table(self, name: str) -> Table | None:
        """Return one of the job's tables as it is now; None where there is none."""


class Pool:
    """A database in memory with the settings' memory limit, and `K2_QUERY_CONNECTIONS` connections to it.

    It can read the tables' data files and nothing else: no other file, no extension, nothing from the network, and
    none of that can be changed. What does not fit into memory spills to a folder that goes with the pool.
    """

    def __init__(self, settings: Settings, connections: int | None = None) -> None:
        """Open it; `connections` wins over the setting.

        Raises:
            SettingsError: the memory limit is none that DuckDB can have.
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
        """Where the tables are."""
        return self._settings

    @property
    def folders(self) -> tuple[str, ...]:
        """The local folders in which the tables' files are."""
        return tuple(self._folders)

    def close(self) -> None:
        """Close the database; queries that still run are stopped."""
        self._opened.close()
        self._tables.close()

    def find_table(self, name: str) -> Table | None:
        """Return one of the job's tables as it is now; None where there is none.

        Raises:
            UnreachableError: the catalog does not answer, after retries.
        """
        return self._tables.find(name)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Lend a connection; it waits for one at most as long as a query may take.

        Raises:
            QueryBusyError: none came free.
            QueryMemoryError: within the block, a query needs more memory than there is.
            QueryError: within the block, a query cannot be answered as it is asked.
            UnreachableError: within the block, a file of a table cannot be read.
        """
        free = self._free
        try:
            connection = free.get(timeout=self._limits.timeout_seconds)
        except queue.Empty:
            raise QueryBusyError(
                f"all {self._count} connections were taken for {self._limits.timeout_seconds:g} s; "
                "try again, or raise K2_QUERY_CONNECTIONS"
            ) from None
        engine = Engine(connection, self._limits, self._folders, self._manifests)
        try:
            with _faults_named(self._limits):
                yield engine
        except (duckdb.FatalException, duckdb.InternalException) as error:
            self._renew(free)
            raise QueryError(f"DuckDB failed at the query, and was started again: {first_line(error)}") from error
        finally:
            with suppress(duckdb.Error):
                engine.clear()
            free.put(connection)

    def _renew(self, broken: "queue.Queue[duckdb.DuckDBPyConnection]") -> None:
        """Open another database: one that failed within itself answers no query any more."""
        with self._renewal:
            if self._free is broken:
                self._opened.close()
                self._opened, self._free = self._open()

    def _open(self) -> "tuple[ExitStack, queue.Queue[duckdb.DuckDBPyConnection]]":
        free: queue.Queue[duckdb.DuckDBPyConnection] = queue.Queue()
        with ExitStack() as stack:
            database = stack.enter_context(self._database(stack.enter_context(_spill_folder())))
            for number in range(self._count):
                connection = stack.enter_context(database.cursor())
                # Views are of a schema, and those of two queries have one name.
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
                    # A name in a statement is never a variable of this program.
                    "python_enable_replacements": "false",
                    # Of a join's few keys DuckDB makes a list for Arrow to filter by, and of times asks for pytz.
                    "dynamic_or_filter_threshold": "0",
                }
            )
        except duckdb.ParserException as error:
            raise SettingsError(f"K2_QUERY_MEMORY_LIMIT={limit}: {first_line(error)}") from error


class CancellableSession:
    """One who asks on a pool's connections, and may go away before the answer is there."""

    def __init__(self, pool: EnginePool) -> None:
        """Ask on the connections of a pool."""
        self._pool = pool
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._is_gone = False

    @property
    def settings(self) -> Settings:
        """Where the tables are."""
        return self._pool.settings

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Lend a connection.

        Raises:
            QueryCancelledError: the caller is gone.
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
        """Go on only where somebody waits for the answer.

        Raises:
            QueryCancelledError: nobody does.
        """
        if self._is_gone:
            raise QueryCancelledError("nobody waits for the answer any more")

    def each(self, found: Iterable[Item]) -> Iterator[Item]:
        """Yield one after the other, as long as somebody waits.

        Raises:
            QueryCancelledError: nobody does.
        """
        for one in found:
            self.check()
            yield one

    def leave(self) -> None:
        """Stop what is asked, and all that would come; to be called again until it has ended."""
        with self._lock:
            self._is_gone = True
            # A connection that was given back runs another's query.
            if self._engine is not None:
                self._engine.cancel()

    def _hold(self, engine: Engine | None) -> None:
        with self._lock:
            self._engine = engine


@contextmanager
def open_engine(settings: Settings, pool: EnginePool | None = None) -> Iterator[Engine]:
    """Lend a connection of a pool; where there is none, of one that ends with the block.

    Raises:
        SettingsError: the memory limit is none that DuckDB can have.
        QueryBusyError, QueryMemoryError, QueryError, UnreachableError: as `Pool.engine`.
    """
    if pool is not None:
        with pool.engine() as engine:
            yield engine
        return
    with Pool(settings, connections=1) as own, own.engine() as engine:
        yield engine


def retry_if_files_gone(report: Callable[Given, Report]) -> Callable[Given, Report]:
    """Have a report, which looks its tables up itself, begin again where a file was gone when it was to be read."""

    @wraps(report)
    def reporting(*given: Given.args, **named: Given.kwargs) -> Report:
        for _ in range(READS_MAX - 1):
            with suppress(FilesGoneError):
                return report(*given, **named)
        return report(*given, **named)

    return reporting


@contextmanager
def _faults_named(limits: QueryLimits) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise QueryMemoryError(
            f"the query needs more memory than K2_QUERY_MEMORY_LIMIT={limits.memory} gives it; raise it"
        ) from error
    except duckdb.IOException as error:
        raise FilesGoneError(f"a file of the table cannot be read: {first_line(error)}") from error
    except duckdb.OutOfRangeException as error:
        raise QueryError(f"a number of the result is beyond what its type can hold: {first_line(error)}") from error


def _spill_folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="k2-query-")


def _data_folders(settings: Settings, tables: TableCache) -> list[str]:
    """Return the local folders in which the tables' data files are, each with a slash at its end."""
    locations = [str(settings.data_dir.absolute() / "warehouse")]
    for name in TABLES:
        table = tables.find(name)
        if table is not None:
            path = table.metadata.properties.get("write.data.path", f"{table.location()}/data")
            locations.append(path)
    parsed = (PyArrowFileIO.parse_location(location) for location in locations)
    return sorted({f"{path.rstrip('/')}/" for scheme, _, path in parsed if scheme == "file"})


def first_line(error: duckdb.Error) -> str:
    """Return what an error says, without the excerpt of the statement that follows."""
    return str(error).partition("\n")[0]
