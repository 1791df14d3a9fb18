"""The sinks as Bytewax runs them: routing, resuming, and the ledger of events."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, cluster_main

from k2.iceberg import ledger_writer
from k2.iceberg.sink import LedgerSink, TradesSink
from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName, open_table
from k2.model.errors import FencedError, StateError
from k2.model.key_groups import group_of
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.query.audit import audit
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import offsets_of, read_to, row_at, settings_in
from tests.model.trade_slices import slice_of


def event(offset: int, exchange: str = "kraken", partition: int = 0) -> SequenceEvent:
    """Return a gap of two numbers."""
    return SequenceEvent(
        exchange, "BTC-USD", 1, EventKind.GAP_OPENED, offset, offset + 1, offset * 1_000, "trades", partition, offset
    )


def test_each_writer_gets_its_items(tmp_path: Path) -> None:
    """With more than ten writers, key 2 is still writer 2, although "10" sorts before "2"."""
    settings = settings_in(tmp_path, writers=12)
    items: list[Any] = [(str(writer), slice_of([row_at(writer)])) for writer in range(12)]
    items += [(str(writer), read_to(12)) for writer in range(12)]
    flow = Dataflow("test")
    stream = op.input("in", flow, TestingSource(items, batch_size=100))
    op.output("out", stream, TradesSink(settings))
    cluster_main(flow, [], 0, worker_count_per_proc=2)
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    assert offsets_of(table) == list(range(12))
    progress = read_progress(settings)
    assert {writer: progress.of(writer)[TopicPartition("trades", 0)].stored for writer in progress.writers} == {
        str(writer): 1 for writer in range(12)
    }
    stored = {
        snapshot.summary["k2.writer"]: snapshot.summary["added-records"]
        for snapshot in table.snapshots()
        if snapshot.summary
    }
    assert stored == {str(writer): "1" for writer in range(12)}


@pytest.mark.parametrize(("offset", "is_ahead"), [(3, False), (4, False), (5, True)])
def test_a_recovery_store_ahead_of_the_table_is_rejected(tmp_path: Path, offset: int, *, is_ahead: bool) -> None:
    """Older state is replayed; newer state stops the job with the command to run."""
    sink = TradesSink(settings_in(tmp_path))
    writer = sink.build_part("out", "00", None)
    writer.write_batch([slice_of([row_at(row) for row in range(4)]), read_to(4)])
    writer.snapshot()
    writer.close()
    state = {"format": 1, "offsets": {"trades:0": offset}}
    again = TradesSink(settings_in(tmp_path))
    if is_ahead:
        with pytest.raises(StateError, match=r"trades:0 at offset 5, the table at 4; run `k2 recovery"):
            again.build_part("out", "00", state)
    else:
        again.build_part("out", "00", state)


def test_the_first_commit_after_a_start_says_where_state_came_from(tmp_path: Path) -> None:
    """Each start is in the audit log once, with its origin, whatever its first epochs contain."""
    settings, state = settings_in(tmp_path), None
    for start, resume_state in enumerate([None, None, {"format": 1, "offsets": {"trades:0": 2}}]):
        writer = TradesSink(settings).build_part("out", "00", resume_state)
        for offset in (2 * start, 2 * start + 1):
            writer.write_batch([slice_of([row_at(offset)]), read_to(offset + 1)])
            state = writer.snapshot()
        assert state == writer.snapshot()
        writer.close()
    assert [one.remark for one in audit(settings).commits] == [
        "started with no state",
        None,
        "started from the tables",
        None,
        "started from the recovery store",
        None,
    ]


def test_a_recovery_store_of_another_table_is_rejected(tmp_path: Path) -> None:
    """After a recreated table, or with another namespace, the store's offsets say nothing about the table."""
    settings = settings_in(tmp_path)
    state = TradesSink(settings).build_part("out", "00", None).snapshot()
    open_catalog(settings).drop_table("market_data.trades")
    with pytest.raises(StateError, match=r"is of another table than market_data.trades: .*`k2 recovery init DIR`"):
        TradesSink(settings).build_part("out", "00", state)


def test_a_commit_since_the_start_is_fenced(tmp_path: Path) -> None:
    """State that has not seen another instance's commit, made after the progress was read, commits nothing on top."""
    settings = settings_in(tmp_path)
    ours = TradesSink(settings)
    ours.open()
    other = TradesSink(settings).build_part("out", "00", None)
    other.write_batch([slice_of([row_at(row) for row in range(4)]), read_to(4)])
    other.snapshot()
    with pytest.raises(FencedError, match=r"trades:0 is at offset 4 with 4 received, this instance left it at none"):
        ours.list_parts()


def committed_to(*offsets: int) -> Progress:
    """Return the progress of trades that are in the table up to an offset of each partition."""
    return Progress({"0": {TopicPartition("trades", part): PartitionProgress(to) for part, to in enumerate(offsets)}})


@pytest.mark.parametrize("objects_max", [1, 3, 20_000])
def test_events_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objects_max: int) -> None:
    """Events of several groups and partitions are stored at the end of the epoch; a replay adds only new ones."""
    monkeypatch.setattr(ledger_writer, "OBJECTS_MAX", objects_max)
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings).build_part("out", "0", None)
    writer.write_batch([[event(7), event(3, "okx")], [event(5), event(2, partition=1)]])
    assert writer.snapshot()["offsets"] == {"trades:0": 8, "trades:1": 3}
    again = LedgerSink(settings, committed_to(8, 3)).build_part("out", "0", {"format": 1, "offsets": {}})
    again.write_batch([[event(5), event(7), event(9)]])
    again.snapshot()
    again.snapshot()
    table = open_table(open_catalog(settings), settings, TableName.SEQUENCE_EVENTS)
    rows = rows_of_events(table)
    assert [(row["partition"], row["offset"]) for row in rows] == [(0, 3), (0, 5), (0, 7), (0, 9), (1, 2)]
    assert {row["missing"] for row in rows} == {2}
    assert {row["event"] for row in rows} == {"gap_opened"}
    assert all(row["detected_at"] > row["timestamp"] for row in rows)
    assert len(table.snapshots()) == 2
    progress = read_progress(settings, TableName.SEQUENCE_EVENTS).of("0")
    assert progress[TopicPartition("trades", 0)] == PartitionProgress(10, received=4, stored=4)


def test_owed_events_are_stored_whatever_their_offset(tmp_path: Path) -> None:
    """An event that a crash held back is stored even if the ledger is past its offset."""
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings, committed_to(8)).build_part("out", "0", None)
    writer.write_batch([[event(2)._replace(is_owed=True), event(3), event(9)]])
    writer.snapshot()
    table = open_table(open_catalog(settings), settings, TableName.SEQUENCE_EVENTS)
    assert [row["offset"] for row in rows_of_events(table)] == [2, 9]


@pytest.mark.parametrize(("offset", "is_refused"), [(9, True), (10, False), (20, False)])
def test_a_recovery_store_ahead_of_the_ledger_is_rejected(tmp_path: Path, offset: int, *, is_refused: bool) -> None:
    """Its states count those events as written, so they would never be; a ledger level or ahead is accepted."""
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings).build_part("out", "0", None)
    writer.write_batch([[event(9)]])
    state = writer.snapshot()
    LedgerSink(settings, committed_to(offset)).list_parts()
    with pytest.raises(StateError, match="is ahead of table") if is_refused else nullcontext():
        LedgerSink(settings, committed_to(20)).build_part("out", "0", state)


def test_an_owed_event_does_not_move_the_ledger_back(tmp_path: Path) -> None:
    """Otherwise later events in the ledger would count as unwritten and escape a roll back."""
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings, committed_to(8)).build_part("out", "0", None)
    for events in ([event(9)], [event(2)._replace(is_owed=True)]):
        writer.write_batch([events])
        writer.snapshot()
    assert writer.committed[TopicPartition("trades", 0)].offset == 10


def test_events_of_the_writer_ahead_are_kept(tmp_path: Path) -> None:
    """One of two writers has committed what the other has not: each symbol's events follow its own writer."""
    settings = settings_in(tmp_path, writers=2)
    symbols = {group_of("kraken", name) % 2: name for name in "ABCDEFGH"}
    events = [event(offset)._replace(symbol=symbols[writer]) for offset in (3, 7) for writer in (0, 1)]
    first = LedgerSink(settings).build_part("out", "0", None)
    first.write_batch([events])
    state = first.snapshot()
    progress = Progress({"0": {TopicPartition("trades", 0): PartitionProgress(8)}})
    again = LedgerSink(settings, progress).build_part("out", "0", state)
    table = open_table(open_catalog(settings), settings, TableName.SEQUENCE_EVENTS)
    assert [(row["symbol"], row["offset"]) for row in rows_of_events(table)] == [(symbols[0], 3), (symbols[0], 7)]
    assert again.committed[TopicPartition("trades", 0)] == PartitionProgress(8, received=2, stored=2)
    again.write_batch([events])
    again.snapshot()
    assert len(rows_of_events(table)) == 4


@pytest.mark.parametrize(
    ("progress", "left"),
    [
        (committed_to(8, 3), [(0, 3), (0, 5), (0, 7), (1, 2)]),
        (committed_to(7, 3), [(0, 3), (0, 5), (1, 2)]),
        (committed_to(4, 0), [(0, 3)]),
        (committed_to(8), [(0, 3), (0, 5), (0, 7)]),
        (committed_to(), []),
        (None, []),
    ],
)
def test_events_of_uncommitted_trades_are_rolled_back(
    tmp_path: Path, progress: Progress | None, left: list[tuple[int, int]]
) -> None:
    """Events past the trades table are removed, with their progress, and may be written again in another form."""
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings).build_part("out", "0", None)
    writer.write_batch([[event(7), event(3, "okx")], [event(5), event(2, partition=1)]])
    writer.snapshot()
    again = LedgerSink(settings, progress).build_part("out", "0", None)
    table = open_table(open_catalog(settings), settings, TableName.SEQUENCE_EVENTS)
    assert [(row["partition"], row["offset"]) for row in rows_of_events(table)] == left
    stored = sum(entry.stored for entry in read_progress(settings, TableName.SEQUENCE_EVENTS).of("0").values())
    assert stored == len(left)
    again.write_batch([[event(20), event(20, partition=1)]])
    again.snapshot()
    assert len(rows_of_events(table)) == len(left) + 2


def test_nothing_is_rolled_back_while_a_start_can_still_be_rejected(tmp_path: Path) -> None:
    """Opening the ledger changes nothing: the recovery store may still prove to be ahead of the trades table."""
    settings = settings_in(tmp_path)
    writer = LedgerSink(settings).build_part("out", "0", None)
    writer.write_batch([[event(3)]])
    writer.snapshot()
    table = open_table(open_catalog(settings), settings, TableName.SEQUENCE_EVENTS)
    sink = LedgerSink(settings, committed_to(2))
    sink.open()
    assert [row["offset"] for row in rows_of_events(table)] == [3]
    sink.list_parts()
    assert rows_of_events(table) == []


def rows_of_events(table: Any) -> list[dict[str, Any]]:
    """Return the ledger's rows, sorted by partition and offset."""
    rows: list[dict[str, Any]] = table.refresh().scan().to_arrow().to_pylist()
    return sorted(rows, key=lambda row: (row["partition"], row["offset"]))
