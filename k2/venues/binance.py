"""Shared by the Binance markets: the trade event, bare or wrapped in a combined stream.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from k2.model.decimals import clipped
from k2.model.reasons import Reason, RejectedError, SkippedError
from k2.model.trade import BUY, SELL
from k2.venues.reading import name, read, required

__all__ = ["BinanceTrade", "symbol_of", "taker", "trade_event"]


class BinanceTrade(msgspec.Struct, gc=False):
    """The trade fields common to all markets."""

    s: str | UnsetType = UNSET
    t: int | UnsetType = UNSET
    p: str | UnsetType = UNSET
    q: str | UnsetType = UNSET
    T: int | UnsetType = UNSET
    m: bool | UnsetType = UNSET


class _Event(msgspec.Struct, gc=False):
    e: str | UnsetType = UNSET
    result: Raw = Raw()
    data: Raw = Raw()


class _Symbol(msgspec.Struct, gc=False):
    s: str | UnsetType = UNSET


_EVENT: Final = msgspec.json.Decoder(_Event)
_SYMBOL: Final = msgspec.json.Decoder(_Symbol)


def trade_event(value: bytes, venue: str) -> bytes:
    """Return the bytes of the trade event in a message, bare or wrapped in a combined stream.

    Raises:
        RejectedError: `malformed`, or `unsupported` for an event that is not a trade.
        SkippedError: the reply to a subscription.
    """
    bare, event = _bare_event(value)
    kind = required("e", event.e)
    if kind != "trade":
        raise RejectedError(Reason.UNSUPPORTED, f"e: {clipped(kind)} is not read from a {venue} topic")
    return bare


def symbol_of(value: bytes) -> str:
    """Return the symbol of an event of any type.

    Raises:
        RejectedError: `malformed`, or `invalid` if the symbol is.
        SkippedError: the reply to a subscription.
    """
    return name("s", required("s", read(_SYMBOL, _bare_event(value)[0]).s))


def taker(buyer_was_maker: bool) -> int:  # noqa: FBT001  the venue's own flag
    """Return the taker side."""
    return SELL if buyer_was_maker else BUY


def _bare_event(value: bytes) -> tuple[bytes, _Event]:
    """Return the event and its bytes, unwrapped if it comes from a combined stream."""
    event = read(_EVENT, value)
    if event.e is UNSET and bytes(event.data):
        value = bytes(event.data)
        event = read(_EVENT, value)
    if event.e is UNSET and bytes(event.result):
        raise SkippedError("subscription_reply")
    return value, event
