"""Trades stored twice: the same number and content in more than one session, and nothing else."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.doubled import _grouped, _schema, doubled
from k2.query.engine import RecordBatchStream
from k2.query.tables import NoTableError
from tests.query.tables import EPOCH, append, made, trade


def row(sequence: int | None, session: int, offset: int, **values: Any) -> dict[str, Any]:
    """Return a row of `trades`."""
    return trade(offset, **{"sequence": sequence, "session": session, "trade_id": str(sequence), **values})


def found(settings: Settings) -> list[tuple[str, str, int, list[tuple[int, int]]]]:
    """Query: exchange, symbol and number, and session and offset of each copy."""
    with doubled(settings) as rows:
        return [
            (
                one["exchange"],
                one["symbol"],
                one["sequence"],
                [(copy["session"], copy["offset"]) for copy in one["copies"]],
            )
            for batch in rows.batches
            for one in batch.to_pylist()
        ]


@pytest.mark.parametrize(
    ("rows", "copies"),
    [
        ([], []),
        ([row(1, 1, 0), row(2, 1, 1)], []),
        ([row(1, 1, 0), row(1, 2, 5)], [[(1, 0), (2, 5)]]),
        ([row(1, 2, 0), row(1, 1, 5), row(1, 2, 7)], [[(1, 5), (2, 0), (2, 7)]]),
        ([row(1, 1, 0), row(1, 2, 1, timestamp=EPOCH + timedelta(days=3))], [[(1, 0), (2, 1)]]),
        ([row(1, 1, 0, side=None, trade_id=None), row(1, 2, 1, side=None, trade_id=None)], [[(1, 0), (2, 1)]]),
        ([row(1, 1, 0), row(1, 1, 1)], []),
        ([row(1, 1, 0), row(1, 2, 1, price=Decimal("2.6"))], []),
        ([row(1, 1, 0), row(1, 2, 1, quantity=Decimal(3))], []),
        ([row(1, 1, 0), row(1, 2, 1, side=None)], []),
        ([row(1, 1, 0), row(1, 2, 1, trade_id="x")], []),
        ([row(1, 1, 0), row(1, 2, 1, symbol="ETHUSDT")], []),
        ([row(1, 1, 0), row(1, 2, 1, exchange="kraken")], []),
        ([row(1, 0, 0), row(1, 1, 1)], []),
        ([row(None, 1, 0), row(None, 2, 1)], []),
    ],
    ids=[
        "an empty table",
        "one session",
        "one number in two sessions",
        "three copies in two sessions",
        "times differ",
        "without side and id",
        "twice in one session",
        "another price",
        "another quantity",
        "another side",
        "another id",
        "another symbol",
        "another exchange",
        "a row without a session",
        "rows without a number",
    ],
)
def test_doubled(settings: Settings, rows: list[dict[str, Any]], copies: list[list[tuple[int, int]]]) -> None:
    """Content and number count, times do not; a row outside all sessions is not a copy."""
    table = made(settings, TableName.TRADES)
    if rows:
        append(table, rows)
    assert found(settings) == [("binance", "BTCUSDT", 1, one) for one in copies]


def test_numbers_are_sorted(settings: Settings) -> None:
    """By exchange, symbol and number, whatever the order of the rows."""
    names = [("b", "Y", 2), ("a", "Z", 9), ("b", "X", 5), ("b", "Y", 1)]
    rows = [
        row(number, session, place, exchange=exchange, symbol=symbol)
        for place, (exchange, symbol, number) in enumerate(names)
        for session in (2, 1)
    ]
    append(made(settings, TableName.TRADES), rows)
    assert [one[:3] for one in found(settings)] == sorted(names)


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_copies_of_a_number_may_come_in_several_batches(batch_rows: int) -> None:
    """A number is one row however its copies are split; a number in a single session is not doubled."""
    copies = [
        (1, 7, 1),
        (1, 7, 2),
        (1, 7, 2),
        (2, 8, 1),
        (2, 9, 1),
        (2, 9, 3),
        (3, 5, 2),
        (3, 5, 2),
        (4, 5, 1),
        (4, 5, 2),
    ]
    table = pa.table(
        {
            **dict.fromkeys(("exchange", "symbol", "price", "quantity", "side", "trade_id"), ["x"] * len(copies)),
            "sequence": pa.array([one[0] for one in copies], pa.int64()),
            "content": pa.array([one[1] for one in copies], pa.uint64()),
            "session": pa.array([one[2] for one in copies], pa.int32()),
            **{name: [*range(len(copies))] for name in ("timestamp", "topic", "partition", "offset", "index")},
        }
    )
    rows = RecordBatchStream(table.schema, iter(table.to_batches(max_chunksize=batch_rows)))
    found = [one for batch in _grouped(rows, _schema(rows)) for one in batch.to_pylist()]
    reported = [(one["sequence"], [(copy["session"], copy["offset"]) for copy in one["copies"]]) for one in found]
    assert reported == [(1, [(1, 0), (2, 1), (2, 2)]), (2, [(1, 4), (3, 5)]), (4, [(1, 8), (2, 9)])]


def test_many_rows_stay_within_the_memory_limit(settings: Settings) -> None:
    """Numbers of two sessions without a common one need no more memory than a query may use."""
    rows = [row(number, session, number, price=Decimal(session)) for number in range(3_000) for session in (1, 2)]
    append(made(settings, TableName.TRADES), rows)
    assert found(settings.model_copy(update={"query_memory_limit": "64MB"})) == []


def test_without_a_table_it_raises(settings: Settings) -> None:
    """As the other reports do."""
    with pytest.raises(NoTableError), doubled(settings):
        pass
