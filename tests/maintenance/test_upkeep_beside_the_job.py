"""Upkeep in processes that are killed, next to a job that commits: nothing is lost, doubled or miscounted."""

import multiprocessing
import os
import signal
import time
from datetime import UTC, date, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random

import pytest

from k2.iceberg.tables import TableName
from k2.maintenance.compaction import compact
from k2.maintenance.orphans import find_orphans, remove_orphans
from k2.maintenance.retention import retain
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.query.reconcile import reconcile
from k2.storage.table_properties import REMOVED_ROWS
from tests.iceberg.running import HERE, assert_whole, table_of
from tests.iceberg.trades_table import DAY, read_to, row_at, rows_of, settings_in, writer_of
from tests.model.trade_slices import slice_of

FIRST_DAY = 20_000
KILLS = 3


def _write(settings: Settings, kills_done: Event) -> None:
    """Commit two rows at a time, each of the next of five days, until the kills are done."""
    writer, offset = writer_of(settings), 0
    while not kills_done.wait(0.1):
        times = [(FIRST_DAY + at % 5) * DAY + at for at in (offset, offset + 1)]
        rows = [row_at(at % DAY, timestamp=at, sequence=at % DAY + 1, kafka_timestamp=at) for at in times]
        offset += 2
        writer.write_batch([slice_of(rows), read_to(offset)])
        writer.snapshot()


def _maintain(settings: Settings, is_ready: Event) -> None:
    """Remove the first two days and compact all tables, again and again."""
    is_ready.set()
    while True:
        remove_days(settings)
        for which in TableName:
            for _ in compact(settings, which):
                pass


def remove_days(settings: Settings) -> None:
    """Remove the first two of the five days."""
    retain(settings, 1, today=date(1970, 1, 1) + timedelta(days=FIRST_DAY + 3))


@pytest.mark.slow
def test_killed_upkeep_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Law 1 holds, each (topic, partition, offset, index) is stored or removed once, and what is left are orphans."""
    settings, rng = settings_in(tmp_path), Random(1)
    writer_of(settings).close()
    context = multiprocessing.get_context("spawn")
    kills_done = context.Event()
    job = context.Process(target=_write, args=(settings, kills_done))
    job.start()
    for _ in range(KILLS):
        is_ready = context.Event()
        upkeep = context.Process(target=_maintain, args=(settings, is_ready))
        upkeep.start()
        assert is_ready.wait(120)
        time.sleep(rng.uniform(0.2, 4))
        assert upkeep.pid is not None
        assert upkeep.is_alive(), "only a kill ends it"
        os.kill(upkeep.pid, signal.SIGKILL)
        upkeep.join()
        assert all(row.holds for row in reconcile(settings))
    kills_done.set()
    job.join()
    assert job.exitcode == 0
    remove_days(settings)
    for which in (*TableName, *TableName):
        [*compact(settings, which)]
    _check(settings)
    then = datetime.now(UTC).timestamp() - 7_200
    for file in settings.data_dir.glob("warehouse/**/*.*"):
        os.utime(file, (then, then))
    for which in TableName:
        [*remove_orphans(settings, which, find_orphans(settings, which, timedelta(hours=1)))]
    _check(settings)


def _check(settings: Settings) -> None:
    table = table_of(settings)
    (row,) = reconcile(settings)
    keys = [(one["topic"], one["partition"], one["offset"], one["index"]) for one in rows_of(table)]
    removed = REMOVED_ROWS.read(table.metadata.properties).of(HERE)
    assert row.holds
    assert len(keys) == len({*keys}) == row.stored
    assert (row.removed, row.stored + removed) == (removed, row.received)
    assert removed > 0
    assert audit(settings).adds_up
    assert_whole(table)
