"""The engine: a table's rows as DuckDB sees them, within limits."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.types import StringType

from k2.iceberg.tables import TableName
from k2.model.errors import K2Error, SettingsError, TableError, UnreachableError
from k2.ops.settings import Settings
from k2.query import engine as engine_module
from k2.query.engine import Engine, QueryLimits, QueryMemoryError, QueryTimeoutError
from k2.query.pool import FileDamagedError, open_engine
from tests.query.tables import EPOCH, append, made, trade


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a folder whose name contains characters special to globs and URLs."""
    return Settings(data_dir=tmp_path / "a b[c]*é")


@pytest.fixture
def trades(settings: Settings) -> Table:
    """Return the empty table."""
    return made(settings, TableName.TRADES)


def shown(settings: Settings, table: Table, sql: str) -> list[dict[str, object]]:
    """Run one query on the table, under the name `trades`."""
    with open_engine(settings) as engine:
        engine.register("trades", table)
        return engine.query(sql)


def test_an_empty_table_has_its_columns(settings: Settings, trades: Table) -> None:
    """A table without files returns no rows, with the right types."""
    assert shown(settings, trades, 'SELECT * FROM trades WHERE price > 1 AND "offset" = 1') == []
    types = {row["column_name"]: row["column_type"] for row in shown(settings, trades, "DESCRIBE trades")}
    append(trades, [trade(1)])
    assert types == {row["column_name"]: row["column_type"] for row in shown(settings, trades, "DESCRIBE trades")}


def test_values_are_exact(settings: Settings, trades: Table) -> None:
    """Decimals are exact, times in UTC, and columns come from the files, not from folder names."""
    row = {**trade(1, exchange="a/b=c d%20é"), "price": Decimal("0.000000000000000001")}
    append(trades, [row])
    assert shown(settings, trades, "SELECT * FROM trades") == [row]


def test_an_earlier_snapshot(settings: Settings, trades: Table) -> None:
    """A snapshot shows the rows of its time."""
    append(trades, [trade(1)])
    snapshot = trades.current_snapshot()
    assert snapshot is not None
    append(trades, [trade(2)])
    with open_engine(settings) as engine:
        engine.register("earlier", trades, snapshot_id=snapshot.snapshot_id)
        engine.register("latest", trades)
        counts = engine.query("SELECT (SELECT count(*) FROM earlier) AS a, (SELECT count(*) FROM latest) AS b")
    assert counts == [{"a": 1, "b": 2}]


def test_files_without_matching_rows_are_skipped(settings: Settings, trades: Table) -> None:
    """With a filter on the partition, files of other partitions are not opened."""
    append(trades, [trade(1, "binance"), trade(2, "kraken")])
    with open_engine(settings) as engine:
        engine.register("trades", trades, row_filter=EqualTo("exchange", "kraken"))  # type: ignore[call-arg,arg-type]
        assert engine.query("SELECT exchange FROM trades") == [{"exchange": "kraken"}]


def test_delete_files_are_rejected(settings: Settings, trades: Table) -> None:
    """Rows removed by another engine's delete files are never shown; a query of other files still works."""
    append(trades, [trade(1, "binance"), trade(2, "kraken")])
    (file,) = (task.file for task in trades.scan(row_filter="exchange = 'kraken'").plan_files())
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=f"{file.file_path}-deletes",
        file_format=FileFormat.PARQUET,
        partition=file.partition,
        record_count=1,
        file_size_in_bytes=1,
    )
    deletes.spec_id = file.spec_id
    with trades.transaction() as transaction, transaction.update_snapshot().fast_append() as append_deletes:
        append_deletes.append_data_file(deletes)
    with open_engine(settings) as engine:
        with pytest.raises(TableError, match="delete files"):
            engine.register("trades", trades)
        engine.register("trades", trades, row_filter=EqualTo("exchange", "binance"))  # type: ignore[call-arg,arg-type]
        assert engine.query("SELECT exchange FROM trades") == [{"exchange": "binance"}]


def test_a_replaced_column_has_no_old_values(settings: Settings, trades: Table) -> None:
    """A column that was deleted and added again is null in older files: columns are found by field id."""
    append(trades, [trade(1)])
    for change in (lambda update: update.delete_column("side"), lambda update: update.add_column("side", StringType())):
        with trades.update_schema(allow_incompatible_changes=True) as update:
            change(update)
    append(trades, [trade(2)])
    with open_engine(settings) as engine:
        engine.register("trades", trades)
        rows = engine.query("SELECT sequence, side, price FROM trades ORDER BY sequence")
    assert [(row["sequence"], row["side"]) for row in rows] == [(1, None), (2, trade(2)["side"])]
    assert rows[0]["price"] == trade(1)["price"]


def test_a_renamed_column_elsewhere_is_rejected(
    settings: Settings, trades: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Arrow columns are found by name, so names that changed their meaning are an error and no wrong answer."""
    append(trades, [trade(1)])
    with trades.update_schema(allow_incompatible_changes=True) as update:
        update.rename_column("side", "taker")
    monkeypatch.setattr(Engine, "_is_readable", lambda *_: False)
    with (
        open_engine(settings) as engine,
        pytest.raises(TableError, match=r"market_data\.trades: another program renamed"),
    ):
        engine.register("trades", trades)


def test_files_elsewhere_are_read_by_pyiceberg(
    settings: Settings, trades: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that DuckDB cannot reach are read by PyIceberg: the same rows."""
    append(trades, [trade(1)])
    local = shown(settings, trades, "SELECT * FROM trades")
    monkeypatch.setattr("k2.query.engine.LOCAL_SCHEMES", set())
    assert shown(settings, trades, "SELECT * FROM trades") == local


def test_a_query_that_takes_too_long_is_stopped(settings: Settings) -> None:
    """A query ends at its time limit with an error that names the setting; the engine remains usable."""
    hurried = settings.model_copy(update={"query_timeout_seconds": 0.2})
    with open_engine(hurried) as engine:
        begun = time.monotonic()
        with pytest.raises(QueryTimeoutError, match="K2_QUERY_TIMEOUT_SECONDS") as caught:
            engine.query("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7")
        assert isinstance(caught.value, K2Error)
        assert time.monotonic() - begun < timedelta(seconds=30).total_seconds()
        assert engine.query("SELECT 1 AS one") == [{"one": 1}]


def test_limits_are_the_settings() -> None:
    """The memory limit is the setting's, and the time zone is not read from the environment."""
    with open_engine(Settings(query_memory_limit="512MiB")) as engine:
        (row,) = engine.query("SELECT current_setting('memory_limit') AS limit, current_setting('TimeZone') AS zone")
    assert row == {"limit": "512.0 MiB", "zone": "UTC"}


def test_memory_limit_errors_name_the_setting() -> None:
    """A limit that DuckDB cannot have is a wrong setting; a query that exceeds the limit ends."""
    with (
        pytest.raises(SettingsError, match=r"K2_QUERY_MEMORY_LIMIT=99999999TB: .*out of range"),
        open_engine(Settings(query_memory_limit="99999999TB")),
    ):
        pass
    with (
        pytest.raises(QueryMemoryError, match="needs more memory than K2_QUERY_MEMORY_LIMIT=1KB"),
        open_engine(Settings(query_memory_limit="1KB")) as engine,
    ):
        engine.query("SELECT count(*) FROM (SELECT DISTINCT range FROM range(100000))")


def test_a_lost_file_is_named(settings: Settings, trades: Table) -> None:
    """A data file that the table lists and the storage lacks is an error, not an empty table."""
    append(trades, [trade(1)])
    (file,) = settings.data_dir.rglob("*.parquet")
    file.unlink()
    with pytest.raises(UnreachableError, match=rf"a file of the table cannot be read: .*{file.name}"):
        shown(settings, trades, "SELECT * FROM trades")


@pytest.mark.parametrize("length", [0, 100, -1], ids=["empty", "cut", "without its last byte"])
def test_a_damaged_file_is_named(settings: Settings, trades: Table, length: int) -> None:
    """A data file that was cut is an error in one sentence."""
    append(trades, [trade(1)])
    (file,) = settings.data_dir.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(FileDamagedError, match=rf"a file of the table is damaged: .*{file.name}.*; restore it"):
        shown(settings, trades, "SELECT * FROM trades")


def test_a_file_with_other_bytes_is_named(settings: Settings, trades: Table) -> None:
    """Whatever byte of its pages changes: rows, perhaps others than before, or an error in one sentence."""
    append(trades, [trade(number) for number in range(500)])
    (file,) = settings.data_dir.rglob("*.parquet")
    content = file.read_bytes()
    errors = 0
    for at in range(4, len(content), 97):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            shown(settings, trades, "SELECT bit_xor(hash(trades)) AS x FROM trades")
        except K2Error:
            errors += 1
    assert errors


def test_a_lost_manifest_list_is_named(settings: Settings, trades: Table) -> None:
    """A file that expiry deleted between the catalog's response and the read is reported like a lost data file."""
    append(trades, [trade(1)])
    snapshot = trades.current_snapshot()
    assert snapshot is not None
    Path(snapshot.manifest_list.removeprefix("file://")).unlink()
    with pytest.raises(UnreachableError, match="snap-"):
        shown(settings, trades, "SELECT * FROM trades")


def test_an_interrupt_leaves_no_view() -> None:
    """The views of one query are gone for the next, whatever interrupts arrive while they are dropped."""
    ended = threading.Event()
    connection = duckdb.connect()
    engine = Engine(connection, QueryLimits(60, "1GB", 1_000))

    def interrupt() -> None:
        while not ended.is_set():
            engine.cancel()
            # Much more often than any caller, but with time for a statement to end in between.
            time.sleep(0.001)

    with ThreadPoolExecutor(1) as thread:
        interrupting = thread.submit(interrupt)
        try:
            for number in range(200):
                with suppress(duckdb.InterruptException):
                    engine.register_arrow("trades", pa.table({"number": [number]}))
                engine.clear()
        finally:
            ended.set()
        interrupting.result()
    assert connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == []


def test_a_file_that_arrow_lost_is_named(tmp_path: Path) -> None:
    """Files read through Arrow, such as those on S3, are reported the same way."""
    path = tmp_path / "one.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    rows = ds.dataset(path)
    path.unlink()

    def ask() -> None:
        with open_engine(Settings()) as engine:
            engine.register_arrow("rows", rows)
            engine.query("SELECT x FROM rows")

    with pytest.raises(UnreachableError, match=rf"^a file of the table cannot be read: .*{path.name}"):
        ask()


def test_values_are_parameters() -> None:
    """A value is never part of the statement."""
    with open_engine(Settings()) as engine:
        engine.register_arrow("one", pa.table({"x": ["'; DROP"]}))
        assert engine.query("SELECT x FROM one WHERE x = $x", {"x": "'; DROP"}) == [{"x": "'; DROP"}]
        assert engine.query("SELECT $t::TIMESTAMPTZ AS t", {"t": EPOCH}) == [{"t": EPOCH}]


def test_an_engine_ends_with_its_block() -> None:
    """The connection is closed after the block."""
    with open_engine(Settings()) as engine:
        assert isinstance(engine, Engine)
    with pytest.raises(duckdb.ConnectionException):
        engine.query("SELECT 1")


class Interrupted:
    """Reads results as the engine does, except that the first reads report an interrupt in place of the error."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._read = engine_module._read

    def __call__(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """Yield the batches."""
        if self.left:
            self.left -= 1
            raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")
        yield from self._read(reader)


FAILS = "SELECT CAST(CASE WHEN range < 500000 THEN '1' ELSE 'x' END AS INTEGER) AS n FROM range(1000000)"


@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupt_that_hides_an_error_is_not_a_timeout(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """If one of DuckDB's threads fails, another may report an interrupt: the statement's own error is raised."""
    monkeypatch.setattr(engine_module, "_read", Interrupted(count))
    with (
        open_engine(Settings()) as engine,
        pytest.raises(duckdb.Error, match="Could not convert string 'x' to INT32"),
        engine.rows(FAILS) as rows,
    ):
        list(rows.batches)


def test_an_interrupt_without_an_error_is_not_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of a time limit that was not reached, and the statement is not run for ever."""
    reads = Interrupted(1_000)
    monkeypatch.setattr(engine_module, "_read", reads)
    with open_engine(Settings()) as engine, pytest.raises(duckdb.InterruptException):
        engine.query(FAILS)
    assert 1_000 - reads.left == 1 + engine_module.RERUNS_MAX
