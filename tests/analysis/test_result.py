"""A result as Arrow, pandas, polars and DuckDB: the same rows, with the digits that each promises."""

import importlib.util
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import k2
from k2.analysis.extras import MissingExtraError
from k2.analysis.result import Result
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.engine import QueryError
from tests.query.tables import append, made, trade

BTC = {"exchange": "binance", "symbol": "BTCUSDT"}
MANY_DIGITS = Decimal("12345678901234567890.123456789012345678")


def test_all_forms_have_the_same_rows(market: k2.MarketData) -> None:
    """Arrow, pandas, polars, DuckDB, lists and batches hold the same prices in the same order."""
    result = market.trades(**BTC, limit=1_000)
    prices = [row["price"] for row in result.to_pylist()]
    assert result.to_arrow()["price"].to_pylist() == prices
    assert result.to_pandas(exact=True)["price"].tolist() == prices
    assert result.to_pandas()["price"].tolist() == [float(price) for price in prices]
    assert result.to_polars()["price"].to_list() == prices
    assert [row[0] for row in result.to_duckdb().project("price").fetchall()] == prices
    with result.batches() as batches:
        assert batches.read_all()["price"].to_pylist() == prices


def test_pandas_types(market: k2.MarketData) -> None:
    """Floats for decimals, UTC times, days as times, and integers that stay integers when one is missing."""
    frame = market.trades(symbol="BTCUSD", limit=5).to_pandas()
    types = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert (types["price"], types["quantity"], types["timestamp"]) == ("float64", "float64", "datetime64[us, UTC]")
    assert (types["sequence"], types["partition"]) == ("Int64", "Int32")
    assert frame["sequence"].isna().all()
    bars = market.ohlcv(**BTC, interval="1m").to_pandas().set_index("start")
    hourly = bars["volume"].resample("1h").sum()
    assert hourly.sum() == pytest.approx(bars["volume"].sum())
    assert str(market.completeness().to_pandas()["day"].dtype).startswith("datetime64")


def test_a_large_number_stays_exact_in_pandas(tmp_path: Path) -> None:
    """A sequence number beyond 2**53 is not rounded when another row has none."""
    number = 2**53 + 1
    append(made(Settings(data_dir=tmp_path), TableName.TRADES), [trade(1, sequence=number), trade(2, sequence=None)])
    with k2.open(data_dir=tmp_path) as market:
        frame = market.trades().to_pandas()
    assert frame["sequence"].iloc[0] == number
    assert frame["sequence"].isna().tolist() == [False, True]


def test_exact_decimals(tmp_path: Path) -> None:
    """All 38 digits survive in each exact form."""
    append(made(Settings(data_dir=tmp_path), TableName.TRADES), [trade(1, price=MANY_DIGITS)])
    with k2.open(data_dir=tmp_path) as market:
        result = market.trades()
        assert result.to_pandas(exact=True)["price"].tolist() == [MANY_DIGITS]
        assert result.to_polars()["price"].to_list() == [MANY_DIGITS]
        assert result.to_pandas()["price"].tolist() == [pytest.approx(float(MANY_DIGITS), rel=1e-15)]


DECIMALS = st.one_of(st.decimals(-(10**number), 10**number, places=19 - number) for number in range(1, 20))


@given(st.lists(st.one_of(st.none(), DECIMALS), max_size=5), st.integers(0, 2))
@example([Decimal("0.0000001"), None], 0)
@example([Decimal("61837.63"), Decimal("-99999999999999999999.999999999999999999")], 0)
def test_a_price_as_float_is_the_nearest_one(prices: list[Decimal | None], skipped: int) -> None:
    """Every decimal(38, 18) becomes the float that Python makes of it, also in a slice of a table."""
    table = pa.table({"price": pa.array(prices, pa.decimal128(38, 18))}).slice(skipped)
    found = Result("x", lambda: table).to_pandas()["price"].tolist()
    expected = [math.nan if price is None else float(price) for price in prices[skipped:]]
    assert found == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_other_libraries_take_a_result_as_it_is(market: k2.MarketData) -> None:
    """Arrow's PyCapsule interface: no conversion has to be named."""
    result = market.symbols()
    assert pa.table(result).num_rows == pl.DataFrame(result).height == 25


def test_a_relation_of_your_connection(market: k2.MarketData) -> None:
    """It can be queried further, together with your own tables."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE mine AS SELECT 'BTCUSDT' AS symbol")
        found = market.symbols().to_duckdb(connection)
        assert found.join(connection.table("mine"), "symbol").aggregate("sum(trades)").fetchone() == (9757,)


def test_columns_of_one_name_are_refused(market: k2.MarketData) -> None:
    """Every form says so in one way."""
    result = market.sql("SELECT 1 AS a, 2 AS a")
    for convert in (result.to_arrow, result.to_pandas, result.to_polars, result.to_duckdb, result.to_pylist):
        with pytest.raises(QueryError, match="two columns have the name 'a'"):
            convert()


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_missing_package_names_the_extra(
    market: k2.MarketData, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """One sentence, and it is an `ImportError` as well."""
    real = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == package else real(name, *rest)

    monkeypatch.setattr("k2.analysis.extras.find_spec", without)
    with pytest.raises(
        MissingExtraError, match=rf"to_{package}\(\) needs {package}.*'k2-trades\[{package}\]'"
    ) as caught:
        getattr(market.symbols(), f"to_{package}")()
    assert isinstance(caught.value, ImportError)


def test_empty_results_have_their_columns(market: k2.MarketData) -> None:
    """No rows, but every column with its type."""
    result = market.trades(symbol="nope")
    assert "price" in result.to_pandas().columns
    assert result.to_polars().schema["price"] == pl.Decimal(38, 18)
    assert isinstance(result.to_pandas(), pd.DataFrame)
    assert result.to_pylist() == []


def test_repr_names_the_conversions(market: k2.MarketData) -> None:
    """A result at a prompt says how to go on."""
    assert "to_pandas()" in repr(market.trades())
