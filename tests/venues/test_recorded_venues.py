"""Binance futures, Coinbase, OKX and Bybit: what is a trade, what is skipped, what is rejected."""

from typing import Any, Final

import msgspec
import pytest

from k2.model.reasons import RejectedError, SkippedError
from k2.model.trade import BUY, NO_SIDE, SELL, Trade
from k2.venues import VENUES
from tests.venues.messages import BINANCE_MESSAGE, K2_MESSAGE

UNIT: Final = 10**18
FUTURES: Final = (
    b'{"e":"trade","E":1723161256322,"T":1723161256321,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006",'
    b'"X":"MARKET","m":false}'
)
COINBASE: Final = (
    b'{"type":"match","trade_id":280232,"maker_order_id":"a","taker_order_id":"b","side":"sell","size":"985",'
    b'"price":"0.5","product_id":"SKL-BTC","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}'
)
OKX: Final = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"7849","px":"30218.8",'
    b'"sz":"1","side":"buy","ts":"1652459199958"},{"instId":"BTC-USDT","tradeId":"7847","px":"30218","sz":"2",'
    b'"side":"sell","ts":"1652459199959"}]}'
)
BYBIT: Final = (
    b'{"topic":"trade.BTCUSD","data":[{"trade_time_ms":1618677785116,"timestamp":"2021-04-17T16:43:05.000Z",'
    b'"symbol":"BTCUSD","side":"Sell","size":97,"price":60622.50,"trade_id":"413bca3a","cross_seq":1},'
    b'{"symbol":"BTCUSD","price":"1.5","size":0.25,"trade_time_ms":"1618677785117","side":"Buy","trade_id":"01ca"}]}'
)
SAMPLES: Final = {"binance-futures": FUTURES, "coinbase": COINBASE, "okx": OKX, "bybit": BYBIT}
ALL_SAMPLES: Final = SAMPLES | {"binance-spot": BINANCE_MESSAGE, "k2": K2_MESSAGE}
TRADES: Final = {
    "binance-futures": [
        Trade(
            "binance-futures",
            "BTCUSDT",
            "5266583935",
            5_266_583_935,
            618_003 * UNIT // 10,
            6 * UNIT // 1000,
            BUY,
            1_723_161_256_321_000,
        )
    ],
    "coinbase": [
        Trade("coinbase", "SKL-BTC", "280232", 280_232, UNIT // 2, 985 * UNIT, BUY, 1_618_677_817_089_723),
    ],
    "okx": [
        Trade("okx", "BTC-USDT", "7849", 7849, 302_188 * UNIT // 10, UNIT, BUY, 1_652_459_199_958_000),
        Trade("okx", "BTC-USDT", "7847", 7847, 30_218 * UNIT, 2 * UNIT, SELL, 1_652_459_199_959_000),
    ],
    "bybit": [
        Trade("bybit", "BTCUSD", "413bca3a", None, 606_225 * UNIT // 10, 97 * UNIT, SELL, 1_618_677_785_116_000),
        Trade("bybit", "BTCUSD", "01ca", None, 3 * UNIT // 2, UNIT // 4, BUY, 1_618_677_785_117_000),
    ],
}
KEYS: Final = {
    "binance-futures": "binance-futures|BTCUSDT",
    "coinbase": "coinbase|SKL-BTC",
    "okx": "okx|BTC-USDT",
    "bybit": "bybit|BTCUSD",
}
ABSENT: Final = object()
OKX_TRADE: Final = msgspec.json.decode(OKX)["data"][0]
BYBIT_TRADE: Final = msgspec.json.decode(BYBIT)["data"][0]
NEEDED: Final = {
    "binance-futures": ["e", "t", "X", "s", "p", "q", "m", "T"],
    "binance-spot": ["e", "t", "s", "p", "q", "m", "T"],
    "coinbase": ["type", "trade_id", "product_id", "price", "size", "side", "time"],
    "okx": ["tradeId", "ts", "instId", "px", "sz", "side"],
    "bybit": ["symbol", "trade_id", "price", "size", "side", "trade_time_ms"],
    "k2": ["exchange", "symbol", "price", "quantity", "timestamp"],
}
NO_KEY: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("binance-futures", {"s": ABSENT}, "invalid: s: missing"),
    ("binance-spot", {"s": ""}, "invalid: s: empty"),
    ("coinbase", {"product_id": ABSENT}, "invalid: product_id: missing"),
    ("coinbase", {"product_id": ""}, "invalid: product_id: empty"),
    ("okx", {"arg": ABSENT}, "invalid: arg: missing"),
    ("okx", {"arg": {"channel": "trades"}}, "invalid: arg.instId: missing"),
    ("okx", {"arg": {"channel": "trades", "instId": ""}}, "invalid: arg.instId: empty"),
    ("bybit", {"topic": ABSENT}, "invalid: topic: missing"),
    ("bybit", {"topic": "trade."}, "invalid: topic: empty"),
    ("k2", {"symbol": ABSENT}, "invalid: symbol: missing"),
    ("k2", {"symbol": ""}, "invalid: symbol: empty"),
]

REFUSED: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("binance-futures", {"e": "aggTrade"}, "unsupported: e: 'aggTrade' is not read from a binance-futures topic"),
    ("binance-futures", {"X": ABSENT}, "invalid: X: missing"),
    ("binance-futures", {"t": 2**63}, "invalid: t: beyond 64 bits: '9223372036854775808'"),
    ("binance-futures", {"T": 10**12 - 1}, "invalid: T: not milliseconds (13 digits): '999999999999'"),
    ("binance-futures", {"T": 10**13}, "invalid: T: not milliseconds (13 digits): '10000000000000'"),
    ("binance-futures", {"q": "0"}, "invalid: q: not above zero: '0'"),
    ("binance-futures", {"p": "NaN"}, "invalid: p: not a decimal: 'NaN'"),
    ("binance-futures", {"m": ABSENT}, "invalid: m: missing"),
    ("binance-futures", {"X": "ADL", "s": ""}, "invalid: s: empty"),
    ("binance-futures", {"X": "ADL", "t": ABSENT}, "invalid: t: missing"),
    ("binance-futures", {"X": "LATER"}, "unsupported: X: 'LATER' is not read from a binance-futures topic"),
    ("binance-futures", {"X": [1]}, "unsupported: X: '[1]' is not read from a binance-futures topic"),
    ("coinbase", {"type": "open"}, "unsupported: type: 'open' is not read from a coinbase topic"),
    ("coinbase", {"type": 5}, "invalid: type: expected str, got int"),
    ("coinbase", {"type": ABSENT}, "invalid: type: missing"),
    ("coinbase", {"trade_id": 2**63}, "invalid: trade_id: beyond 64 bits: '9223372036854775808'"),
    ("coinbase", {"price": "x"}, "invalid: price: not a decimal: 'x'"),
    ("coinbase", {"trade_id": "5"}, "invalid: trade_id: expected int, got str"),
    ("coinbase", {"side": "Buy"}, "invalid: side: neither buy nor sell: 'Buy'"),
    ("coinbase", {"size": "0"}, "invalid: size: not above zero: '0'"),
    ("coinbase", {"price": ABSENT}, "invalid: price: missing"),
    ("coinbase", {"product_id": ""}, "invalid: product_id: empty"),
    ("coinbase", {"time": "yesterday"}, "invalid: time: not an RFC 3339 time: 'yesterday'"),
    ("okx", {"event": "error"}, "unsupported: event: 'error' is not read from an okx topic"),
    (
        "okx",
        {"arg": {"channel": "books", "instId": "x"}},
        "unsupported: arg.channel: 'books' is not read from an okx topic",
    ),
    ("okx", {"arg": ABSENT}, "invalid: arg: missing"),
    ("okx", {"arg": {}}, "invalid: arg.channel: missing"),
    ("okx", {"data": ABSENT}, "invalid: data: missing"),
    ("okx", {"data": [{}]}, "invalid: data[0].tradeId: missing"),
    ("okx", {"data": [{"tradeId": "7x"}]}, "invalid: data[0].tradeId: not a whole number of 64 bits: '7x'"),
    (
        "okx",
        {"data": [{"tradeId": "9" * 20}]},
        f"invalid: data[0].tradeId: not a whole number of 64 bits: '{'9' * 20}'",
    ),
    ("okx", {"data": [{"tradeId": "9" * 19}]}, f"invalid: data[0].tradeId: beyond 64 bits: '{'9' * 19}'"),
    ("okx", {"data": [OKX_TRADE | {"ts": "16524"}]}, "invalid: data[0].ts: not milliseconds (13 digits): '16524'"),
    ("okx", {"data": [OKX_TRADE | {"ts": "now"}]}, "invalid: data[0].ts: not a whole number of 64 bits: 'now'"),
    ("okx", {"data": [OKX_TRADE, OKX_TRADE | {"instId": ""}]}, "invalid: data[1].instId: empty"),
    ("okx", {"data": [OKX_TRADE | {"px": "x"}]}, "invalid: data[0].px: not a decimal: 'x'"),
    ("okx", {"data": [OKX_TRADE | {"sz": "0"}]}, "invalid: data[0].sz: not above zero: '0'"),
    ("okx", {"data": [OKX_TRADE | {"side": "Buy"}]}, "invalid: data[0].side: neither buy nor sell: 'Buy'"),
    (
        "bybit",
        {"topic": "publicTrade.BTCUSDT"},
        "unsupported: topic: 'publicTrade.BTCUSDT' is not read from a bybit topic",
    ),
    ("bybit", {"topic": ABSENT}, "invalid: topic: missing"),
    ("bybit", {"data": ABSENT}, "invalid: data: missing"),
    ("bybit", {"data": [{"symbol": "B", "trade_id": ""}]}, "invalid: data[0].trade_id: empty"),
    ("bybit", {"data": [{"symbol": "B", "trade_id": "i"}]}, "invalid: data[0].price: missing"),
    ("bybit", {"data": [BYBIT_TRADE, BYBIT_TRADE | {"symbol": ""}]}, "invalid: data[1].symbol: empty"),
    ("bybit", {"data": [BYBIT_TRADE | {"price": "x"}]}, "invalid: data[0].price: not a decimal: 'x'"),
    (
        "bybit",
        {"data": [BYBIT_TRADE | {"trade_time_ms": "now"}]},
        "invalid: data[0].trade_time_ms: not a whole number of 64 bits: 'now'",
    ),
    (
        "bybit",
        {"data": [BYBIT_TRADE | {"trade_time_ms": "5"}]},
        "invalid: data[0].trade_time_ms: not milliseconds (13 digits): '5'",
    ),
    (
        "bybit",
        {"data": [BYBIT_TRADE | {"trade_time_ms": 5}]},
        "invalid: data[0].trade_time_ms: not milliseconds (13 digits): '5'",
    ),
    (
        "bybit",
        {"data": [{"symbol": "B", "trade_id": "i", "price": True}]},
        "invalid: data[0].price: expected a decimal string or a number, got 'true'",
    ),
    (
        "bybit",
        {"data": [{"symbol": "B", "trade_id": "i", "price": 1, "size": 0}]},
        "invalid: data[0].size: not above zero: '0'",
    ),
    (
        "bybit",
        {"data": [{"symbol": "B", "trade_id": "i", "price": 1, "size": 1, "side": "buy"}]},
        "invalid: data[0].side: neither Buy nor Sell: 'buy'",
    ),
    (
        "bybit",
        {"data": [{"symbol": "B", "trade_id": "i", "price": 1, "size": 1, "side": "Buy"}]},
        "invalid: data[0].trade_time_ms: missing",
    ),
]
SKIPPED: Final = [
    ("binance-futures", b'{"result":null,"id":1}', "subscription_reply"),
    ("coinbase", b'{"type":"subscriptions","channels":[]}', "subscription_reply"),
    ("okx", b"pong", "heartbeat"),
    ("okx", b'{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}', "subscription_reply"),
    ("bybit", b'{"success":true,"ret_msg":"pong","request":{"op":"ping"}}', "subscription_reply"),
]


def message(venue: str, changes: dict[str, Any]) -> bytes:
    """Return a venue's sample with some fields changed or left out."""
    fields = msgspec.json.decode(ALL_SAMPLES[venue]) | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not ABSENT})


@pytest.mark.parametrize("venue", SAMPLES)
def test_trades_are_read(venue: str) -> None:
    """Every field is read from its place in the venue's message, and the side is the taker's."""
    assert (VENUES[venue].decode(SAMPLES[venue]), VENUES[venue].key(SAMPLES[venue])) == (TRADES[venue], KEYS[venue])


@pytest.mark.parametrize(("venue", "changes", "error"), REFUSED)
def test_a_bad_field_is_named(venue: str, changes: dict[str, Any], error: str) -> None:
    """By its name in the message, and its index in a list."""
    with pytest.raises(RejectedError) as caught:
        VENUES[venue].decode(message(venue, changes))
    assert str(caught.value) == error


@pytest.mark.parametrize(("venue", "field"), [(venue, field) for venue, fields in NEEDED.items() for field in fields])
def test_a_missing_field_is_named(venue: str, field: str) -> None:
    """Any field that a trade requires, with its index in a list."""
    data = msgspec.json.decode(ALL_SAMPLES[venue]).get("data")
    trade = data and {name: value for name, value in data[-1].items() if name != field}
    with pytest.raises(RejectedError) as caught:
        VENUES[venue].decode(message(venue, {"data": [data[0], trade]} if data else {field: ABSENT}))
    assert str(caught.value) == f"invalid: {'data[1].' if data else ''}{field}: missing"


@pytest.mark.parametrize(("venue", "changes", "error"), NO_KEY)
def test_a_message_without_a_name_has_no_key(venue: str, changes: dict[str, Any], error: str) -> None:
    """The error names the field that is missing."""
    with pytest.raises(RejectedError) as caught:
        VENUES[venue].key(message(venue, changes))
    assert str(caught.value) == error


def test_the_channel_ends_at_the_first_dot() -> None:
    """Everything after it is the symbol."""
    assert VENUES["bybit"].key(message("bybit", {"topic": "trade.BTC.USD"})) == "bybit|BTC.USD"


@pytest.mark.parametrize("time", [10**12, 10**13 - 1])
def test_milliseconds_have_13_digits(time: int) -> None:
    """The first and the last time with 13 digits are valid."""
    [trade] = VENUES["binance-futures"].decode(message("binance-futures", {"T": time}))
    assert trade.timestamp == time * 1000


@pytest.mark.parametrize(("venue", "value", "why"), SKIPPED)
def test_a_message_that_is_not_a_trade_is_skipped(venue: str, value: bytes, why: str) -> None:
    """A heartbeat or a reply is skipped with its reason, and has no key."""
    for read in (VENUES[venue].decode, VENUES[venue].key):
        with pytest.raises(SkippedError) as caught:
            read(value)
        assert caught.value.why == why


@pytest.mark.parametrize("venue", ["okx", "bybit"])
def test_a_message_without_trades_is_skipped(venue: str) -> None:
    """It has a key, because its topic names the symbol."""
    value = message(venue, {"data": []})
    with pytest.raises(SkippedError) as caught:
        VENUES[venue].decode(value)
    assert caught.value.why == "no_trades"
    assert VENUES[venue].key(value) == KEYS[venue]


@pytest.mark.parametrize("kind", ["INSURANCE_FUND", "ADL", "NA"])
def test_non_market_trades_keep_only_their_number(kind: str) -> None:
    """A futures trade of another type needs neither price nor quantity nor side."""
    [market] = TRADES["binance-futures"]
    for number in ("0", "7", ABSENT):
        value = message("binance-futures", {"X": kind, "p": number, "q": number, "m": ABSENT})
        [trade] = VENUES["binance-futures"].decode(value)
        assert trade == market._replace(price=0, quantity=0, side=NO_SIDE, is_market=False)


@pytest.mark.parametrize("side", [("buy", SELL), ("sell", BUY)])
def test_coinbase_names_the_makers_side(side: tuple[str, int]) -> None:
    """The taker's is the opposite; the last match before a subscription is a trade like others."""
    [trade] = VENUES["coinbase"].decode(message("coinbase", {"side": side[0], "type": "last_match"}))
    assert trade.side == side[1]


def test_a_combined_stream_has_the_same_trade() -> None:
    """The envelope of `/stream?streams=` changes nothing."""
    value = b'{"stream":"btcusdt@trade","data":' + FUTURES + b"}"
    assert VENUES["binance-futures"].decode(value) == TRADES["binance-futures"]
    assert VENUES["binance-futures"].key(value) == KEYS["binance-futures"]
