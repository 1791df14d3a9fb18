"""Expiry: old snapshots leave the tables, and nothing that the job or a user needs."""

from datetime import timedelta
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2.iceberg.snapshot_lineage import last_snapshot
from k2.iceberg.tables import TableName
from k2.maintenance import expiry
from k2.maintenance.expiry import Expiry, expire
from k2.model.errors import TableError
from k2.ops.failpoints import arm
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.query.reconcile import reconcile
from tests.iceberg.running import assert_whole, table_of
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

COMMITS = 6


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job in a folder of its own, whose table has six commits."""
    settings = settings_in(tmp_path)
    write(settings, range(COMMITS))
    return settings


def write(settings: Settings, offsets: range) -> None:
    """Commit a row at each offset."""
    writer = writer_of(settings)
    for offset in offsets:
        writer.write_batch([slice_of([row_at(offset)]), read_to(offset + 1)])
        writer.snapshot()


def ids(table: Table) -> list[int]:
    """Return the ids of the table's snapshots, the oldest first."""
    return [one.snapshot_id for one in sorted(table.snapshots(), key=lambda one: one.sequence_number or 0)]


def late(settings: Settings, *, hours: float, dry_run: bool = False) -> Expiry:
    """Expire the trades' snapshots at a time after the last commit."""
    newest = max(one.timestamp_ms for one in table_of(settings).snapshots())
    now_ms = newest + int(hours * 3_600_000)
    return expire(settings, TableName.TRADES, timedelta(hours=2), now_ms=now_ms, dry_run=dry_run)


def test_old_snapshots_leave_the_table(settings: Settings) -> None:
    """All but the job's last; the rows, the sums and the commit log stay, and the job goes on."""
    commits = [one.snapshot_id for one in audit(settings).commits]
    assert late(settings, hours=1).expired == 0
    assert late(settings, hours=3, dry_run=True) == Expiry("market_data.trades", COMMITS, COMMITS - 1, committed=False)
    assert len(table_of(settings).snapshots()) == COMMITS
    assert late(settings, hours=3) == Expiry("market_data.trades", COMMITS, COMMITS - 1, committed=True)
    last = last_snapshot(table_of(settings).metadata)
    assert last is not None
    assert ids(table_of(settings)) == [last.snapshot_id]
    assert late(settings, hours=3).expired == 0
    assert [one.snapshot_id for one in audit(settings).commits] == commits
    write(settings, range(COMMITS, COMMITS + 2))
    assert_whole(table_of(settings))
    assert all(row.holds for row in reconcile(settings))


def test_tagged_snapshots_stay(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is tagged while the command runs; the others are removed then."""
    monkeypatch.setattr(expiry, "REMOVED_MAX", 2)
    first, second, *_ = ids(table_of(settings))
    table_of(settings).manage_snapshots().create_tag(first, "kept").commit()
    tagged = []

    def tag(name: str) -> None:
        if name == "maintenance.staged" and not tagged:
            tagged.append(second)
            table_of(settings).manage_snapshots().create_tag(second, "too").commit()

    arm(tag)
    try:
        found = late(settings, hours=3)
    finally:
        arm(None)
    assert found.expired == COMMITS - 3
    assert ids(table_of(settings))[:2] == [first, second]
    assert len(ids(table_of(settings))) == 3


def test_a_lost_response_is_looked_up(settings: Settings) -> None:
    """What it removed is not removed twice."""
    failed = []

    def lose(name: str) -> None:
        if name == "maintenance.landed" and not failed:
            failed.append(name)
            raise ConnectionError("reset")

    arm(lose)
    try:
        found = late(settings, hours=3)
    finally:
        arm(None)
    assert found.expired == COMMITS - 1
    assert len(table_of(settings).snapshots()) == 1


def test_a_table_that_keeps_all_is_refused(settings: Settings) -> None:
    """Its properties say so, for the job and for other tools."""
    with table_of(settings).transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})
    with pytest.raises(TableError, match="keeps all snapshots by its property"):
        late(settings, hours=3)
