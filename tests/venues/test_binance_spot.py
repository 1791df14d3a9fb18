"""Binance spot's trade event: what is a trade, what is skipped, what is rejected."""

from typing import Any, Final

import msgspec
import pytest

from k2.model.reasons import RejectedError, SkippedError
from k2.model.trade import BUY, SELL, Trade
from k2.venues import VENUES
from tests.venues.messages import BINANCE_MESSAGE

FIELDS: Final[dict[str, Any]] = msgspec.json.decode(BINANCE_MESSAGE)
TRADE: Final = Trade(
    "binance",
    "BTCUSDT",
    "3735683259",
    3_735_683_259,
    61_837_630_000_000_000_000_000,
    20_000_000_000_000_000,
    SELL,
    1_723_161_255_342_000,
)
ABSENT: Final = object()
decode, key = VENUES["binance-spot"].decode, VENUES["binance-spot"].key

REFUSED: Final[list[tuple[dict[str, Any], str]]] = [
    ({"e": "aggTrade"}, "unsupported: e: 'aggTrade' is not read from a binance-spot topic"),
    ({"e": ABSENT}, "invalid: e: missing"),
    ({"s": ""}, "invalid: s: empty"),
    ({"t": "5"}, "invalid: t: expected int, got str"),
    ({"t": 2**64}, "invalid: t: beyond 64 bits: '18446744073709551616'"),
    ({"p": "abc"}, "invalid: p: not a decimal: 'abc'"),
    ({"p": 5}, "invalid: p: expected str, got int"),
    ({"q": "0.00000000"}, "invalid: q: not above zero: '0.00000000'"),
    ({"T": 10**12 - 1}, "invalid: T: neither milliseconds (13 digits) nor microseconds (16): '999999999999'"),
    ({"T": 10**13}, "invalid: T: neither milliseconds (13 digits) nor microseconds (16): '10000000000000'"),
    ({"T": 10**15 - 1}, "invalid: T: neither milliseconds (13 digits) nor microseconds (16): '999999999999999'"),
    ({"T": 10**16}, "invalid: T: neither milliseconds (13 digits) nor microseconds (16): '10000000000000000'"),
    ({"T": 1_723_161_255}, "invalid: T: neither milliseconds (13 digits) nor microseconds (16): '1723161255'"),
    (
        {"T": 1_723_161_255_342_000_000},
        "invalid: T: neither milliseconds (13 digits) nor microseconds (16): '1723161255342000000'",
    ),
    ({"m": None}, "invalid: m: expected bool, got null"),
    ({"m": ABSENT}, "invalid: m: missing"),
]


def message(changes: dict[str, Any]) -> bytes:
    """Return the sample event with some fields changed or left out."""
    fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not ABSENT}
    return msgspec.json.encode(fields)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"m": False}, {"side": BUY}),
        ({"T": 10**12}, {"timestamp": 10**15}),
        ({"T": 10**13 - 1}, {"timestamp": 10**16 - 1000}),
        ({"T": 10**15}, {"timestamp": 10**15}),
        ({"T": 10**16 - 1}, {"timestamp": 10**16 - 1}),
        ({"T": 1_723_161_255_342_123}, {"timestamp": 1_723_161_255_342_123}),
        ({"s": "币安人生USDT"}, {"symbol": "币安人生USDT"}),
        ({"E": "whenever", "M": None}, {}),
    ],
)
def test_a_trade_is_read(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """The side is the taker's, and the unit of the time follows from its digits."""
    assert decode(message(changes)) == [TRADE._replace(**expected)]


def test_a_combined_stream_has_the_same_trade() -> None:
    """The envelope of `/stream?streams=` changes nothing."""
    value = b'{"stream":"btcusdt@trade","data":' + BINANCE_MESSAGE + b"}"
    assert decode(value) == [TRADE]
    assert key(value) == "binance|BTCUSDT"


@pytest.mark.parametrize(("changes", "error"), REFUSED)
def test_a_bad_field_is_named(changes: dict[str, Any], error: str) -> None:
    """By its name in the message."""
    with pytest.raises(RejectedError) as caught:
        decode(message(changes))
    assert str(caught.value) == error


@pytest.mark.parametrize("value", [b'{"result":null,"id":1}', b'{"result":["btcusdt@trade"],"id":2}'])
def test_a_reply_is_skipped(value: bytes) -> None:
    """It is neither a market trade nor an error, and it has no key."""
    with pytest.raises(SkippedError):
        decode(value)
    with pytest.raises(SkippedError):
        key(value)


def test_a_message_with_a_bad_price_still_has_its_key() -> None:
    """It goes to the partition of its symbol's other trades."""
    assert key(message({"p": None})) == "binance|BTCUSDT"
