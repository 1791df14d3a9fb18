"""Binance spot, stream `<symbol>@trade`.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams says:

`t` numbers a symbol's trades without a hole, over days. `T` is the time of the trade: milliseconds (13 digits)
by default, microseconds (16) where the connection asked for them. `m` true says that the buyer was the maker,
so the taker sold. `E` is when the venue sent the event, not when anybody received it, and is not kept.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trades.decimals import clipped, parse_decimal
from trades.reasons import Reason, RejectedError, SkippedError, invalid
from trades.trade import BUY, SELL, Trade
from trades.venues.binance_spot_compiled import decode_binance_spot
from trades.venues.reading import checked, given, name, positive, read, sequence
from trades.venues.venue import SequenceMode, Venue

__all__ = ["BINANCE_SPOT", "decode", "key"]

EXCHANGE: Final = "binance"


class _Event(msgspec.Struct, gc=False):
    e: str | UnsetType = UNSET
    result: Raw = Raw()
    data: Raw = Raw()


class _Trade(msgspec.Struct, gc=False):
    s: str | UnsetType = UNSET
    t: int | UnsetType = UNSET
    p: str | UnsetType = UNSET
    q: str | UnsetType = UNSET
    T: int | UnsetType = UNSET
    m: bool | UnsetType = UNSET


class _Symbol(msgspec.Struct, gc=False):
    s: str | UnsetType = UNSET


_EVENT: Final = msgspec.json.Decoder(_Event)
_TRADE: Final = msgspec.json.Decoder(_Trade)
_SYMBOL: Final = msgspec.json.Decoder(_Symbol)


def decode(value: bytes) -> list[Trade]:
    """Read one event, bare or in the form of a combined stream: one trade.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for an event that is no trade.
        SkippedError: the reply to a subscription.
    """
    trade = read(_TRADE, _trade_event(value))
    number = sequence("t", given("t", trade.t))
    return [
        Trade(
            exchange=EXCHANGE,
            symbol=name("s", given("s", trade.s)),
            trade_id=str(number),
            sequence=number,
            price=checked("p", parse_decimal, given("p", trade.p)),
            quantity=positive("q", given("q", trade.q)),
            side=SELL if given("m", trade.m) else BUY,
            timestamp=_time(given("T", trade.T)),
        )
    ]


def key(value: bytes) -> str:
    """Give `binance|symbol` of an event, whatever its kind."""
    symbol = read(_SYMBOL, _bare_event(value)[0]).s
    return f"{EXCHANGE}|{name('s', given('s', symbol))}"


def _trade_event(value: bytes) -> bytes:
    """Give the bytes of the trade event that a message is or bears."""
    bare, event = _bare_event(value)
    kind = given("e", event.e)
    if kind != "trade":
        raise RejectedError(Reason.UNSUPPORTED, f"e: {clipped(kind)} is not read from a binance-spot topic")
    return bare


def _bare_event(value: bytes) -> tuple[bytes, _Event]:
    """Take an event out of the form of a combined stream, where it is in it."""
    event = read(_EVENT, value)
    if event.e is UNSET and bytes(event.data):
        value = bytes(event.data)
        event = read(_EVENT, value)
    if event.e is UNSET and bytes(event.result):
        raise SkippedError("subscription_reply")
    return value, event


def _time(number: int) -> int:
    """Give microseconds by the count of digits: 13 are milliseconds, 16 microseconds."""
    if 10**12 <= number < 10**13:
        return number * 1000
    if not 10**15 <= number < 10**16:
        invalid("T", f"neither milliseconds (13 digits) nor microseconds (16): {clipped(number)}")
    return number


BINANCE_SPOT: Final = Venue(
    "binance-spot", SequenceMode.CONTIGUOUS, decode, decode_binance_spot, key, exchange=EXCHANGE
)
