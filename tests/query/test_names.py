"""Names that are not stored, and the stored ones close to them."""

from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.names import UnknownName, close_names, unknown_names
from tests.query.tables import append, event, made, trade

NAMES = st.text(min_size=1, max_size=8)


@given(known=st.sets(NAMES), name=NAMES)
def test_at_most_three_of_the_known_names_are_close(known: set[str], name: str) -> None:
    """Each at most once; a name that differs in case only is among the closest."""
    close = close_names(name, known)
    assert len(close) == len(set(close)) <= 3
    assert known.issuperset(close)
    alike = {one for one in known if one.casefold() == name.casefold()}
    assert set(close[: len(alike)]) == alike or len(alike) > 3


def test_names_of_the_ledger_are_compared_before_those_of_the_trades(settings: Settings) -> None:
    """The trades are read for a name to which the ledger has none close, and for a symbol that has no numbers."""
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("session_started", 1, 1, symbol="ETHUSDT")])
    assert unknown_names(settings, None, "ethusd") == [UnknownName("ethusd", ("ETHUSDT",))]
    trades = made(settings, TableName.TRADES)
    append(trades, [trade(0, symbol="ETHUSDC"), trade(1, "kraken", "XBT/USD")])
    assert unknown_names(settings, None, "ethusd") == [UnknownName("ethusd", ("ETHUSDT",))]
    assert unknown_names(settings, None, "xbt-usd") == [UnknownName("xbt-usd", ("XBT/USD",))]
    assert unknown_names(settings, None, "ETHUSDC") == []
    assert unknown_names(settings, "cracken", "quite other") == [
        UnknownName("cracken", ("kraken",)),
        UnknownName("quite other", ()),
    ]


def test_a_symbol_is_compared_with_those_of_its_exchange(settings: Settings) -> None:
    """The same symbol of another exchange is not a suggestion."""
    append(made(settings, TableName.TRADES), [trade(0, symbol="BTCUSDT"), trade(1, "kraken", "BTC/USDT")])
    assert unknown_names(settings, "kraken", "BTCUSDT") == [UnknownName("BTCUSDT", ("BTC/USDT",))]


def test_without_tables_no_name_is_close(settings: Settings) -> None:
    """A table that does not exist has no names."""
    assert unknown_names(settings, "binance", None) == [UnknownName("binance", ())]
