"""Retention: days leave the table, and every sum, report and start stays true."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from bytewax.testing import cluster_main
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from structlog.testing import capture_logs

import operators.sequence
from flows.job_io import JobIO
from flows.trades import trades_flow
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.snapshot_lineage import is_rolled_back
from k2.iceberg.table_binding import bind_tables
from k2.iceberg.table_progress import read_progress
from k2.maintenance.retention import Removal, retain
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition
from k2.model.times import DAY_US, SECOND_US
from k2.ops.failpoints import arm
from k2.ops.settings import Settings, read_settings
from k2.query.audit import audit
from k2.query.completeness import by_day
from k2.query.gaps import gaps
from k2.query.reconcile import reconcile
from k2.restore.tables import TableStateSource
from k2.status.findings import Cause
from k2.status.reader import StatusReader
from k2.storage.catalog import find_table
from k2.storage.removed_rows import read_removed_numbers
from k2.storage.table_properties import REMOVED_ROWS
from tests.flows.job_io import MemorySource, message_batch

PARTITION = TopicPartition("trades", 0)
FIRST = datetime(2024, 8, 9, tzinfo=UTC)
FIRST_US = int(FIRST.timestamp()) * SECOND_US


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with a folder of their own; each group has a checkpoint at every third row."""
    monkeypatch.setattr(operators.sequence, "CHECKPOINT_ROWS", 3)
    return read_settings({}, data_dir=tmp_path / "data", dedup_window_seconds=3_600)


def message(number: int, day: int) -> tuple[None, bytes]:
    """Return a trade with that sequence number, a number of days after the first."""
    fields = {"exchange": "x", "symbol": "S", "price": "1", "quantity": f"{number}", "sequence": number}
    return None, json.dumps({**fields, "timestamp": FIRST_US + day * DAY_US + number}).encode()


def run(settings: Settings, *epochs: list[tuple[int, int]]) -> None:
    """Run the job without a recovery store, with an epoch for each list of numbers and their days."""
    trades = TradesSink(settings)
    entry = trades.open().of("0").get(PARTITION)
    offset = 0 if entry is None else entry.offset
    batches = [MessageBatch.first(PARTITION, "k2", offset)]
    for numbers in epochs:
        batch = message_batch([message(*number) for number in numbers], offset)
        times = np.array([FIRST_US + day * DAY_US for _, day in numbers], dtype=np.int64)
        batches.append(replace(batch, kafka_timestamps=times))
        offset += len(numbers)
    events = LedgerSink(settings, trades.open(), fence=trades)
    bind_tables(trades.committer, events.committer, is_resumed=False)
    events.open()
    job_io = JobIO(MemorySource({"trades:0": batches}), trades, events, TableStateSource(settings))
    cluster_main(trades_flow(job_io, settings), [], 0, epoch_interval=timedelta(0))


def removed(settings: Settings, keep: int = 2, **options: bool) -> Removal:
    """Remove the days that are more than `keep` days before the day after the last one of `market`."""
    return retain(settings, keep, today=FIRST.date() + timedelta(days=4), **options)


def table_of(settings: Settings) -> Table:
    """Load the trades table again."""
    table = find_table(settings, "trades")
    assert table is not None
    return table


def market(settings: Settings) -> None:
    """Store 4 days with numbers; 4 is missing, and 8 has the venue time of the day after those of 7 and 9."""
    run(settings, [(1, 0), (2, 0), (3, 0)], [(5, 1), (6, 1), (7, 1), (9, 1)], [(8, 2), (10, 2)], [(11, 3), (11, 3)])


def missing(settings: Settings) -> list[tuple[int, int]]:
    """Return the first and last number of the open gaps."""
    return [(gap.first_sequence, gap.last_sequence) for gap in gaps(settings)]


def test_whole_days_are_removed_and_the_sums_hold(settings: Settings) -> None:
    """Once; with the counts of each topic partition on record, and the number of days in the reports."""
    market(settings)
    planned = removed(settings, dry_run=True)
    assert len(table_of(settings).scan().to_arrow()) == 10
    found = removed(settings)
    assert (planned.committed, found.committed) == (False, True)
    assert (found.before, found.days) == (date(2024, 8, 11), [date(2024, 8, 9), date(2024, 8, 10)])
    assert (found.rows, planned.rows) == ({"trades:0": 7},) * 2
    assert sorted(table_of(settings).scan().to_arrow()["sequence"].to_pylist()) == [8, 10, 11]
    (row,) = reconcile(settings)
    assert (row.received, row.stored, row.removed, row.duplicates, row.holds) == (11, 3, 7, 1, True)
    assert audit(settings).adds_up
    assert audit(settings).commits[-1].remark == "removed before 2024-08-11: trades:0 7"
    snapshot = table_of(settings).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation == Operation.DELETE
    again = removed(settings)
    assert (again.committed, again.rows, again.days) == (False, {}, [])
    later = removed(settings, keep=1)
    assert later.rows == {"trades:0": 2}
    assert REMOVED_ROWS.read(table_of(settings).metadata.properties).of(PARTITION) == 9
    assert all(row.holds for row in reconcile(settings))
    causes = {reason.cause for reason in StatusReader(settings).read().reasons}
    assert not causes & {Cause.ROWS_LOST, Cause.ROWS_ADDED, Cause.ROWS_UNKNOWN}


@pytest.mark.parametrize("are_lost", [False, True])
def test_the_job_goes_on(settings: Settings, *, are_lost: bool) -> None:
    """A copy of a removed trade is a duplicate, a late one fills its gap, and no removed number becomes a gap.

    From the checkpoints, or, if they are lost, from the rows that are left and the record of the removed numbers.
    """
    market(settings)
    removed(settings)
    if are_lost:
        for file in settings.data_dir.glob("warehouse/**/checkpoints-*.bin"):
            file.unlink()
    assert missing(settings) == [(4, 4)]
    assert [(day.day, day.stored, day.missing) for day in by_day(settings)] == [
        # The session that began on it is still in the ledger.
        (date(2024, 8, 9), 0, 0),
        (date(2024, 8, 11), 2, 0),
        (date(2024, 8, 12), 1, 0),
    ]
    run(settings, [(6, 1), (9, 1), (12, 3)], [(14, 3)])
    assert missing(settings) == [(4, 4), (13, 13)]
    run(settings, [(4, 0), (13, 3)])
    assert missing(settings) == []
    entry = read_progress(settings).of("0")[PARTITION]
    assert (entry.stored, entry.duplicates, entry.dead_letters) == (14, 3, 0)
    # The trade that came late is of a removed day; the numbers between it and the others are not missing.
    assert next((day.day, day.stored, day.missing) for day in by_day(settings)) == (date(2024, 8, 9), 1, 0)
    assert sum(day.missing or 0 for day in by_day(settings)) == 0
    assert removed(settings).rows == {"trades:0": 1}
    assert all(row.holds for row in reconcile(settings))
    assert audit(settings).adds_up


def test_a_lost_record_of_numbers_is_reported(settings: Settings) -> None:
    """Reports still work, and a warning says what may be wrong."""
    market(settings)
    removed(settings)
    removed_rows = REMOVED_ROWS.read(table_of(settings).metadata.properties)
    (session,) = read_removed_numbers(table_of(settings), removed_rows)
    assert session.ranges == ((1, 3), (5, 7), (9, 9))
    for file in settings.data_dir.glob("warehouse/**/removed-*.bin"):
        file.write_bytes(b"torn")
    with capture_logs() as logs:
        by_day(settings)
    assert [one["event"] for one in logs] == ["removed_numbers_unreadable"]
    assert all(row.holds for row in reconcile(settings))


def test_a_rollback_past_a_removal_is_detected(settings: Settings) -> None:
    """The rows would be there again, and recorded as removed."""
    market(settings)
    removed(settings)
    table = table_of(settings)
    parent = table.metadata.current_snapshot()
    assert parent is not None
    assert parent.parent_snapshot_id is not None
    table.manage_snapshots().rollback_to_snapshot(parent.parent_snapshot_id).commit()
    assert is_rolled_back(table.refresh().metadata)


def _fail() -> None:
    raise ConnectionResetError("the answer is lost")


@pytest.mark.parametrize("point", ["maintenance.staged", "maintenance.landed"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_the_removal_is_booked_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, point: str, *, is_lost: bool
) -> None:
    """Whether the response is lost, or the job commits rows of a removed day meanwhile."""
    monkeypatch.setattr("k2.iceberg.commit.time.sleep", lambda _seconds: None)
    market(settings)
    act: Callable[[], None] = _fail if is_lost else lambda: run(settings, [(4, 0)])

    def once(name: str) -> None:
        if name == point:
            arm(None)
            act()

    arm(once)
    try:
        found = removed(settings)
    finally:
        arm(None)
    assert found.committed
    is_with_late = not is_lost and point == "maintenance.staged"
    assert found.rows == {"trades:0": 8 if is_with_late else 7}
    assert all(row.holds for row in reconcile(settings))
    assert audit(settings).adds_up
    removed(settings)
    assert all(row.holds for row in reconcile(settings))
    assert len(table_of(settings).scan().to_arrow()) == 3


def test_recent_messages_keep_their_day(settings: Settings) -> None:
    """A day stays if a copy of one of its messages may still come within the deduplication window."""
    market(settings)
    found = removed(settings.model_copy(update={"dedup_window_seconds": 86_400}), keep=1)
    assert (found.days, found.kept_days) == ([date(2024, 8, 9)], [date(2024, 8, 10), date(2024, 8, 11)])
    assert removed(settings.model_copy(update={"dedup_window_seconds": 43_200}), keep=1).rows == {"trades:0": 4}
    assert all(row.holds for row in reconcile(settings))
