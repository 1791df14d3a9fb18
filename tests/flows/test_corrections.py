"""Corrections through the real flow into real tables: each is a row once, and all that is received is accounted for."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from k2.iceberg.table_progress import read_progress
from k2.model.progress import TopicPartition
from k2.ops.failpoints import Name
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.query.corrections import corrections
from k2.query.history import history
from k2.query.reconcile import reconcile
from k2.storage.catalog import find_table
from tests.flows.crash import Crash, crashing
from tests.flows.stocks import MIXED, batch_of, cancelled, reconciled, rows_of, run, settings_of, traded


def test_corrections_are_rows_and_all_is_accounted_for(tmp_path: Path) -> None:
    """Entries of one message go each their way; a correction that is sent again is a duplicate."""
    settings = settings_of(tmp_path)
    run(settings, batch_of(MIXED))
    found = reconciled(settings)
    assert (found.received, found.stored, found.duplicates, found.skipped, found.corrections) == (11, 4, 2, 1, 4)
    assert found.holds
    [entry] = read_progress(settings).of("0").values()
    assert (entry.received, entry.stored, entry.duplicates, entry.corrections) == (11, 4, 2, 4)
    assert [(one.what, one.offset, one.index, one.trade_id, one.names_trade) for one in corrections(settings)] == [
        ("cancelled", 2, 0, "2026-11-27:D:1", True),
        ("corrected", 2, 2, "2026-11-27:D:2", True),
        ("corrected", 3, 0, "2026-11-27:D:12", True),
        ("cancelled", 4, 0, "2026-11-27:D:99", False),
    ]
    first, second = corrections(settings)[:2]
    assert (first.old_price, first.old_quantity, first.new_price) == (Decimal("126.55"), 10, None)
    assert (second.new_trade_id, second.new_price, second.new_quantity) == ("2026-11-27:D:12", Decimal("127.5"), 20)
    assert (second.old_conditions, second.new_conditions) == ('["@"]', '["@","I"]')
    assert [row["index"] for row in rows_of(settings, 'SELECT "index" FROM trades WHERE "offset" = 2')] == [1]
    assert audit(settings).adds_up
    assert [one["corrections"] for commit in audit(settings).commits for one in commit.partitions] == [4]
    assert sum(one.corrections for one in history(settings, timedelta(hours=1))) == 4


def test_the_view_has_trades_as_their_venue_left_them(tmp_path: Path) -> None:
    """Without cancelled ones, with the last values of a chain of corrections in place, and a column that says so."""
    settings = settings_of(tmp_path)
    run(settings, batch_of(MIXED))
    sql = "SELECT trade_id, price, quantity, correction FROM corrected_trades ORDER BY trade_id"
    assert [tuple(row.values()) for row in rows_of(settings, sql)] == [
        ("2026-11-27:D:13", Decimal("128.25"), 20, "corrected"),
        ("2026-11-27:D:3", Decimal("126.55"), 10, None),
        ("2026-11-27:D:4", Decimal("126.55"), 10, None),
    ]


def test_a_correction_may_come_before_its_trade(tmp_path: Path) -> None:
    """The view then applies it once the trade is there."""
    settings = settings_of(tmp_path)
    run(settings, batch_of([[cancelled(1)], [traded(2)]]))
    assert [one.names_trade for one in corrections(settings)] == [False]
    run(settings, batch_of([[traded(1)]], 2))
    assert [one.names_trade for one in corrections(settings)] == [True]
    assert [row["trade_id"] for row in rows_of(settings, "SELECT trade_id FROM corrected_trades")] == ["2026-11-27:D:2"]


@pytest.mark.parametrize("point", ["commit.staged", "corrections.pending", "corrections.committed", "trades.snapshot"])
@pytest.mark.parametrize("writers", ["1", "2"])
def test_a_crash_between_the_commits_loses_and_doubles_nothing(tmp_path: Path, point: Name, writers: str) -> None:
    """A start adds what a crash left pending, before it reads anything; until then reports read it from `trades`."""
    settings = settings_of(tmp_path, K2_WRITERS=writers)
    messages = [*MIXED, [traded(1, S="MSFT"), cancelled(1, S="MSFT"), cancelled(1, S="GOOG"), cancelled(1, S="IBM")]]
    crash = Crash(point)
    with pytest.raises(BaseException), crashing(crash):  # noqa: B017, PT011  Bytewax wraps it, or panics
        run(settings, batch_of(messages))
    assert crash.is_reached, f"{point} was not reached"
    assert all(one.holds for one in reconcile(settings))
    reached = read_progress(settings).next_offset(TopicPartition("stocks", 0), settings_writers(settings)) or 0
    run(settings, batch_of(messages[reached:], reached))
    found = reconciled(settings)
    assert (found.received, found.stored, found.duplicates, found.skipped, found.corrections) == (15, 5, 2, 1, 7)
    assert found.holds
    assert len({(one.offset, one.index) for one in corrections(settings)}) == 7
    assert audit(settings).adds_up


def settings_writers(settings: Settings) -> list[str]:
    """Return the names of the writers."""
    return [str(writer) for writer in range(settings.writers)]


def test_a_copy_in_another_partition_is_a_duplicate_also_after_a_start(tmp_path: Path) -> None:
    """Corrections of a symbol meet at its writer, and a start knows those that are stored."""
    settings = settings_of(tmp_path, K2_WRITERS="2")
    run(settings, batch_of([[cancelled(1)]]), batch_of([[cancelled(1)]], partition=1))
    run(settings, batch_of([[cancelled(1), cancelled(2)]], 1))
    found = reconcile(settings)
    assert (sum(one.corrections for one in found), sum(one.duplicates for one in found)) == (2, 2)
    assert all(one.holds for one in found)


def test_a_table_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    """Its progress has no count of corrections, its commit log no room for one, and there is no table of them."""
    settings = settings_of(tmp_path)
    run(settings, batch_of([[traded(1)]]))
    table = find_table(settings, "trades")
    assert table is not None
    progress = table.properties["k2.progress"]
    with table.transaction() as transaction:
        transaction.set_properties({"k2.progress": progress.replace(',"corrections":0', "")})
    assert reconciled(settings).holds
    run(settings, batch_of([[cancelled(1)], [traded(2)]], 1))
    assert (reconciled(settings).corrections, reconciled(settings).holds) == (1, True)
    assert audit(settings).adds_up
