"""Bybit, version 2 of its API, topic `trade.<symbol>`.

https://bybit-exchange.github.io/docs-legacy/futuresV2/linear/#t-websockettrade and
https://bybit-exchange.github.io/docs-legacy/futuresV2/inverse/#t-websockettrade say:

One message bears one or several trades. `trade_id` is a UUID, so nothing tells what is missing; `cross_seq` numbers
matches, several trades to one, and is not read. `price` is text on linear contracts and a number on inverse ones,
`trade_time_ms` likewise; `size` is a number. `side` is the taker's.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.trade import BUY, SELL, Trade
from k2.venues.reading import (
    checked,
    decimal_text,
    given,
    identity,
    milliseconds,
    name,
    number_text,
    positive,
    read,
)
from k2.venues.venue import SequenceMode, Venue

__all__ = ["BYBIT", "decode", "key"]

EXCHANGE: Final = "bybit"
CHANNEL: Final = "trade"
_SIDES: Final = {"Buy": BUY, "Sell": SELL}


class _Head(msgspec.Struct, gc=False):
    topic: str | UnsetType = UNSET
    success: Raw = Raw()


class _Trade(msgspec.Struct, gc=False):
    symbol: str | UnsetType = UNSET
    trade_id: str | UnsetType = UNSET
    price: Raw = Raw()
    size: Raw = Raw()
    side: str | UnsetType = UNSET
    trade_time_ms: int | str | UnsetType = UNSET


class _Message(msgspec.Struct, gc=False):
    data: list[_Trade] | UnsetType = UNSET


_HEAD: Final = msgspec.json.Decoder(_Head)
_MESSAGE: Final = msgspec.json.Decoder(_Message)


def decode(value: bytes) -> list[Trade]:
    """Read one message: its trades, in their order.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for a message of another topic.
        SkippedError: the reply to a subscription or a ping.
    """
    _symbol(_topic(value))
    trades = given("data", read(_MESSAGE, value).data)
    if not trades:
        raise SkippedError("no_trades")
    return [_trade(f"data[{place}]", trade) for place, trade in enumerate(trades)]


def key(value: bytes) -> str:
    """Return `bybit|symbol` of a message, by its topic."""
    return f"{EXCHANGE}|{name('topic', _symbol(_topic(value)))}"


def _topic(value: bytes) -> str:
    head = read(_HEAD, value)
    if head.topic is UNSET and bytes(head.success):
        raise SkippedError("subscription_reply")
    return given("topic", head.topic)


def _symbol(topic: str) -> str:
    channel, _, symbol = topic.partition(".")
    if channel != CHANNEL:
        raise RejectedError(Reason.UNSUPPORTED, f"topic: {clipped(topic)} is not read from a bybit topic")
    return symbol


def _trade(where: str, trade: _Trade) -> Trade:
    return Trade(
        exchange=EXCHANGE,
        symbol=name(f"{where}.symbol", given(f"{where}.symbol", trade.symbol)),
        trade_id=identity(f"{where}.trade_id", given(f"{where}.trade_id", trade.trade_id)),
        sequence=None,
        price=checked(f"{where}.price", parse_decimal, decimal_text(f"{where}.price", trade.price)),
        quantity=positive(f"{where}.size", decimal_text(f"{where}.size", trade.size)),
        side=_side(f"{where}.side", given(f"{where}.side", trade.side)),
        timestamp=_time(f"{where}.trade_time_ms", trade.trade_time_ms),
    )


def _side(field: str, side: str) -> int:
    if side not in _SIDES:
        invalid(field, f"neither Buy nor Sell: {clipped(side)}")
    return _SIDES[side]


def _time(field: str, time: int | str | UnsetType) -> int:
    if isinstance(time, str):
        return milliseconds(field, number_text(field, time))
    return milliseconds(field, given(field, time))


BYBIT: Final = Venue(
    "bybit", SequenceMode.IDENTITY_ONLY, decode, None, key, exchange=EXCHANGE, time_field="data[{index}].trade_time_ms"
)
