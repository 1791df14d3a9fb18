"""Average prices of real trades equal exact ones."""

from collections import defaultdict
from fractions import Fraction

import pytest

import k2
from tests.analysis.recordings import recorded_trades

SCALE = 10**18


@pytest.fixture(scope="module")
def exact() -> dict[tuple[str, str], Fraction]:
    """Return the exact average price of each symbol of the recordings, by plain fractions of the venues' digits."""
    notional, quantity = (
        defaultdict[tuple[str, str], Fraction](Fraction),
        defaultdict[tuple[str, str], Fraction](Fraction),
    )
    for one in recorded_trades():
        price, amount = Fraction(one.price, SCALE), Fraction(one.quantity, SCALE)
        notional[one.exchange, one.symbol] += price * amount
        quantity[one.exchange, one.symbol] += amount
    return {name: notional[name] / quantity[name] for name in quantity}


@pytest.mark.parametrize("way", ["vwap", "sql", "ohlcv"])
def test_vwap_of_every_symbol_is_right_to_12_digits(
    market: k2.MarketData, exact: dict[tuple[str, str], Fraction], way: str
) -> None:
    """The query, the SQL aggregate and one bar of 19 years agree with the exact value of each symbol."""
    result = {
        "vwap": market.vwap,
        "sql": lambda: market.sql("SELECT exchange, symbol, vwap(price, quantity) AS vwap FROM trades GROUP BY ALL"),
        "ohlcv": lambda: market.ohlcv(interval="999w"),
    }[way]()
    found = {(row["exchange"], row["symbol"]): Fraction(row["vwap"]) for row in result.to_pylist()}
    assert found.keys() == exact.keys()
    assert len(found) == 25
    for name, value in exact.items():
        assert abs(found[name] - value) < value / 10**12, name
