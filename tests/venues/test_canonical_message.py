"""Canonical messages of stored trades: their decoder gets the same trade."""

from hypothesis import given
from hypothesis import strategies as st

from k2.model.trade import BUY, NO_SIDE, SELL
from k2.venues import VENUES
from k2.venues.canonical_message import CanonicalMessage, canonical_message
from k2.venues.k2 import K2

TIMES = st.integers(10**14, 10**16 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
NUMBERS = st.integers(0, 2**62)


def _text(units: int) -> str:
    """Return units of 10^-18 as a decimal number."""
    whole, rest = divmod(abs(units), 10**18)
    return f"{'-' * (units < 0)}{whole}.{rest:018d}"


MESSAGES = st.builds(
    CanonicalMessage,
    NAMES,
    NAMES,
    st.integers(1 - 10**38, 10**38 - 1).map(_text),
    st.integers(1, 10**38 - 1).map(_text),
    TIMES,
    st.none() | NAMES,
    st.none() | NUMBERS,
    side=st.sampled_from(["buy", "sell", None]),
    received=st.none() | TIMES,
)


@given(MESSAGES)
def test_a_trade_survives_its_message(message: CanonicalMessage) -> None:
    """Without an id it has its number's decimal form, as it had when it was stored."""
    (trade,) = K2.decode(canonical_message(message))
    found = (trade.exchange, trade.symbol, trade.sequence, trade.timestamp, trade.received)
    assert found == (message.exchange, message.symbol, message.sequence, message.timestamp, message.received)
    assert (_text(trade.price), _text(trade.quantity)) == (message.price, message.quantity)
    assert trade.side == {"buy": BUY, "sell": SELL, None: NO_SIDE}[message.side]
    number = None if message.sequence is None else str(message.sequence)
    assert trade.trade_id == (number if message.trade_id is None else message.trade_id)


def test_a_range_is_read_by_the_venue_of_fills() -> None:
    """With its first number and its last."""
    message = CanonicalMessage("x", "A-B", "1.5", "2", 10**15, trade_id="7", sequence=9, first_sequence=5, side="buy")
    (trade,) = VENUES["k2-fill"].decode(canonical_message(message))
    assert (trade.first_sequence, trade.sequence, trade.trade_id, trade.side) == (5, 9, "7", BUY)
