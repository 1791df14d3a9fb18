"""Starts on record: decided once for a topic, and named by the first commit of each writer that covers it."""

from dataclasses import replace
from pathlib import Path

from k2.iceberg.sink import TradesSink
from k2.iceberg.starts import remember_starts
from k2.model.partition_starts import PartitionStart, PartitionStarts
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.storage.commit_log import Remark, commit_of
from k2.storage.table_properties import PARTITION_STARTS
from tests.iceberg.running import table_of
from tests.iceberg.trades_table import read_to, row_at, settings_in
from tests.model.trade_slices import slice_of

HERE, NEXT, OTHER = TopicPartition("trades", 0), TopicPartition("trades", 1), TopicPartition("other", 0)


def _opened(settings: Settings) -> TradesSink:
    sink = TradesSink(settings)
    sink.open()
    return sink


def test_the_first_decision_stays(tmp_path: Path) -> None:
    """A restart, or another process of the cluster, gets it; of a known topic, no partition is added to it."""
    settings = settings_in(tmp_path)
    first: PartitionStarts = {HERE: PartitionStart(40, 0, "latest")}
    assert remember_starts(_opened(settings).committer, first) == first
    later: PartitionStarts = {where: PartitionStart(99, 0, "latest") for where in (HERE, NEXT, OTHER)}
    known = first | {OTHER: later[OTHER]}
    assert _opened(settings).remember_starts(later) == known
    assert PARTITION_STARTS.read(table_of(settings).metadata.properties) == known
    metadata = table_of(settings).metadata_location
    assert remember_starts(_opened(settings).committer, {}) == known
    assert table_of(settings).metadata_location == metadata


def test_the_first_commit_names_what_was_left_out(tmp_path: Path) -> None:
    """Of each writer, once; the commit log keeps it as a remark."""
    settings = settings_in(tmp_path, writers=2)
    sink = _opened(settings)
    sink.remember_starts({HERE: PartitionStart(40, 7, "latest")})
    for name in ("00", "01"):
        writer = sink.build_part("iceberg_out", name, None)
        for offset in (40, 41):
            rows = [slice_of([row_at(offset)])] if name == "00" else []
            writer.write_batch([*rows, replace(read_to(offset + 1), first_offset=offset)])
            writer.snapshot()
        writer.close()
    snapshots = table_of(settings).snapshots()
    said = [None if one.summary is None else one.summary[Remark.LEFT_OUT] for one in snapshots]
    left_out = "trades:0 7-39 (K2_START=latest)"
    assert said == [left_out, None, left_out, None]
    commit = commit_of(snapshots[0])
    assert commit is not None
    assert commit.remark == f"left_out {left_out}; started with no state"
