"""The metrics of the last commit when a job starts: those of the table, not those of a process that knows nothing."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2.iceberg.last_commit import report_last_commit
from k2.iceberg.tables import TableName, connect
from k2.model.canary import CanarySymbol
from k2.ops.metrics import FRESHNESS_SECONDS, LAST_COMMIT
from k2.ops.settings import Settings
from tests.iceberg.trades_table import DAY, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a job in a folder of its own."""
    return settings_in(tmp_path)


def reported(table: Table, canary_exchange: str | None = None) -> tuple[float, float]:
    """Return the time of the last commit and its freshness, as a start reports them."""
    LAST_COMMIT.set(0)
    FRESHNESS_SECONDS.set(0)
    report_last_commit(table, canary_exchange)
    return LAST_COMMIT._value.get(), FRESHNESS_SECONDS._value.get()


def test_a_new_table_has_none(settings: Settings) -> None:
    """What is not known is not 0."""
    assert all(map(math.isnan, reported(connect(settings, TableName.TRADES))))


def test_they_are_those_of_the_newest_commit_with_rows(settings: Settings) -> None:
    """The newest trade is that of the commit, over all of its files; a later commit without rows has none."""
    writer = writer_of(settings)
    now_us = time.time_ns() // 1_000
    ages_us = (3 * DAY, 90_000_000, 2 * DAY)
    writer.write_batch([slice_of([row_at(at, timestamp=now_us - age) for at, age in enumerate(ages_us)]), read_to(3)])
    writer.snapshot()
    committed_at, freshness = reported(connect(settings, TableName.TRADES))
    assert time.time() - 60 < committed_at <= time.time()
    assert freshness == pytest.approx(90 + committed_at - now_us / 1_000_000, abs=0.001)
    writer.write_batch([read_to(5, rejected=[3, 4])])
    writer.snapshot()
    later, same = reported(connect(settings, TableName.TRADES))
    assert later > committed_at
    assert same == freshness


def test_the_canary_is_not_fresh(settings: Settings) -> None:
    """Its trades count neither at a commit nor at a start, so they do not hide that the others are late."""
    canary, now_us = CanarySymbol("k2-canary", "c"), time.time_ns() // 1_000
    writer = writer_of(settings)
    writer._canary = canary
    rows = [row_at(0, timestamp=now_us - 90_000_000), row_at(1, exchange=canary.exchange, symbol="c", timestamp=now_us)]
    writer.write_batch([replace(slice_of(rows), group=canary.group), read_to(2)])
    writer.snapshot()
    assert 90 <= FRESHNESS_SECONDS._value.get() < 150
    table = connect(settings, TableName.TRADES)
    assert 90 <= reported(table, canary.exchange)[1] < 150
    assert reported(table)[1] < 60
    FRESHNESS_SECONDS.set(7)
    writer = writer_of(settings)
    writer._canary = canary
    writer.write_batch([replace(slice_of([rows[1]._replace(offset=2)]), group=canary.group), read_to(3)])
    writer.snapshot()
    assert FRESHNESS_SECONDS._value.get() == 7


def test_a_snapshot_that_has_expired_has_no_freshness(settings: Settings) -> None:
    """The time of the commit is noted; its files can no longer be found by their snapshot."""
    writer = writer_of(settings)
    writer.write_batch([slice_of([row_at(0)]), read_to(1)])
    writer.snapshot()
    table = connect(settings, TableName.TRADES)
    first = table.current_snapshot()
    assert first is not None
    writer.write_batch([read_to(2, rejected=[1])])
    writer.snapshot()
    table.refresh()
    table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    committed_at, freshness = reported(table.refresh())
    assert committed_at > 0
    assert math.isnan(freshness)
