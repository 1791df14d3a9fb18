"""The table cache: each lookup sees the newest commit, although catalogs and metadata are cached."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

import k2.query.table_cache as lookup_module
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.market import Market, open_market
from k2.query.query_builders import symbols
from k2.query.table_cache import TableCache
from k2.storage.catalog import open_catalog
from tests.query.tables import append, made, trade


@pytest.fixture
def tables(settings: Settings) -> Iterator[TableCache]:
    """Yield the table cache; close it at the end."""
    tables = TableCache(settings)
    yield tables
    tables.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Record each opening of a catalog."""
    noted: list[Settings] = []
    monkeypatch.setattr(lookup_module, "open_catalog", lambda where: noted.append(where) or open_catalog(where))
    return noted


def found(tables: TableCache) -> Table:
    """Return the trades table."""
    table = tables.find(TableName.TRADES)
    assert table is not None
    return table


def test_each_commit_is_seen(settings: Settings, tables: TableCache, opened: list[Settings]) -> None:
    """By the next lookup; unchanged metadata is not parsed again, and one catalog object serves all."""
    table = made(settings, TableName.TRADES)
    for number in range(5):
        append(table, [trade(number)])
        now = found(tables)
        assert now.metadata_location == table.metadata_location
        assert now.metadata == table.metadata
        assert found(tables).metadata is now.metadata
        assert found(tables) is not now
    assert len(opened) == 1


def test_a_refreshed_table_does_not_affect_other_lookups(settings: Settings, tables: TableCache) -> None:
    """A caller that refreshes its table does not change the table of another."""
    table = made(settings, TableName.TRADES)
    given = found(tables)
    append(table, [trade(1)])
    assert given.refresh().current_snapshot() is not None
    assert found(tables).metadata is not given.metadata
    assert found(tables).current_snapshot() == given.current_snapshot()


def test_a_missing_table_is_looked_up_again(settings: Settings, tables: TableCache) -> None:
    """First no catalog, then no table, then both; a lookup creates nothing."""
    assert tables.find(TableName.TRADES) is None
    assert not settings.data_dir.exists()
    made(settings, TableName.COMMITS)
    assert [tables.find(TableName.TRADES) for _ in range(2)] == [None, None]
    made(settings, TableName.TRADES)
    assert found(tables).current_snapshot() is None


def test_a_recreated_table_is_another_table(settings: Settings, tables: TableCache) -> None:
    """With the same name, in the same catalog or in one that has replaced it."""
    append(made(settings, TableName.TRADES), [trade(1)])
    first = found(tables)
    open_catalog(settings).drop_table(("market_data", "trades"))
    assert tables.find(TableName.TRADES) is None
    made(settings, TableName.TRADES)
    second = found(tables)
    shutil.rmtree(settings.data_dir)
    assert tables.find(TableName.TRADES) is None
    made(settings, TableName.TRADES)
    assert len({one.metadata.table_uuid for one in (first, second, found(tables))}) == 3


def test_a_failing_catalog_is_reopened(
    settings: Settings, tables: TableCache, opened: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, because a connection cached for long may be dead; a fault of the new one is raised."""
    made(settings, TableName.TRADES)
    found(tables)
    kept, known = tables._open.get_nowait(), tables._known
    known.clear()
    tables._open.put(kept)
    monkeypatch.setattr(kept[1], "load_table", _dead)
    assert found(tables).current_snapshot() is None
    assert len(opened) == 2
    assert tables._open.get_nowait()[1] is not kept[1]


def _dead(*_: Any) -> None:
    raise OperationalError("SELECT", {}, Exception("server closed the connection"))


def test_a_catalog_without_a_location_lookup_loads_the_table(
    settings: Settings, tables: TableCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As REST does: each lookup loads the table."""
    table = made(settings, TableName.TRADES)
    monkeypatch.setattr(lookup_module, "_location", lambda *_: None)
    for number in range(2):
        append(table, [trade(number)])
        first, second = found(tables), found(tables)
        assert first.metadata_location == second.metadata_location == table.metadata_location
        assert first.metadata is not second.metadata


def test_fifty_clients_see_earlier_commits(tmp_path: Path) -> None:
    """With one market, while the table is written: never fewer rows than before the query, and whole commits."""
    settings = Settings(data_dir=tmp_path)
    table, in_table = made(settings, TableName.TRADES), [0]
    append(table, [trade(number) for number in range(3)])
    in_table[0] = 3

    def count(market: Market) -> int:
        (row,) = market.table(symbols()).to_pylist()
        return int(row["trades"])

    def ask(market: Market) -> bool:
        before = in_table[0]
        found = count(market)
        return found >= before and found % 3 == 0

    with open_market(settings) as market, ThreadPoolExecutor(50) as clients:
        answers = clients.map(ask, [market] * 60)
        for commit in range(1, 5):
            append(table, [trade(commit * 3 + number) for number in range(3)])
            in_table[0] += 3
        assert all(answers)
        assert count(market) == 15
