"""Stored trades in order: every selected trade once, in order, slice by slice."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query import ordered_trades
from k2.query.ordered_trades import OrderedTrades, Span, TradeOrder, joined
from k2.query.parameters import RowsParameters, make_parameters
from k2.query.pool import Pool
from tests.query.tables import EPOCH, append, made, trade

SPANS = st.lists(st.integers(1, 100), max_size=30).map(
    lambda rows: [Span(first * 10, first * 10 + 10, count) for first, count in enumerate(rows)]
)


@given(SPANS, st.integers(1, 200))
def test_joined_spans_have_all_rows_and_no_more_than_fit(spans: list[Span], rows_max: int) -> None:
    """Neighbours are joined as far as the limit allows; a span beyond it stays alone."""
    found = [*joined(spans, rows_max)]
    assert sum(one.rows for one in found) == sum(one.rows for one in spans)
    assert all(before.until <= after.first for before, after in pairwise(found))
    assert all(one.rows <= rows_max or one in spans for one in found)
    assert all(before.rows + after.rows > rows_max for before, after in pairwise(found))


def _replayed(settings: Settings, order: TradeOrder, **selection: Any) -> tuple[int, list[dict[str, Any]]]:
    with Pool(settings, connections=1) as pool:
        opened = OrderedTrades(settings, make_parameters(RowsParameters, **selection), order, pool)
        return opened.count(), [row for batch in opened.batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("rows_max", [2, 1_000])
def test_trades_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_max: int) -> None:
    """By time over days and seconds, or by offset of one partition after the other; whatever the size of a slice."""
    monkeypatch.setattr(ordered_trades, "SLICE_ROWS", rows_max)
    monkeypatch.setattr(ordered_trades, "OFFSETS", 2)
    settings = Settings(data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    times = [5, 86_400, 1, 1, 3, 86_399, 200_000, 2]
    rows = [
        trade(offset, partition=offset % 2, timestamp=EPOCH + timedelta(seconds=seconds), trade_id=str(offset))
        for offset, seconds in enumerate(times)
    ]
    append(table, rows[:5])
    append(table, rows[5:])
    count, by_time = _replayed(settings, TradeOrder.TIME)
    assert (count, [row["trade_id"] for row in by_time]) == (8, ["2", "3", "7", "4", "0", "5", "1", "6"])
    _, by_offset = _replayed(settings, TradeOrder.OFFSET)
    assert [row["trade_id"] for row in by_offset] == ["0", "2", "4", "6", "1", "3", "5", "7"]
    selection = {"start": EPOCH + timedelta(seconds=2), "end": EPOCH + timedelta(seconds=86_400)}
    count, selected = _replayed(settings, TradeOrder.TIME, **selection)
    assert (count, [row["trade_id"] for row in selected]) == (4, ["7", "4", "0", "5"])
    assert _replayed(settings, TradeOrder.OFFSET, exchange="none") == (0, [])
