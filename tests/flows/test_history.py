"""What the tables say to a start whose own state is behind, or lost."""

from pathlib import Path
from typing import Any

import pytest

from connectors.iceberg.tables import TableName
from flows.history import TableHistory
from runtime.settings import read_settings
from tests.query.tables import append, made, progress, set_progress, trade
from trades.groups import group_of
from trades.progress import TopicPartition


@pytest.mark.parametrize("resumed", [{}, {TopicPartition("trades", 0): 6}])
def test_rows_of_other_writers_are_not_taken_as_seen(resumed: dict[TopicPartition, int], tmp_path: Path) -> None:
    """A foreign row stays unseen in whatever file it lies: a compaction puts it into one with the job's own."""
    settings = read_settings({}, data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    foreign: dict[str, Any] = {"topic": "elsewhere"}
    append(
        table,
        [
            trade(7) | {"session": 1},
            trade(8) | {"session": 1} | foreign,
            trade(9) | {"sequence": None},
            trade(10) | {"sequence": None} | foreign,
        ],
    )
    set_progress(table, progress(offset=11, received=2, stored=2))
    history, group = TableHistory(settings), group_of("binance", "BTCUSDT")
    history.resumed(resumed)
    assert [(seen.where.topic, seen.ranges) for seen in history.sessions(group)] == [("trades", ((7, 7),))]
    ids = list(history.ids(group, 10**12, is_resumed=False))
    assert [(seen.where.topic, len(seen.times)) for seen in ids] == [("trades", 1)]
