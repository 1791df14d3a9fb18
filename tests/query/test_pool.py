"""The pool: few connections for many clients, each query within limits, and no access outside the tables' folders."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import Engine, QueryCancelledError, QueryError, QueryMemoryError, QueryTimeoutError
from k2.query.pool import Pool, QueryBusyError
from tests.query.tables import append, made, trade

CROSS_JOIN = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7"
RECURSIVE = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"


def pool_with(**settings: object) -> Pool:
    """Return a pool without tables."""
    return Pool(Settings(**settings))  # type: ignore[arg-type]


def test_fifty_clients_share_five_connections() -> None:
    """At most five queries run at a time, each client is served, and all connections are returned."""
    running, most, lock = 0, 0, threading.Lock()

    def ask(pool: Pool, client: int) -> int:
        nonlocal running, most
        with pool.engine() as engine:
            with lock:
                running += 1
                most = max(most, running)
            (row,) = engine.query("SELECT $client AS client, count(*) AS n FROM range(20000)", {"client": client})
            with lock:
                running -= 1
        return int(row["client"])

    with pool_with() as pool, ThreadPoolExecutor(50) as clients:
        answers = [*clients.map(lambda client: ask(pool, client), range(200))]
        assert answers == [*range(200)]
        assert most == 5
        assert pool._free.qsize() == 5


def test_a_client_that_waits_too_long_gets_an_error() -> None:
    """While all connections are in use a client waits up to the query limit; then the error names the setting."""
    with pool_with(query_connections=1, query_timeout_seconds=0.2) as pool:
        with pool.engine():
            begun = time.monotonic()
            with pytest.raises(QueryBusyError, match="raise K2_QUERY_CONNECTIONS"), pool.engine():
                pass
            assert 0.2 <= time.monotonic() - begun < 5
        with pool.engine() as engine:
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize("sql", [CROSS_JOIN, RECURSIVE])
def test_an_endless_query_is_stopped_in_time(sql: str) -> None:
    """It ends within a second of its limit, and the connection is usable afterwards."""
    with pool_with(query_connections=1, query_timeout_seconds=0.3) as pool:
        begun = time.monotonic()
        with pytest.raises(QueryTimeoutError, match=r"longer than 0\.3 s"), pool.engine() as engine:
            engine.query(sql)
        assert time.monotonic() - begun < 1.3
        with pool.engine() as engine:
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]


def test_slow_reading_counts_towards_the_limit() -> None:
    """The time limit covers the whole result: a client that reads it too slowly gets an error."""

    def read_slowly(engine: Engine) -> None:
        with engine.rows("SELECT * FROM range(100000000)") as rows:
            for _ in rows.batches:
                time.sleep(0.05)

    with pool_with(query_timeout_seconds=0.3) as pool, pool.engine() as engine, pytest.raises(QueryTimeoutError):
        read_slowly(engine)


def test_a_query_can_be_cancelled() -> None:
    """If its client leaves, the query stops with an error of its own, and the connection is usable."""
    with pool_with(query_connections=1) as pool:
        with pool.engine() as engine:
            threading.Timer(0.2, engine.cancel).start()
            begun = time.monotonic()
            with pytest.raises(QueryCancelledError):
                engine.query(CROSS_JOIN)
            assert time.monotonic() - begun < 5
        with pool.engine() as engine:
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]


def test_too_much_memory_is_rejected() -> None:
    """Neither a query nor its result uses more than the limit, and the process continues."""
    with pool_with(query_memory_limit="50MB", query_connections=1) as pool:
        with pytest.raises(QueryMemoryError, match="K2_QUERY_MEMORY_LIMIT=50MB"), pool.engine() as engine:
            engine.query("SELECT list(repeat('x', 1000) || range) AS l FROM range(1000000)")
        with pytest.raises(QueryMemoryError, match="the result is larger"), pool.engine() as engine:
            engine.table("SELECT range, range AS twice FROM range(10000000)")
        with pool.engine() as engine:
            assert engine.query("SELECT 1 AS one") == [{"one": 1}]


def test_a_database_with_an_internal_error_is_reopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of DuckDB fails one query, not all later ones."""
    with pool_with(query_connections=2) as pool:
        with pytest.raises(QueryError, match="was restarted"), pool.engine():
            raise duckdb.FatalException("database has been invalidated")
        with pool.engine() as one, pool.engine() as other:
            assert one.query("SELECT 1 AS one") == other.query("SELECT 1 AS one")


def test_views_of_two_queries_are_separate(tmp_path: Path) -> None:
    """Each connection has its own tables under the usual names, and none of the query before."""
    settings = Settings(data_dir=tmp_path, query_connections=2)
    table = made(settings, TableName.TRADES)
    append(table, [trade(1)])
    earlier = table.current_snapshot()
    assert earlier is not None
    append(table, [trade(2)])
    with Pool(settings) as pool:
        with pool.engine() as one, pool.engine() as other:
            one.register("trades", table, snapshot_id=earlier.snapshot_id)
            other.register("trades", table)
            counts = [engine.query("SELECT count(*) AS n FROM trades")[0]["n"] for engine in (one, other)]
            assert counts == [1, 2]
        for _ in range(2):
            with pytest.raises(duckdb.CatalogException), pool.engine() as engine:
                engine.query("SELECT * FROM trades")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('{folder}/secret.txt')",
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.db'",
        "EXPORT DATABASE '{folder}/export'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET GLOBAL enable_external_access = true",
        "RESET allowed_directories",
        "SELECT * FROM pool_with",
    ],
)
def test_no_statement_reaches_outside_the_database(sql: str, tmp_path: Path) -> None:
    """No file is read or written, nothing is loaded and no setting changed, whatever is run."""
    (tmp_path / "secret.txt").write_text("secret")
    refused = (duckdb.PermissionException, duckdb.InvalidInputException, duckdb.CatalogException)
    with pool_with(data_dir=tmp_path / "data") as pool, pool.engine() as engine, pytest.raises(refused):
        engine.query(sql.format(folder=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} <= {"secret.txt", "data"}
