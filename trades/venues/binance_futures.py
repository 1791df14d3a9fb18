"""Binance futures, coin- and USD-margined, stream `<symbol>@trade`.

Of its futures the venue documents only `@aggTrade`
(https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams); `@trade` is sent all
the same, in the form of the spot market's
(https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams):

`t` numbers a symbol's trades without a hole. `X` says of what kind a trade is: `MARKET`, or `INSURANCE_FUND`, `ADL`
(positions closed by the venue itself) or `NA`. Those others bear numbers of the same sequence, with price and quantity
of 0 where there are none, and are no market trades. `T` is milliseconds. `m` true says that the buyer was the maker, so
the taker sold.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trades.decimals import clipped, parse_decimal
from trades.reasons import Reason, RejectedError, SkippedError
from trades.trade import BUY, NO_SIDE, SELL, Trade
from trades.venues.reading import checked, given, milliseconds, name, positive, read, sequence
from trades.venues.venue import SequenceMode, Venue

__all__ = ["BINANCE_FUTURES", "decode", "key"]

EXCHANGE: Final = "binance-futures"
"""Not `binance`: both markets have a BTCUSDT, each with numbers of its own."""
MARKET: Final = "MARKET"


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
    X: str | UnsetType = UNSET


class _Symbol(msgspec.Struct, gc=False):
    s: str | UnsetType = UNSET


_EVENT: Final = msgspec.json.Decoder(_Event)
_TRADE: Final = msgspec.json.Decoder(_Trade)
_SYMBOL: Final = msgspec.json.Decoder(_Symbol)


def decode(value: bytes) -> list[Trade]:
    """Read one event, bare or in the form of a combined stream: one trade, be it of the market or not.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for an event that is no trade.
        SkippedError: the reply to a subscription.
    """
    trade = read(_TRADE, _trade_event(value))
    number = sequence("t", given("t", trade.t))
    is_market = given("X", trade.X) == MARKET
    return [
        Trade(
            exchange=EXCHANGE,
            symbol=name("s", given("s", trade.s)),
            trade_id=str(number),
            sequence=number,
            price=checked("p", parse_decimal, given("p", trade.p)) if is_market else 0,
            quantity=positive("q", given("q", trade.q)) if is_market else 0,
            side=_taker(given("m", trade.m)) if is_market else NO_SIDE,
            timestamp=milliseconds("T", given("T", trade.T)),
            is_market=is_market,
        )
    ]


def key(value: bytes) -> str:
    """Give `binance-futures|symbol` of an event, whatever its kind."""
    symbol = read(_SYMBOL, _bare_event(value)[0]).s
    return f"{EXCHANGE}|{name('s', given('s', symbol))}"


def _taker(buyer_was_maker: bool) -> int:  # noqa: FBT001  the venue's own flag
    return SELL if buyer_was_maker else BUY


def _trade_event(value: bytes) -> bytes:
    """Give the bytes of the trade event that a message is or bears."""
    bare, event = _bare_event(value)
    kind = given("e", event.e)
    if kind != "trade":
        raise RejectedError(Reason.UNSUPPORTED, f"e: {clipped(kind)} is not read from a binance-futures topic")
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


BINANCE_FUTURES: Final = Venue("binance-futures", SequenceMode.CONTIGUOUS, decode, None, key, exchange=EXCHANGE)
