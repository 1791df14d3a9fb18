"""Errors of free SQL: plain words, the names that exist, and how to quote a reserved word."""

from collections.abc import Iterator

import pytest

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import QueryError
from k2.query.market import Market, open_market
from tests.query.tables import append, made, trade


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Yield a market with one trade that is too large to multiply as decimals."""
    options = Settings(data_dir=tmp_path_factory.mktemp("errors"))
    append(made(options, TableName.TRADES), [trade(1, price=100_000, quantity=12_345)])
    with open_market(options) as opened:
        yield opened


def error_of(market: Market, sql: str) -> str:
    """Return the message with which a statement is rejected."""
    with pytest.raises(QueryError) as raised, market.sql(sql) as rows:
        for _ in rows.batches:
            pass
    return str(raised.value)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT pric FROM trades", 'SQL: unknown column "pric"; similar names: "price", "partition"'),
        ("SELECT ofset FROM dead_letters", 'SQL: unknown column "ofset"; similar names: "offset"'),
        ("FROM ohlcv('1h') WHERE symbl = 'x'", 'SQL: unknown column "symbl"; similar names: "symbol"'),
        ("SELECT trades.pric FROM trades", 'SQL: unknown column "pric" of "trades"'),
        ("SELECT x.price FROM trades AS t", 'SQL: unknown table "x"; similar names: "t"'),
        ("SELECT vwapp(price, quantity) FROM trades", 'SQL: unknown function vwapp(); similar names: "vwap"'),
        (
            "FROM trade",
            "SQL: unknown table 'trade'; the tables are commits, corrected_trades, corrections, dead_letters",
        ),
    ],
)
def test_an_unknown_name_comes_with_similar_ones(market: Market, sql: str, message: str) -> None:
    """In one line, without DuckDB's excerpt of the statement."""
    found = error_of(market, sql)
    assert found.startswith(message)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT offset FROM trades", "offset"),
        ("SELECT partition, offset, index FROM trades", "offset"),
        ("SELECT 'é😀', offset FROM trades", "offset"),
        ("SELECT 'é😀', max(offset) FROM trades", "offset"),
        ("SELECT * FROM trades WHERE partition = 0 AND offset > 3", "offset"),
        ("SELECT * FROM trades ORDER BY OFFSET", "offset"),
        ("SELECT count(*) FROM trades GROUP BY offset", "offset"),
        ("SELECT limit FROM trades", "limit"),
        ("SELECT count(*) end FROM trades", "end"),
        ("SELECT desc FROM trades", "desc"),
    ],
)
def test_a_reserved_word_comes_with_its_quotes(market: Market, sql: str, word: str) -> None:
    """Also where DuckDB fails only at the word that follows."""
    assert f'if it is a name here, write "{word}" in double quotes' in error_of(market, sql)


@pytest.mark.parametrize(
    "sql",
    ["SELECT FROM WHERE", 'SELECT "offset" FROM', "SELECT 'x", "SELECT price quantity side FROM trades", "SELECT $$ a"],
)
def test_other_syntax_errors_advise_no_quotes(market: Market, sql: str) -> None:
    """A missing part is not a name."""
    found = error_of(market, sql)
    assert found.startswith("SQL: ")
    assert "reserved word" not in found


def test_index_and_partition_need_no_quotes(market: Market) -> None:
    """They are not reserved in DuckDB; after a table's name, `offset` is not either."""
    with market.sql("SELECT index, partition, timestamp, session, trades.offset FROM trades") as rows:
        assert rows.schema.names == ["index", "partition", "timestamp", "session", "offset"]


def test_an_overflow_names_what_computes_it(market: Market) -> None:
    """The product of price and quantity, which DuckDB multiplies with 36 decimals."""
    assert "Use vwap(price, quantity), or notional" in error_of(market, "SELECT sum(price * quantity) FROM trades")
