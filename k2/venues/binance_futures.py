"""Binance futures, coin- and USD-margined, stream `<symbol>@trade`.

For futures, the venue documents only `@aggTrade`
(https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams). It sends `@trade` as
well, in the format of the spot market
(https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams):

`t` numbers a symbol's trades without gaps. `X` is the type of the trade: `MARKET`, or `INSURANCE_FUND`, `ADL`
(positions closed by the venue itself) or `NA`. Trades of the other types have numbers of the same sequence, with price
and quantity 0 if there are none, and are not market trades. `T` is in milliseconds. `m` true means that the buyer was
the maker, so the taker sold.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from k2.model.decimals import parse_decimal
from k2.model.trade import NO_SIDE, Trade
from k2.venues.binance import BinanceTrade, symbol_of, taker, trade_event
from k2.venues.reading import checked, milliseconds, name, positive, read, required, sequence
from k2.venues.venue import SequenceMode, Venue

__all__ = ["BINANCE_FUTURES", "decode", "key"]

EXCHANGE: Final = "binance-futures"
"""Not `binance`, because both markets have a BTCUSDT, each with its own numbers."""
MARKET: Final = "MARKET"


class _Trade(BinanceTrade, gc=False):
    X: str | UnsetType = UNSET


_TRADE: Final = msgspec.json.Decoder(_Trade)


def decode(value: bytes) -> list[Trade]:
    """Decode one event, bare or wrapped in a combined stream, to one trade, which may be a non-market trade.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for an event that is not a trade.
        SkippedError: the reply to a subscription.
    """
    trade = read(_TRADE, trade_event(value, "binance-futures"))
    number = sequence("t", required("t", trade.t))
    is_market = required("X", trade.X) == MARKET
    return [
        Trade(
            exchange=EXCHANGE,
            symbol=name("s", required("s", trade.s)),
            trade_id=str(number),
            sequence=number,
            price=checked("p", parse_decimal, required("p", trade.p)) if is_market else 0,
            quantity=positive("q", required("q", trade.q)) if is_market else 0,
            side=taker(required("m", trade.m)) if is_market else NO_SIDE,
            timestamp=milliseconds("T", required("T", trade.T)),
            is_market=is_market,
        )
    ]


def key(value: bytes) -> str:
    """Return `binance-futures|symbol` of an event of any type."""
    return f"{EXCHANGE}|{symbol_of(value)}"


BINANCE_FUTURES: Final = Venue(
    "binance-futures", SequenceMode.CONTIGUOUS, decode, None, key, exchange=EXCHANGE, time_field="T"
)
