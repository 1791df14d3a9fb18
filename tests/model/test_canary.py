"""The canary's numbers and messages."""

from hypothesis import given
from hypothesis import strategies as st

from k2.model.canary import CanarySymbol, is_left_out, left_out, next_number
from k2.venues.k2 import decode, key

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=16)


@given(first=st.integers(1, 10_000), last=st.integers(0, 10_000))
def test_each_number_is_published_or_left_out(first: int, last: int) -> None:
    """The numbers from one to another are those that follow each other, and those that are left out."""
    published, number = [], next_number(first - 1)
    while number <= last:
        published.append(number)
        number = next_number(number)
    assert sorted([*published, *left_out(first, last)]) == [*range(first, last + 1)]
    assert [one for one in range(first, last + 1) if is_left_out(one)] == [*left_out(first, last)]


@given(exchange=NAMES, symbol=NAMES, number=st.integers(1, 2**62))
def test_a_message_is_one_of_venue_k2(exchange: str, symbol: str, number: int) -> None:
    """It is a trade with its number, and only its time differs when it is published again."""
    name = CanarySymbol(exchange, symbol)
    (trade,) = decode(name.message(number, 1_700_000_000_000_000))
    assert (trade.exchange, trade.symbol, trade.sequence, trade.timestamp) == (
        exchange,
        symbol,
        number,
        1_700_000_000_000_000,
    )
    (again,) = decode(name.message(number, 1_700_000_001_000_000))
    assert (again.price, again.quantity, again.side, again.trade_id) == (
        trade.price,
        trade.quantity,
        trade.side,
        trade.trade_id,
    )
    assert key(name.message(number, 1)).encode() == name.key
