"""Binance spot, stream `<symbol>@trade`.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams

`t` numbers a symbol's trades without gaps, across days. `T` is the time of the trade: in milliseconds (13 digits) by
default, in microseconds (16 digits) if the connection requests them. `m` true means that the buyer was the maker, so
the taker sold. `E` is the time at which the venue sent the event, not the receive time, and is not stored.
"""

from typing import Final

import msgspec

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import invalid
from k2.model.trade import Trade
from k2.venues.binance import BinanceTrade, symbol_of, taker, trade_event
from k2.venues.binance_spot_compiled import decode_binance_spot
from k2.venues.reading import checked, name, positive, read, required, sequence
from k2.venues.venue import SequenceMode, Venue

__all__ = ["BINANCE_SPOT", "decode", "key"]

EXCHANGE: Final = "binance"


_TRADE: Final = msgspec.json.Decoder(BinanceTrade)


def decode(value: bytes) -> list[Trade]:
    """Decode one event, bare or wrapped in a combined stream, to one trade.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for an event that is not a trade.
        SkippedError: the reply to a subscription.
    """
    trade = read(_TRADE, trade_event(value, "binance-spot"))
    number = sequence("t", required("t", trade.t))
    return [
        Trade(
            exchange=EXCHANGE,
            symbol=name("s", required("s", trade.s)),
            trade_id=str(number),
            sequence=number,
            price=checked("p", parse_decimal, required("p", trade.p)),
            quantity=positive("q", required("q", trade.q)),
            side=taker(required("m", trade.m)),
            timestamp=_time(required("T", trade.T)),
        )
    ]


def key(value: bytes) -> str:
    """Return `binance|symbol` of an event of any type."""
    return f"{EXCHANGE}|{symbol_of(value)}"


def _time(number: int) -> int:
    """Convert to microseconds by the number of digits: 13 are milliseconds, 16 microseconds."""
    if 10**12 <= number < 10**13:
        return number * 1000
    if not 10**15 <= number < 10**16:
        invalid("T", f"neither milliseconds (13 digits) nor microseconds (16): {clipped(number)}")
    return number


BINANCE_SPOT: Final = Venue(
    "binance-spot", SequenceMode.CONTIGUOUS, decode, decode_binance_spot, key, exchange=EXCHANGE, time_field="T"
)
