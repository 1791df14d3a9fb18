"""A catalog that is gone, replaced or damaged while its warehouse is there, and files that a table has lost."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from pyiceberg.table import Table

from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName, connect
from k2.model.errors import CatalogError, K2Error
from k2.ops.settings import Settings
from k2.query.market import open_market
from k2.query.query_builders import symbols
from k2.storage import catalog as catalog_module
from k2.storage.catalog import find_table, open_catalog
from tests.query.tables import append, made, trade

THREADS = 8
SECONDS_MAX = 5
"""Less than the first two waits of the retries."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a folder of their own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def table(settings: Settings) -> Table:
    """Return a table `trades` with one row."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0)])
    return table


def query(settings: Settings) -> object:
    """Ask for the symbols."""
    with open_market(settings) as market:
        return market.table(symbols())


def forget(settings: Settings) -> None:
    """Remove the catalog's database, with the files that SQLite keeps next to it."""
    for file in settings.data_dir.glob("catalog.db*"):
        file.unlink()


def start(settings: Settings) -> object:
    """Open the table as the job does."""
    return connect(settings, TableName.TRADES)


def start_of_ledger(settings: Settings) -> object:
    """Open a table that was not created yet."""
    return connect(settings, TableName.SEQUENCE_EVENTS)


uses = pytest.mark.parametrize("use", [query, read_progress, start_of_ledger])
Use = Callable[[Settings], object]


@uses
@pytest.mark.parametrize("left", ["nothing", "an empty file", "another database"])
def test_a_lost_catalog_is_refused(settings: Settings, table: Table, use: Use, left: str) -> None:
    """In one sentence that names the commands; nothing is created, and another namespace's tables do not count."""
    forget(settings)
    database = settings.data_dir / "catalog.db"
    if left == "an empty file":
        database.touch()
    if left == "another database":
        made(settings.model_copy(update={"namespace": "other"}), TableName.TRADES)
    before = sorted(settings.data_dir.rglob("*.metadata.json"))
    with pytest.raises(
        CatalogError, match=r"has files; .*`k2 catalog register`.*`k2 catalog restore FILE`.*K2_DATA_DIR"
    ):
        use(settings)
    assert database.exists() == (left != "nothing")
    assert sorted(settings.data_dir.rglob("*.metadata.json")) == before


@uses
def test_a_lost_configured_catalog_is_refused(
    settings: Settings, table: Table, use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So is one that PyIceberg is configured for, if it lacks the namespace whose tables have files."""
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", f"sqlite:///{tmp_path / 'new.db'}")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__WAREHOUSE", f"file://{settings.data_dir / 'warehouse'}")
    with pytest.raises(CatalogError, match="catalog 'k2' has no namespace market_data, but "):
        use(settings)


@pytest.mark.parametrize(
    "left", ["no folder", "an empty folder", "empty folders", "a database", "a namespace", "files"]
)
def test_an_unfinished_first_start_is_continued(settings: Settings, left: str) -> None:
    """Whatever a crash left of it: the database and the namespace are created before the first file."""
    folder = settings.data_dir / "warehouse" / "market_data" / "trades"
    if left == "an empty folder":
        (settings.data_dir / "warehouse").mkdir(parents=True)
    elif left == "empty folders":
        (folder / "metadata").mkdir(parents=True)
    elif left != "no folder":
        catalog = open_catalog(settings)
        if left != "a database":
            catalog.create_namespace("market_data")
        if left == "files":
            (folder / "metadata").mkdir(parents=True)
            (folder / "metadata" / "00000-00000000-0000-0000-0000-000000000000.metadata.json").touch()
    assert find_table(settings, "trades") is None
    assert connect(settings, TableName.TRADES).metadata.snapshots == []


def test_several_processes_can_start_first(settings: Settings) -> None:
    """Each opens the same tables."""
    together = Barrier(THREADS)

    def make(_: int) -> tuple[str, ...]:
        together.wait()
        find_table(settings, "commits")
        return tuple(str(connect(settings, which).metadata.table_uuid) for which in TableName)

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(make, range(THREADS)))) == 1


@pytest.mark.parametrize("use", [read_progress, start])
def test_another_process_that_is_faster_is_no_lost_catalog(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    """Another process creates everything while this one looks at the warehouse."""
    look, todo = catalog_module.table_with_files, [lambda: made(settings, TableName.TRADES)]

    def look_later(*given: object) -> object:
        while todo:
            todo.pop()()
        return look(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog_module, "table_with_files", look_later)
    use(settings)
    assert connect(settings, TableName.TRADES).metadata.snapshots == []


def test_a_dropped_table_is_created_again(settings: Settings, table: Table) -> None:
    """Its files are left, but the catalog is the same: it was dropped on purpose."""
    open_catalog(settings).drop_table(("market_data", "trades"))
    assert find_table(settings, "trades") is None
    assert connect(settings, TableName.TRADES).metadata.table_uuid != table.metadata.table_uuid


@pytest.mark.parametrize(
    ("use", "harm", "is_configured"),
    [
        (query, "torn", False),
        (read_progress, "not a database", False),
        (start, "torn", False),
        (start, "torn", True),
        (read_progress, "not a database", True),
    ],
)
def test_a_corrupt_catalog_is_named(
    settings: Settings, table: Table, use: Use, harm: str, monkeypatch: pytest.MonkeyPatch, *, is_configured: bool
) -> None:
    """With its file and what to do, at once."""
    database = settings.data_dir / "catalog.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = database.read_bytes()
    forget(settings)
    database.write_bytes(b"hello" * 1_000 if harm == "not a database" else content[:4096] + b"x" * 8192)
    if is_configured:
        monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", f"sqlite:///{database}")
        monkeypatch.setenv("PYICEBERG_CATALOG__K2__WAREHOUSE", f"file://{settings.data_dir / 'warehouse'}")
    begun = time.monotonic()
    with pytest.raises(CatalogError, match=rf"^the catalog {database} is corrupt: .*; restore a backup .*register`$"):
        use(settings)
    assert time.monotonic() - begun < SECONDS_MAX


@pytest.mark.parametrize("use", [query, read_progress, start])
def test_a_missing_metadata_file_is_named_at_once(settings: Settings, table: Table, use: Use) -> None:
    """A retry would not help; the message names the file and what to do."""
    file = Path(table.metadata_location.removeprefix("file://"))
    file.unlink()
    begun = time.monotonic()
    with pytest.raises(CatalogError, match=rf"^opening table market_data.trades failed: {file} is missing; restore it"):
        use(settings)
    assert time.monotonic() - begun < SECONDS_MAX


@pytest.mark.parametrize("pattern", ["*.parquet", "snap-*.avro", "*-m0.avro"])
def test_a_missing_file_of_a_query_is_named_at_once(settings: Settings, table: Table, pattern: str) -> None:
    """It is a permanent fault, with exit code 1, for files that DuckDB, PyIceberg or Arrow read."""
    (file,) = (settings.data_dir / "warehouse").rglob(pattern)
    file.unlink()
    with pytest.raises(K2Error, match=rf"^a file of the table cannot be read: {file} is missing; restore it") as caught:
        query(settings)
    assert caught.value.exit_code == 1


def test_a_warehouse_that_is_gone_too_is_a_first_start(settings: Settings, table: Table) -> None:
    """Without files there is nothing to bring back."""
    forget(settings)
    shutil.rmtree(settings.data_dir / "warehouse")
    assert find_table(settings, "trades") is None
    connect(settings, TableName.TRADES)
