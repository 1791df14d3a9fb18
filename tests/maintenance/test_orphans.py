"""Orphans: what nothing names is found and deleted, and nothing else."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2.iceberg.tables import TableName
from k2.maintenance.compaction import compact
from k2.maintenance.orphans import SAFE_AGE, Orphan, find_orphans, remove_orphans
from k2.maintenance.retention import retain
from k2.model.errors import TableError
from k2.ops.settings import Settings
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from k2.storage.dead_letters.files import file_name
from tests.iceberg.running import assert_whole, table_of
from tests.iceberg.trades_table import read_to, row_at, rows_of, settings_in, writer_of
from tests.model.trade_slices import slice_of

OLD_SECONDS = 2 * SAFE_AGE.total_seconds()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job in a folder of its own, whose table has files of all kinds that are two days old."""
    settings = settings_in(tmp_path)
    writer = writer_of(settings)
    for offset in range(4):
        writer.write_batch([slice_of([row_at(offset)]), read_to(offset + 1)])
        writer.snapshot()
    [*compact(settings, TableName.TRADES)]
    age(settings)
    return settings


def age(settings: Settings) -> None:
    """Make all files of the warehouse two days old."""
    then = time.time() - OLD_SECONDS
    for file in settings.data_dir.glob("warehouse/**/*.*"):
        os.utime(file, (then, then))


def folder_of(table: Table) -> Path:
    """Return the table's folder."""
    return Path(table.location().removeprefix("file://"))


def left_behind(settings: Settings) -> list[str]:
    """Make files as killed processes leave them: of data, of a commit, and of checkpoints; return their names."""
    folder = folder_of(table_of(settings))
    names = ["data/timestamp_day=2024-10-04/x.parquet", "metadata/x-m0.avro", "metadata/checkpoints-x.bin"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1234")
    age(settings)
    return [f"file://{folder / name}" for name in sorted(names)]


def orphans(settings: Settings, **options: timedelta) -> list[Orphan]:
    """Find the orphans of the trades."""
    return find_orphans(settings, TableName.TRADES, **options)


def test_what_is_in_use_is_no_orphan(settings: Settings) -> None:
    """Files of all snapshots, also of those that expired within the metadata log; checkpoints and removed numbers."""
    assert orphans(settings) == []
    retain(settings, 1)
    table = table_of(settings)
    table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in table.snapshots()[:-1]]).commit()
    age(settings)
    assert orphans(settings) == []
    assert [*folder_of(table).rglob("removed-*.bin")]


def test_orphans_are_deleted(settings: Settings) -> None:
    """And everything that is in use stays."""
    names = left_behind(settings)
    table, before = table_of(settings), rows_of(table_of(settings))
    found = orphans(settings)
    assert [(one.file, one.bytes) for one in found] == [(name, 4) for name in names]
    Path(names[0].removeprefix("file://")).unlink()
    assert [one.file for one in remove_orphans(settings, TableName.TRADES, found)] == names[1:]
    assert orphans(settings) == []
    assert rows_of(table) == before
    assert_whole(table)
    assert all(row.holds for row in reconcile(settings))


def test_dead_letters_in_a_folder_of_a_table_stay(settings: Settings) -> None:
    """The settings may name the folder by another scheme than the table does, so that a start does not refuse it."""
    letters = folder_of(table_of(settings)) / "dlq" / file_name("9c1f03aa-0-5d1e7e", 9, 5)
    letters.parent.mkdir()
    letters.write_bytes(b"{}\n")
    age(settings)
    assert orphans(settings) == []


def test_young_files_stay(settings: Settings) -> None:
    """A commit in flight may name them."""
    left_behind(settings)
    assert orphans(settings, age=timedelta(days=3)) == []
    (folder_of(table_of(settings)) / "metadata" / "young.avro").touch()
    assert len(orphans(settings)) == 3


def test_files_of_an_expired_snapshot_become_orphans(settings: Settings) -> None:
    """Once no version in the metadata log names it."""
    table = table_of(settings)
    with table.transaction() as transaction:
        transaction.set_properties({"write.metadata.previous-versions-max": "1"})
    table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in table.snapshots()[:-1]]).commit()
    for number in range(3):
        with table.transaction() as transaction:
            transaction.set_properties({"other": str(number)})
    age(settings)
    found = [one.file for one in orphans(settings)]
    assert sum(name.endswith(".parquet") for name in found) == 4
    assert len([*remove_orphans(settings, TableName.TRADES, orphans(settings))]) == len(found)
    assert_whole(table_of(settings))
    assert len(rows_of(table_of(settings))) == 4


def test_a_catalog_that_was_put_back_has_no_orphans(settings: Settings) -> None:
    """Files of later versions would look like orphans."""
    earlier = table_of(settings).metadata.metadata_log[0].metadata_file
    catalog = open_catalog(settings)
    catalog.drop_table(("market_data", "trades"))
    catalog.register_table(("market_data", "trades"), earlier)
    with pytest.raises(TableError, match=r"but file:.* is version .*; see `k2 catalog register`"):
        orphans(settings)


def test_a_folder_of_two_tables_is_refused(settings: Settings) -> None:
    """A table that was dropped and created again has the folder of the old one."""
    open_catalog(settings).drop_table(("market_data", "trades"))
    with pytest.raises(TableError, match="also has files of table"):
        orphans(settings)
