"""The sinks as Bytewax runs them: routing, resuming, and the ledger of events."""

from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, cluster_main

from connectors.iceberg.catalog import open_catalog
from connectors.iceberg.progress import read_progress
from connectors.iceberg.sink import EventsSink, TradesSink
from connectors.iceberg.tables import TableName, open_table
from tests.connectors.iceberg.pieces import Row, offsets_of, piece_of, read_to, settings_in
from trades.errors import StateError
from trades.events import EventKind, SequenceEvent
from trades.progress import PartitionProgress, TopicPartition


def event(offset: int, exchange: str = "kraken", partition: int = 0) -> SequenceEvent:
    """Give a gap of two numbers."""
    return SequenceEvent(
        exchange, "BTC-USD", 1, EventKind.GAP_OPENED, offset, offset + 1, offset * 1_000, "trades", partition, offset
    )


def test_each_writer_gets_its_items(tmp_path: Path) -> None:
    """With more than ten writers, key 2 is still writer 2, though "10" sorts before "2"."""
    settings = settings_in(tmp_path, writers=12)
    items: list[Any] = [(str(writer), piece_of([Row(writer)])) for writer in range(12)]
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
def test_a_recovery_store_ahead_of_the_table_is_refused(tmp_path: Path, offset: int, *, is_ahead: bool) -> None:
    """Older state is replayed; newer state stops the job with the command to run."""
    sink = TradesSink(settings_in(tmp_path))
    writer = sink.build_part("out", "00", None)
    writer.write_batch([piece_of([Row(row) for row in range(4)]), read_to(4)])
    writer.snapshot()
    state = {"format": 1, "offsets": {"trades:0": offset}}
    if is_ahead:
        with pytest.raises(StateError, match=r"trades:0 at offset 5, the table at 4; run `k2 recovery"):
            sink.build_part("out", "00", state)
    else:
        sink.build_part("out", "00", state)


def test_events_land_once(tmp_path: Path) -> None:
    """Events of several groups and partitions land at the end of the epoch; a replay adds only what is new."""
    settings = settings_in(tmp_path)
    writer = EventsSink(settings).build_part("out", "0", None)
    writer.write_batch([[event(7), event(3, "okx")], [event(5), event(2, partition=1)]])
    assert writer.snapshot() == {"format": 1, "offsets": {"trades:0": 8, "trades:1": 3}}
    again = EventsSink(settings).build_part("out", "0", {"format": 1, "offsets": {}})
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


def rows_of_events(table: Any) -> list[dict[str, Any]]:
    """Read the ledger, by partition and offset."""
    rows: list[dict[str, Any]] = table.refresh().scan().to_arrow().to_pylist()
    return sorted(rows, key=lambda row: (row["partition"], row["offset"]))
