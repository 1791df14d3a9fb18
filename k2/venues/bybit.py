"""Bybit, version 2 of its API, topic `trade.<symbol>`.

Sources: https://bybit-exchange.github.io/docs-legacy/futuresV2/linear/#t-websockettrade and
https://bybit-exchange.github.io/docs-legacy/futuresV2/inverse/#t-websockettrade

A message has one or more trades. `trade_id` is a UUID, so missing trades cannot be detected. `cross_seq` numbers
matches, which can have several trades, and is not read. `price` and `trade_time_ms` are text on linear contracts and
numbers on inverse ones; `size` is a number. `side` is the taker side.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.trade import BUY, SELL, Trade
from k2.venues.reading import (
    checked,
    checked_trade_id,
    decimal_text,
    milliseconds,
    name,
    number_text,
    positive,
    read,
    required,
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
    """Decode one message to its trades, in their order.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for a message of another topic.
        SkippedError: the reply to a subscription or a ping.
    """
    _symbol(_topic(value))
    trades = required("data", read(_MESSAGE, value).data)
    if not trades:
        raise SkippedError("no_trades")
    return [_trade(f"data[{index}]", trade) for index, trade in enumerate(trades)]


def key(value: bytes) -> str:
    """Return `bybit|symbol` of a message, from its topic."""
    return f"{EXCHANGE}|{name('topic', _symbol(_topic(value)))}"


def _topic(value: bytes) -> str:
    head = read(_HEAD, value)
    if head.topic is UNSET and bytes(head.success):
        raise SkippedError("subscription_reply")
    return required("topic", head.topic)


def _symbol(topic: str) -> str:
    channel, _, symbol = topic.partition(".")
    if channel != CHANNEL:
        raise RejectedError(Reason.UNSUPPORTED, f"topic: {clipped(topic)} is not read from a bybit topic")
    return symbol


def _trade(path: str, trade: _Trade) -> Trade:
    return Trade(
        exchange=EXCHANGE,
        symbol=name(f"{path}.symbol", required(f"{path}.symbol", trade.symbol)),
        trade_id=checked_trade_id(f"{path}.trade_id", required(f"{path}.trade_id", trade.trade_id)),
        sequence=None,
        price=checked(f"{path}.price", parse_decimal, decimal_text(f"{path}.price", trade.price)),
        quantity=positive(f"{path}.size", decimal_text(f"{path}.size", trade.size)),
        side=_side(f"{path}.side", required(f"{path}.side", trade.side)),
        timestamp=_time(f"{path}.trade_time_ms", trade.trade_time_ms),
    )


def _side(field: str, side: str) -> int:
    if side not in _SIDES:
        invalid(field, f"neither Buy nor Sell: {clipped(side)}")
    return _SIDES[side]


def _time(field: str, time: int | str | UnsetType) -> int:
    if isinstance(time, str):
        return milliseconds(field, number_text(field, time))
    return milliseconds(field, required(field, time))


BYBIT: Final = Venue(
    "bybit", SequenceMode.IDENTITY_ONLY, decode, None, key, exchange=EXCHANGE, time_field="data[{index}].trade_time_ms"
)
