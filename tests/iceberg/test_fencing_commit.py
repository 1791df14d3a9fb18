"""The fencing commit on the trades table: a start that rolls events back invalidates commits of earlier starts."""

from pathlib import Path

import pytest

from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.model.errors import FencedError
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.ops.settings import Settings
from k2.storage.table_properties import FENCING_TOKEN
from tests.iceberg.trades_table import offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of


def write_event(settings: Settings) -> None:
    """Write an event of a trade that is not in the table."""
    writer = LedgerSink(settings).build_part("out", "0", None)
    writer.write_batch([[SequenceEvent("x", "S", 1, EventKind.SESSION_STARTED, 1, 1, 1, "trades", 0, 0)]])
    writer.snapshot()


def begin(settings: Settings) -> None:
    """Start another instance, up to where it has rolled the ledger back."""
    trades = TradesSink(settings)
    LedgerSink(settings, trades.open(), fence=trades).list_parts()


def test_a_rollback_of_events_fences_earlier_instances(tmp_path: Path) -> None:
    """The older instance commits nothing more, although no trade was committed since it read the table."""
    settings = settings_in(tmp_path)
    older = writer_of(settings)
    write_event(settings)
    begin(settings)
    older.write_batch([slice_of([row_at(0)]), read_to(1)])
    with pytest.raises(FencedError, match="it started after this one"):
        older.snapshot()
    table = TableHandle(settings, TableName.TRADES, None).committer().table
    assert offsets_of(table) == []
    newer = writer_of(settings)
    newer.write_batch([slice_of([row_at(0)]), read_to(1)])
    newer.snapshot()
    assert offsets_of(table) == [0]


def test_a_start_without_rollback_makes_no_fencing_commit(tmp_path: Path) -> None:
    """A start that finds the ledger level with the trades leaves the trades table unchanged."""
    settings = settings_in(tmp_path)
    writer = writer_of(settings)
    begin(settings)
    writer.write_batch([slice_of([row_at(0)]), read_to(1)])
    writer.snapshot()
    assert len(TableHandle(settings, TableName.TRADES, None).committer().table.snapshots()) == 1


def test_processes_of_one_cluster_fence_once(tmp_path: Path) -> None:
    """The token names the events rolled back: the second process finds it, and both commit under it."""
    settings = settings_in(tmp_path, writers=2)
    processes = [TradesSink(settings) for _ in range(2)]
    for process in processes:
        process.set_fencing_token("7")
    for process in processes:
        process.adopt_fencing_token()
    table = processes[0].committer.table.refresh()
    assert (FENCING_TOKEN.read(table.properties), len(table.snapshots())) == ("7", 1)
    for number, process in enumerate(processes):
        writer = process.build_part("out", f"0{number}", None)
        writer.write_batch([slice_of([row_at(number)]), read_to(2)])
        writer.snapshot()
    assert offsets_of(table) == [0, 1]


def test_a_table_that_moved_is_not_fenced(tmp_path: Path) -> None:
    """If another instance committed since this one read the progress, this one is fenced and commits no fence."""
    settings = settings_in(tmp_path)
    sink = TradesSink(settings)
    sink.open()
    writer = writer_of(settings)
    writer.write_batch([slice_of([row_at(0)]), read_to(1)])
    writer.snapshot()
    with pytest.raises(FencedError, match="trades:0 is at offset 1"):
        sink.set_fencing_token("7")
    assert FENCING_TOKEN.read(sink.committer.table.refresh().properties) is None
