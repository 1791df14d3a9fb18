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
from msgspec import UNSET, UnsetType

from k2.model.decimals import parse_decimal
from k2.model.trade import NO_SIDE, Trade
from k2.venues.binance import BinanceTrade, symbol_of, taker, trade_event
from k2.venues.reading import checked, given, milliseconds, name, positive, read, sequence
from k2.venues.venue import SequenceMode, Venue

__all__ = ["BINANCE_FUTURES", "decode", "key"]

EXCHANGE: Final = "binance-futures"
"""Not `binance`: both markets have a BTCUSDT, each with numbers of its own."""
MARKET: Final = "MARKET"


class _Trade(BinanceTrade, gc=False):
    X: str | UnsetType = UNSET


_TRADE: Final = msgspec.json.Decoder(_Trade)


def decode(value: bytes) -> list[Trade]:
    """Read one event, bare or in the form of a combined stream: one trade, be it of the market or not.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for an event that is no trade.
        SkippedError: the reply to a subscription.
    """
    trade = read(_TRADE, trade_event(value, "binance-futures"))
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
            side=taker(given("m", trade.m)) if is_market else NO_SIDE,
            timestamp=milliseconds("T", given("T", trade.T)),
            is_market=is_market,
        )
    ]


def key(value: bytes) -> str:
    """Return `binance-futures|symbol` of an event, whatever its kind."""
    return f"{EXCHANGE}|{symbol_of(value)}"


BINANCE_FUTURES: Final = Venue(
    "binance-futures", SequenceMode.CONTIGUOUS, decode, None, key, exchange=EXCHANGE, time_field="T"
)
