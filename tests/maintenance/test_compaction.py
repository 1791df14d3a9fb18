"""Compaction: the same rows in fewer files, for the table, the job that writes it, and a start from checkpoints."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table.snapshots import Operation
from pyiceberg.types import IntegerType

from k2.iceberg.snapshot_lineage import is_rolled_back
from k2.iceberg.tables import TableName
from k2.iceberg.trades_writer import TradesWriter
from k2.maintenance import compaction
from k2.maintenance.commits import live_files
from k2.maintenance.compaction import CompactedGroup, compact
from k2.model.errors import TableError
from k2.ops.failpoints import arm
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.query.reconcile import reconcile
from k2.storage.catalog import find_table
from tests.iceberg.running import assert_whole, table_of
from tests.iceberg.trades_table import DAY, read_to, row_at, rows_of, settings_in, writer_of
from tests.model.trade_slices import slice_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job in a folder of its own."""
    return settings_in(tmp_path)


def compacted(settings: Settings, which: TableName = TableName.TRADES, **options: Any) -> list[CompactedGroup]:
    """Compact a table."""
    return [*compact(settings, which, **options)]


def land(settings: Settings, *commits: list[dict[str, Any]]) -> None:
    """Write commits, each of rows with these values, at ascending offsets."""
    writer, offset = writer_of(settings), 0
    for rows in commits:
        numbered = [row_at(offset + more, **values) for more, values in enumerate(rows)]
        offset += len(rows)
        writer.write_batch([slice_of(numbered), read_to(offset)])
        writer.snapshot()


def land_range(writer: TradesWriter, first: int, stop: int) -> None:
    """Write rows with these offsets, and close the epoch."""
    writer.write_batch([slice_of([row_at(offset) for offset in range(first, stop)]), read_to(stop)])
    writer.snapshot()


def test_rows_are_the_same_in_fewer_sorted_files(settings: Settings) -> None:
    """By day and exchange; each new file is sorted by symbol and time, and has the declared encodings."""
    days = [20_000 * DAY, 20_001 * DAY]
    land(
        settings,
        *([{"timestamp": day + 1_000 - number, "trade_id": f"{number}"} for day in days] for number in range(6)),
    )
    table = table_of(settings)
    before, properties = rows_of(table), table.metadata.properties
    assert len(live_files(table)) == 12
    found = compacted(settings)
    assert [(one.rows, one.files, one.new_files) for one in found] == [(6, 6, 1), (6, 6, 1)]
    assert {one.partition for one in found} == {
        f"timestamp_day={day}/exchange=kraken" for day in ("2024-10-04", "2024-10-05")
    }
    table = table_of(settings)
    assert rows_of(table) == before
    assert {name: text for name, text in table.metadata.properties.items() if name != "k2.trail"} == {
        name: text for name, text in properties.items() if name != "k2.trail"
    }
    for path, file in live_files(table).items():
        rows = pq.read_table(path.removeprefix("file://")).to_pylist()
        assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
        assert file.sort_order_id == table.metadata.default_sort_order_id
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation == Operation.REPLACE
    assert snapshot.summary["total-records"] == "12"
    assert not is_rolled_back(table.metadata)
    assert compacted(settings) == []
    assert_whole(table)


def test_files_end_at_the_target_size(settings: Settings) -> None:
    """The rows of a group continue in the next file, in order."""
    land(settings, *([{"trade_id": f"{number}-{more}"} for more in range(50)] for number in range(8)))
    before = rows_of(table_of(settings))
    largest = max(file.file_size_in_bytes for file in live_files(table_of(settings)).values())
    (found,) = compacted(settings, target_bytes=2 * largest)
    assert found.rows == 400
    assert rows_of(table_of(settings)) == before


def test_a_dry_run_changes_nothing(settings: Settings) -> None:
    """It returns what would be rewritten."""
    land(settings, [{}], [{}], [{}])
    before = table_of(settings).metadata
    (found,) = compacted(settings, dry_run=True)
    assert (found.files, found.rows, found.new_files, found.new_bytes) == (3, 3, None, None)
    assert table_of(settings).metadata == before


def test_the_job_commits_on_top(settings: Settings) -> None:
    """Compaction between two commits of a running writer, and while one is staged: no row is lost or doubled."""
    writer = writer_of(settings)
    land_range(writer, 0, 4)
    land_range(writer, 4, 8)
    compacted(settings)
    land_range(writer, 8, 12)

    def once(name: str) -> None:
        if name == "commit.staged":
            arm(None)
            compacted(settings)

    arm(once)
    try:
        land_range(writer, 12, 16)
    finally:
        arm(None)
    assert [row["offset"] for row in rows_of(table_of(settings))] == list(range(16))
    assert all(row.holds for row in reconcile(settings))
    assert audit(settings).adds_up
    assert [commit.rows for commit in audit(settings).commits if commit.remark == "compacted 2"] == [0, 0]


def test_a_commit_of_the_job_during_a_compaction_is_kept(settings: Settings) -> None:
    """The compaction is staged again on the new metadata."""
    writer = writer_of(settings)
    land_range(writer, 0, 4)
    land_range(writer, 4, 8)

    def once(name: str) -> None:
        if name == "maintenance.staged":
            arm(None)
            land_range(writer, 8, 12)

    arm(once)
    try:
        (found,) = compacted(settings)
    finally:
        arm(None)
    assert found.new_files == 1
    table = table_of(settings)
    assert [row["offset"] for row in rows_of(table)] == list(range(12))
    assert len(live_files(table)) == 2
    assert_whole(table)


@pytest.mark.parametrize("point", ["maintenance.staged", "maintenance.landed"])
def test_a_lost_response_is_looked_up(settings: Settings, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """A fault before or after the commit: the rows are rewritten once."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    land(settings, [{}], [{}])

    def once(name: str) -> None:
        if name == point:
            arm(None)
            raise ConnectionResetError("the answer is lost")

    arm(once)
    try:
        monkeypatch.setattr("k2.iceberg.commit.time.sleep", lambda _seconds: None)
        (found,) = compacted(settings)
    finally:
        arm(None)
    assert found.new_files == 1
    table = table_of(settings)
    assert len(live_files(table)) == 1
    assert [row["offset"] for row in rows_of(table)] == [0, 1]
    assert sum(one.remark == "compacted 2" for one in audit(settings).commits) == 1


def test_files_that_others_replaced_are_left(settings: Settings) -> None:
    """Nothing is committed, and no file is left behind."""
    land(settings, [{}], [{}])

    def once(name: str) -> None:
        if name == "file.written":
            arm(None)
            table = table_of(settings)
            table.overwrite(table.scan().to_arrow())

    arm(once)
    try:
        (found,) = compacted(settings)
    finally:
        arm(None)
    assert found.new_files is None
    assert len(rows_of(table_of(settings))) == 2
    assert len([*settings.data_dir.rglob("data/**/*.parquet")]) == 3


def test_columns_of_others_are_kept(settings: Settings) -> None:
    """Also those of files that lack a column, which stays null."""
    land(settings, [{}])
    table = table_of(settings)
    with table.update_schema() as update:
        update.add_column("flag", IntegerType())
    rows = table.scan().to_arrow()
    table.append(rows.set_column(rows.schema.get_field_index("flag"), "flag", pa.array([7], pa.int32())))
    before = sorted(row["flag"] or 0 for row in rows_of(table))
    assert before == [0, 7]
    (found,) = compacted(settings)
    assert found.new_files == 1
    assert sorted(row["flag"] or 0 for row in rows_of(table_of(settings))) == before


def test_wrong_files_are_never_committed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new files are read back; if a value differs, nothing changes."""
    land(settings, [{}], [{}])
    parts = compaction._parts

    def changed(*arguments: Any) -> Any:
        for part in parts(*arguments):
            place = part.schema.get_field_index("session")
            yield part.set_column(place, part.schema.field(place), pa.array([9, 9], pa.int32()))

    monkeypatch.setattr(compaction, "_parts", changed)
    before = table_of(settings).metadata
    with pytest.raises(TableError, match="2 rows of 2 files were read as 2, and written as 2 or with other values"):
        compacted(settings)
    assert table_of(settings).metadata == before
    assert len([*settings.data_dir.rglob("data/**/*.parquet")]) == 2


def test_the_commit_log_is_compacted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows with lists of structs as well; the audit stays complete."""
    monkeypatch.setattr("k2.iceberg.commit_notes.COMMIT_NOTES_MAX", 2)
    land(settings, *([{}] for _ in range(9)))
    table = find_table(settings, "commits")
    assert table is not None
    before = sorted(table.scan().to_arrow().to_pylist(), key=lambda row: row["sequence_number"])
    files = len(live_files(table))
    (found,) = compacted(settings, TableName.COMMITS)
    assert (found.files, found.new_files) == (files, 1)
    table.refresh()
    assert table.scan().to_arrow().to_pylist() == before
    assert audit(settings).adds_up
    land_more = writer_of(settings)
    for offset in (9, 10, 11):
        land_more.write_batch([slice_of([row_at(offset)]), read_to(offset + 1)])
        land_more.snapshot()
    assert audit(settings).adds_up
