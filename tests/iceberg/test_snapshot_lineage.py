"""A table that others change between commits: rolled back, expired, compacted, deleted from."""

from pathlib import Path

import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table

from k2.iceberg.sink import TradesSink
from k2.iceberg.snapshot_lineage import is_rolled_back, last_snapshot, roll_forward
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job in a folder of its own."""
    return settings_in(tmp_path)


@pytest.fixture
def writer(settings: Settings) -> TradesWriter:
    """Return a writer that has committed offsets 0 to 11, four in each commit."""
    writer = writer_of(settings)
    for first in (0, 4, 8):
        land(writer, first)
    return writer


def land(writer: TradesWriter, first: int) -> None:
    """Write four rows and close the epoch."""
    writer.write_batch([slice_of([row_at(first + more) for more in range(4)]), read_to(first + 4)])
    writer.snapshot()


def table_of(settings: Settings) -> Table:
    """Load the table as another program would."""
    return open_table(open_catalog(settings), settings, TableName.TRADES)


def roll_back(table: Table, commits: int = 1) -> None:
    """Make an older snapshot the current one."""
    earlier = table.refresh().history()[-1 - commits].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(earlier).commit()


@pytest.mark.parametrize("commits", [1, 2])
def test_a_rolled_back_table_is_rejected(settings: Settings, writer: TradesWriter, commits: int) -> None:
    """Rows that the progress counts are gone: neither a running job nor a new one continues; both name the command."""
    roll_back(table_of(settings), commits)
    said = r"trades was rolled back to snapshot \d+, behind this job's last commit \d+.*k2 recovery roll-forward"
    with pytest.raises(TableError, match=said):
        land(writer, 12)
    with pytest.raises(TableError, match=said):
        TradesSink(settings).open()


def test_a_rollback_can_be_undone(settings: Settings, writer: TradesWriter) -> None:
    """The job's last commit is current again, and the writer continues; a second call does nothing."""
    table = table_of(settings)
    roll_back(table, 2)
    last = last_snapshot(table.refresh().metadata)
    assert last is not None
    assert roll_forward(table) == last[0]
    assert roll_forward(table.refresh()) is None
    land(writer, 12)
    assert offsets_of(table) == list(range(16))


def test_a_rollback_with_later_commits_is_not_undone(settings: Settings, writer: TradesWriter) -> None:
    """The rows of those commits would be lost."""
    table = table_of(settings)
    rows = table.scan().to_arrow().slice(0, 1)
    roll_back(table)
    table.refresh().append(rows)
    with pytest.raises(TableError, match="by others after the rollback"):
        roll_forward(table)
    assert len(offsets_of(table)) == 9


def test_a_rollback_is_not_undone_if_the_snapshot_expired(settings: Settings, writer: TradesWriter) -> None:
    """There is no snapshot to roll forward to, and the error says so."""
    table = table_of(settings)
    roll_back(table)
    last = last_snapshot(table.refresh().metadata)
    assert last is not None
    table.maintenance.expire_snapshots().by_id(last[0]).commit()
    with pytest.raises(TableError, match=rf"snapshot {last[0]} has expired"):
        roll_forward(table.refresh())


def test_a_rollback_is_detected_below_later_commits(settings: Settings, writer: TradesWriter) -> None:
    """A foreign append after the rollback does not hide it."""
    table = table_of(settings)
    rows = table.scan().to_arrow().slice(0, 1)
    roll_back(table)
    table.refresh().append(rows)
    with pytest.raises(TableError, match="was rolled back"):
        land(writer, 12)


def test_commits_of_others_are_not_a_rollback(settings: Settings, writer: TradesWriter) -> None:
    """An append, a compaction and a delete descend from the job's commits: the job continues on top of them."""
    table = table_of(settings)
    row = table.scan().to_arrow().slice(0, 1)
    table.append(row)
    land(writer, 12)
    table.refresh().overwrite(table.scan().to_arrow())
    land(writer, 16)
    table.refresh().delete(EqualTo("offset", 7))
    land(writer, 20)
    assert offsets_of(table) == sorted([*range(7), *range(8, 24), *row["offset"].to_pylist()])
    assert not is_rolled_back(table.metadata)


@pytest.mark.parametrize("is_compacted", [False, True])
def test_expiry_down_to_one_snapshot_is_not_a_rollback(
    settings: Settings, writer: TradesWriter, *, is_compacted: bool
) -> None:
    """The progress survives the snapshots that contained it, even the job's last one."""
    table = table_of(settings)
    if is_compacted:
        table.overwrite(table.scan().to_arrow())
    old = [snapshot.snapshot_id for snapshot in table.snapshots() if snapshot != table.current_snapshot()]
    table.maintenance.expire_snapshots().by_ids(old).commit()
    assert len(table.refresh().snapshots()) == 1
    land(writer, 12)
    TradesSink(settings).open()
    assert offsets_of(table) == list(range(16))
