"""Partition progress: from the table's metadata and the newest commits' files, and null rather than guessed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from k2.iceberg.tables import TableName
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query import partition_progress as module
from k2.query.engine import Engine
from k2.query.partition_progress import progress
from k2.query.tables import NoTableError
from k2.storage.table_properties import PROGRESS
from tests.query.tables import EPOCH, append, made, set_progress, trade

Moves = dict[int, PartitionProgress]


def commit(table: Table, rows: list[dict[str, Any]], moves: Moves, writer: str = "0") -> None:
    """Append rows in a commit that advances partitions of topic `trades`, as a writer's does."""
    moved = {TopicPartition("trades", partition): move for partition, move in moves.items()}
    own = {"k2.writer": writer, "k2.progress": Progress({writer: moved}).text()}
    table.append(pa.Table.from_pylist(rows, schema=schema_to_pyarrow(table.schema())), snapshot_properties=own)
    before = PROGRESS.read(table.metadata.properties)
    after = {where: before.of(writer).get(where, PartitionProgress(0)).advanced(move) for where, move in moved.items()}
    set_progress(table, before.replaced(writer, {**before.of(writer), **after}))


def stored(offset: int, rows: int) -> PartitionProgress:
    """Return an advance to an offset that stores as many rows as it received."""
    return PartitionProgress(offset, rows, rows)


def at(seconds: int, offset: int, partition: int = 0) -> dict[str, Any]:
    """Return a trade with a given Kafka time."""
    return trade(offset, partition=partition, kafka_timestamp=EPOCH + timedelta(seconds=seconds))


def test_each_partition_is_reported_from_its_last_commit(settings: Settings) -> None:
    """Sums over the writers, the newest times of the last commits' rows, and the age since."""
    table = made(settings, TableName.TRADES)
    commit(table, [at(60, 0)], {0: stored(1, 1)})
    commit(table, [at(20, 0, partition=1)], {1: stored(1, 1)})
    commit(table, [at(40, 1)], {0: stored(2, 1)})
    commit(table, [at(30, 2)], {0: stored(3, 1)}, writer="1")
    first, second = progress(settings)
    assert (first.topic, first.partition, first.offset, first.received, first.stored) == ("trades", 0, 3, 3, 3)
    assert first.kafka_timestamp == EPOCH + timedelta(seconds=40)
    assert first.timestamp == EPOCH + timedelta(seconds=2)
    assert second.kafka_timestamp == EPOCH + timedelta(seconds=20)
    assert first.committed_at is not None
    assert second.committed_at is not None
    assert first.committed_at > second.committed_at
    assert first.age_seconds == pytest.approx((datetime.now(UTC) - EPOCH).total_seconds() - 40, abs=60)


def test_unknown_values_are_null(settings: Settings) -> None:
    """Times are null if a partition's last commit is not on record or stored no trade."""
    table = made(settings, TableName.TRADES)
    append(table, [at(10, 0), at(10, 0, partition=1)])
    untold = {TopicPartition("trades", 0): PartitionProgress(1, 1, 1), TopicPartition("trades", 1): stored(1, 1)}
    set_progress(table, Progress({"0": untold}))
    commit(table, [at(90, 9, partition=2)], {1: PartitionProgress(2, 1, 0, 1)})
    first, second = progress(settings)
    assert (first.committed_at, first.kafka_timestamp, first.age_seconds) == (None, None, None)
    assert second.committed_at is not None
    assert (second.kafka_timestamp, second.duplicates) == (None, 1)


def test_few_files_are_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many partitions were advanced by separate commits, only the files of the newest ones are read."""
    shown: list[int] = []
    show = Engine.register_added
    monkeypatch.setattr(module, "COMMITS_READ_MAX", 2)
    monkeypatch.setattr(Engine, "register_added", lambda *given: (shown.append(len(given[3])), show(*given))[1])
    table = made(settings, TableName.TRADES)
    for partition in range(4):
        commit(table, [at(partition, 0, partition)], {partition: stored(1, 1)})
    found = progress(settings)
    assert shown == [2]
    assert [one.kafka_timestamp is None for one in found] == [True, True, False, False]
    assert all(one.committed_at for one in found)


def test_empty_and_missing_tables(settings: Settings) -> None:
    """An empty table has no partition, and a missing table is reported."""
    with pytest.raises(NoTableError):
        progress(settings)
    made(settings, TableName.TRADES)
    assert progress(settings) == []
