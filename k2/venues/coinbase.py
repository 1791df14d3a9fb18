"""Coinbase Exchange, channel `matches`.

Source: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels

`trade_id` numbers a product's trades without gaps. `sequence` numbers all events of its order book and is not read.
`side` is the maker side: `sell` is an up-tick, in which the taker bought. `last_match` is the last trade before a
subscription, so it has usually been sent before. `time` is RFC 3339 with microseconds.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.times import parse_time
from k2.model.trade import BUY, SELL, Trade
from k2.venues.reading import checked, name, positive, read, required, sequence
from k2.venues.venue import SequenceMode, Venue

__all__ = ["COINBASE", "decode", "key"]

EXCHANGE: Final = "coinbase"
_TAKERS: Final = {"buy": SELL, "sell": BUY}
"""Taker side by maker side."""
_SKIPPED: Final = {"subscriptions": "subscription_reply", "heartbeat": "heartbeat"}


class _Message(msgspec.Struct, gc=False):
    type: str | UnsetType = UNSET


class _Match(msgspec.Struct, gc=False):
    trade_id: int | UnsetType = UNSET
    side: str | UnsetType = UNSET
    size: str | UnsetType = UNSET
    price: str | UnsetType = UNSET
    product_id: str | UnsetType = UNSET
    time: str | UnsetType = UNSET


class _Product(msgspec.Struct, gc=False):
    product_id: str | UnsetType = UNSET


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_MATCH: Final = msgspec.json.Decoder(_Match)
_PRODUCT: Final = msgspec.json.Decoder(_Product)


def decode(value: bytes) -> list[Trade]:
    """Decode one message to one trade.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for a message that is not a match.
        SkippedError: a heartbeat, or the reply to a subscription.
    """
    kind = _kind(value)
    if kind not in {"match", "last_match"}:
        raise RejectedError(Reason.UNSUPPORTED, f"type: {clipped(kind)} is not read from a coinbase topic")
    match = read(_MATCH, value)
    number = sequence("trade_id", required("trade_id", match.trade_id))
    return [
        Trade(
            exchange=EXCHANGE,
            symbol=name("product_id", required("product_id", match.product_id)),
            trade_id=str(number),
            sequence=number,
            price=checked("price", parse_decimal, required("price", match.price)),
            quantity=positive("size", required("size", match.size)),
            side=_taker(required("side", match.side)),
            timestamp=checked("time", parse_time, required("time", match.time)),
        )
    ]


def key(value: bytes) -> str:
    """Return `coinbase|product_id` of a message of any type."""
    _kind(value)
    product = read(_PRODUCT, value).product_id
    return f"{EXCHANGE}|{name('product_id', required('product_id', product))}"


def _kind(value: bytes) -> str:
    kind = required("type", read(_MESSAGE, value).type)
    if kind in _SKIPPED:
        raise SkippedError(_SKIPPED[kind])
    return kind


def _taker(maker: str) -> int:
    if maker not in _TAKERS:
        invalid("side", f"neither buy nor sell: {clipped(maker)}")
    return _TAKERS[maker]


COINBASE: Final = Venue("coinbase", SequenceMode.CONTIGUOUS, decode, None, key, exchange=EXCHANGE, time_field="time")
