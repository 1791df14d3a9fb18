"""The report by feed: what is counted of rows, ledger and property, by day and symbol."""

from datetime import timedelta
from typing import Any

import pytest

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import QueryError
from k2.query.feeds import by_feed
from k2.query.parameters import QueryParameters
from tests.query.feed_tables import write_feeds
from tests.query.tables import EPOCH, append, event, made, numbered


@pytest.fixture
def tables(settings: Settings) -> Settings:
    """Return the settings of tables with two feeds."""
    write_feeds(settings)
    return settings


def parts(rows: list[Any]) -> list[tuple[object, ...]]:
    """Return the counts of rows."""
    return [
        (one.symbol, (one.day - EPOCH.date()).days, one.feed, one.stored, one.brought, one.lost_alone, one.lost_by_all)
        for one in rows
    ]


OF_SYMBOL = [
    # Sessions 1 and 2, and what is of session 3 on the first day; B began in session 2.
    ("BTCUSDT", 0, "A", 8, 11, 2, 0),
    ("BTCUSDT", 0, "B", 5, 6, 1, 0),
    ("BTCUSDT", 1, "A", 5, 5, 0, 1),
    ("BTCUSDT", 1, "B", 0, 3, 1, 1),
]


def test_what_each_feed_brought_and_lost(tables: Settings) -> None:
    """By symbol and day, with the sums of the exchange, which have the lags."""
    rows = by_feed(tables)
    assert [one for one in parts(rows) if one[0]] == OF_SYMBOL
    assert [one for one in parts(rows) if not one[0]] == [(None, *one[1:]) for one in OF_SYMBOL]
    early, late = rows[:2]
    assert (early.compared, early.first, early.lag_p99_seconds) == (100, 60, 0)
    assert (late.compared, late.first) == (100, 0)
    assert [late.lag_p50_seconds, late.lag_p90_seconds, late.lag_p99_seconds] == pytest.approx(
        [0.005, 0.005, 2.0], rel=0.1
    )


def test_a_selection(tables: Settings) -> None:
    """By symbol, without the sums; by time; by an exchange that there is not."""
    assert parts(by_feed(tables, QueryParameters(symbol="BTCUSDT"))) == OF_SYMBOL
    late = QueryParameters(start=EPOCH + timedelta(days=1), symbol="BTCUSDT")
    assert parts(by_feed(tables, late)) == OF_SYMBOL[2:]
    assert by_feed(tables, QueryParameters(exchange="kraken")) == []
    with pytest.raises(QueryError, match="as of an earlier time: what feeds have reached is only known now"):
        by_feed(tables, QueryParameters(as_of=7))


def test_a_fill_from_elsewhere_changes_no_account(tables: Settings) -> None:
    """It is in the topic of a feed, which has not brought it; all feeds have lost it."""
    append(made(tables, TableName.TRADES), [numbered(6, 26, session=3, topic="ta", origin="archive sha256:0 a.zip")])
    filled = event("gap_filled", 6, 6, session=3, detected_at=EPOCH + timedelta(minutes=1))
    append(made(tables, TableName.SEQUENCE_EVENTS), [filled])
    assert [one for one in parts(by_feed(tables)) if one[0]] == OF_SYMBOL


def test_without_feeds_there_are_no_rows(settings: Settings) -> None:
    """An older table has no property."""
    append(made(settings, TableName.TRADES), [numbered(1, 1)])
    assert by_feed(settings) == []
