"""`vwap`, `ohlcv` and `trades_derived`: right on values of any size, and on the rows of the statement."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.market import Market, open_market
from k2.query.pool import open_engine
from k2.query.query_builders import ohlcv, trades
from k2.query.sql_macros import DERIVED
from tests.query.tables import append, made, trade

BIG_PRICE = Decimal("100000.123456789012345678")
BIG_QUANTITY = Decimal("12345.678")
LAST_DECIMAL = Fraction(1, 10**18)
NUMBER = pa.decimal128(38, 18)


def decimals(places: int, largest: int) -> st.SearchStrategy[Decimal]:
    """Draw positive decimals with this number of places, as one of a venue."""
    return st.integers(1, largest * 10**places).map(lambda unscaled: Decimal(unscaled).scaleb(-places))


REAL = st.sampled_from([(2, 8), (8, 8), (10, 2), (0, 0), (18, 0), (18, 3), (9, 9), (18, 18)]).flatmap(
    lambda places: st.tuples(decimals(places[0], 200_000), decimals(places[1], 200_000))
)
ANY = st.tuples(*[st.decimals(-(10**19), 10**19, places=18, allow_nan=False, allow_infinity=False)] * 2)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Yield an engine without tables."""
    with open_engine(Settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Yield a market with large trades of two symbols, in two bars."""
    options = Settings(data_dir=tmp_path_factory.mktemp("macros"))
    table = made(options, TableName.TRADES)
    values = [("BTCUSDT", BIG_PRICE, BIG_QUANTITY), ("ETHUSDT", Decimal("4321.000000000000000001"), Decimal(7000))]
    append(
        table,
        [
            trade(number, symbol=symbol, price=price + number, quantity=quantity)
            for number in range(100)
            for symbol, price, quantity in values
        ],
    )
    with open_market(options) as opened:
        yield opened


def answered(market: Market, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a statement."""
    with market.sql(sql) as rows:
        return [row for batch in rows.batches for row in batch.to_pylist()]


def derived(engine: Engine, pairs: list[tuple[Decimal | None, Decimal | None]], select: str) -> list[dict[str, Any]]:
    """Return a statement's rows, over trades of these prices and quantities."""
    prices, quantities = zip(*pairs, strict=True)
    engine.clear()
    engine.register_arrow(
        "trades", pa.table({"price": pa.array(prices, NUMBER), "quantity": pa.array(quantities, NUMBER)})
    )
    engine.register_view("trades_derived", DERIVED["trades_derived"])
    return engine.query(select)


@given(st.lists(REAL, min_size=1, max_size=20))
@settings(max_examples=60)
def test_vwap_is_the_exact_one_to_12_digits(engine: Engine, pairs: list[tuple[Decimal, Decimal]]) -> None:
    """Compared with fractions."""
    (row,) = derived(engine, [*pairs], "SELECT vwap(price, quantity) AS vwap FROM trades")
    turnover = sum(Fraction(price) * Fraction(quantity) for price, quantity in pairs)
    exact = turnover / sum(Fraction(quantity) for _, quantity in pairs)
    assert abs(Fraction(row["vwap"]) - exact) <= exact / 10**12


@given(st.lists(REAL, min_size=1, max_size=20))
@settings(max_examples=60)
def test_notional_is_exact_to_its_18_decimals(engine: Engine, pairs: list[tuple[Decimal, Decimal]]) -> None:
    """It is the product if that has 18 decimals; otherwise it differs by at most half a unit of the last one."""
    found = derived(engine, [*pairs], "SELECT * FROM trades_derived")
    for row, (price, quantity) in zip(found, pairs, strict=True):
        exact = Fraction(price) * Fraction(quantity)
        difference = abs(Fraction(row["notional"]) - exact)
        # The double that finds the nearest one sees a tie within a millionth.
        assert difference <= LAST_DECIMAL * Fraction(500_001, 1_000_000)
        assert difference == 0 or exact % LAST_DECIMAL
        assert row["price_double"] == pytest.approx(float(price), rel=1e-15)
        assert row["quantity_double"] == pytest.approx(float(quantity), rel=1e-15)


@given(ANY)
@settings(max_examples=60)
def test_notional_is_never_wrong(engine: Engine, pair: tuple[Decimal, Decimal]) -> None:
    """Of values of any size, it is right or an error."""
    try:
        (row,) = derived(engine, [pair], "SELECT notional FROM trades_derived")
    except (duckdb.ConversionException, duckdb.OutOfRangeException):
        assert max(map(abs, pair)) > 10**15 or abs(Fraction(pair[0]) * Fraction(pair[1])) >= 10**20
    else:
        assert abs(Fraction(row["notional"]) - Fraction(pair[0]) * Fraction(pair[1])) <= LAST_DECIMAL


def test_nulls_do_not_count(engine: Engine) -> None:
    """A trade without a price or quantity has no weight, and without any weight there is no average."""
    select = "SELECT vwap(price, quantity) AS vwap FROM trades"
    two = [(Decimal(1), Decimal(1)), (Decimal(3), Decimal(1))]
    assert derived(engine, [*two, (None, Decimal(5)), (Decimal(7), None)], select) == [{"vwap": 2.0}]
    assert derived(engine, [(Decimal(1), Decimal(0)), (None, Decimal(1))], select) == [{"vwap": None}]
    assert derived(engine, [(None, Decimal(1))], "SELECT notional FROM trades_derived") == [{"notional": None}]


def test_large_trades_have_averages_by_symbol(market: Market) -> None:
    """The values whose product as decimals overflows."""
    found = answered(market, "SELECT symbol, vwap(price, quantity) AS v FROM trades GROUP BY symbol ORDER BY symbol")
    exact = {"BTCUSDT": BIG_PRICE + Decimal("49.5"), "ETHUSDT": Decimal("4370.500000000000000001")}
    assert {row["symbol"]: row["v"] for row in found} == pytest.approx(
        {symbol: float(price) for symbol, price in exact.items()}, rel=1e-12
    )
    (first,) = answered(market, "SELECT notional FROM trades_derived WHERE symbol = 'BTCUSDT' ORDER BY price LIMIT 1")
    assert first == {"notional": Decimal("1234569324.157764060357765280")}


def test_bars_are_those_of_the_report(market: Market) -> None:
    """`ohlcv` has the rows and columns of the bars, and its intervals may have their form or SQL's."""
    expected = market.table(ohlcv(interval="1m")).to_pylist()
    assert len(expected) == 4
    assert answered(market, "FROM ohlcv('1m')") == expected
    assert answered(market, "SELECT * FROM OHLCV(INTERVAL 1 MINUTE)") == expected
    only = answered(market, "FROM ohlcv('1m') WHERE symbol = 'ETHUSDT'")
    assert only == [row for row in expected if row["symbol"] == "ETHUSDT"]


def test_bars_of_selected_trades(market: Market) -> None:
    """Of a WITH query that is named `trades`, as of a moment, and of no trades."""
    with_trades = "WITH trades AS (SELECT * FROM trades WHERE {}) SELECT sum(trades) AS n FROM ohlcv('1w')"
    assert answered(market, with_trades.format("sequence < 10 AND symbol = 'BTCUSDT'")) == [{"n": 10}]
    assert answered(market, with_trades.format("false")) == [{"n": None}]


def test_the_columns_of_trades_stay_the_same(market: Market) -> None:
    """Only the view `trades_derived` has more."""
    names = market.table(trades(limit=1)).column_names
    assert [*answered(market, "SELECT * FROM trades LIMIT 1")[0]] == names
    assert [*answered(market, "FROM trades_derived LIMIT 1")[0]] == [
        *names,
        "price_double",
        "quantity_double",
        "notional",
    ]


def test_a_view_is_as_of_the_snapshot_of_its_trades(tmp_path: Path) -> None:
    """It shows no newer trades, and none of the query before on the same connection."""
    options = Settings(data_dir=tmp_path)
    table = made(options, TableName.TRADES)
    append(table, [trade(1)])
    first = table.current_snapshot()
    assert first is not None
    append(table, [trade(2)])
    counts = "SELECT (SELECT count(*) FROM trades_derived) AS rows, (SELECT sum(trades) FROM ohlcv('1d')) AS traded"
    with open_market(options) as market:
        assert answered(market, counts) == [{"rows": 2, "traded": 2}]
        with market.sql(counts, first.snapshot_id) as rows:
            assert next(rows.batches).to_pylist() == [{"rows": 1, "traded": 1}]
        assert answered(market, counts) == [{"rows": 2, "traded": 2}]
