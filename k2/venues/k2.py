"""The canonical message: one trade as JSON, for feeds from your own capture process.

Prices may be zero or negative: calendar spreads, power and (in April 2020) crude oil have traded there. Quantities are
positive.

Three venues use it, which differ only in the meaning of a missing sequence number: `k2`, `k2-monotonic` and
`k2-identity-only`.
"""

from dataclasses import replace
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import invalid
from k2.model.symbol_names import EXCHANGE_BYTES_MAX
from k2.model.times import checked_time, parse_time
from k2.model.trade import BUY, NO_SIDE, SELL, Trade
from k2.venues.k2_compiled import decode_k2
from k2.venues.reading import checked, checked_trade_id, decimal_text, name, positive, read, required, sequence
from k2.venues.venue import SequenceMode, Venue

__all__ = ["K2", "K2_IDENTITY_ONLY", "K2_MONOTONIC", "decode", "key"]


class _Message(msgspec.Struct, gc=False):
    exchange: str | UnsetType = UNSET
    symbol: str | UnsetType = UNSET
    trade_id: str | UnsetType | None = UNSET
    sequence: int | None = None
    price: Raw = Raw()
    quantity: Raw = Raw()
    side: str | None = None
    timestamp: int | str | UnsetType = UNSET
    received: int | str | None = None


class _Names(msgspec.Struct, gc=False):
    exchange: str | UnsetType = UNSET
    symbol: str | UnsetType = UNSET


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_NAMES: Final = msgspec.json.Decoder(_Names)
_SIDES: Final[dict[str | None, int]] = {None: NO_SIDE, "buy": BUY, "sell": SELL}


def decode(value: bytes) -> list[Trade]:
    """Decode one canonical message to one trade.

    Raises:
        RejectedError: `malformed` or `invalid`, with the field and what is wrong with it.
    """
    message = read(_MESSAGE, value)
    number = None if message.sequence is None else sequence("sequence", message.sequence)
    return [
        Trade(
            exchange=_exchange(message.exchange),
            symbol=name("symbol", required("symbol", message.symbol)),
            trade_id=_trade_id(message.trade_id, number),
            sequence=number,
            price=checked("price", parse_decimal, decimal_text("price", message.price)),
            quantity=positive("quantity", decimal_text("quantity", message.quantity)),
            side=_side(message.side),
            timestamp=_time("timestamp", message.timestamp),
            received=None if message.received is None else _time("received", message.received),
        )
    ]


def key(value: bytes) -> str:
    """Return `exchange|symbol` of a canonical message."""
    names = read(_NAMES, value)
    return f"{_exchange(names.exchange)}|{name('symbol', required('symbol', names.symbol))}"


def _exchange(text: str | UnsetType) -> str:
    return name("exchange", required("exchange", text), EXCHANGE_BYTES_MAX)


def _trade_id(trade_id: str | UnsetType | None, number: int | None) -> str | None:
    """Return the trade id; the sequence number if there is none, and None for an explicit null without a sequence."""
    if isinstance(trade_id, str):
        return checked_trade_id("trade_id", trade_id)
    if number is not None:
        return str(number)
    if trade_id is UNSET:
        invalid("trade_id", "missing; send a trade_id or a sequence")
    return None


def _side(side: str | None) -> int:
    if side not in _SIDES:
        invalid("side", f"neither buy nor sell: {clipped(side)}")
    return _SIDES[side]


def _time(field: str, value: int | str | UnsetType) -> int:
    if isinstance(value, UnsetType):
        invalid(field, "missing")
    if isinstance(value, int):
        return checked(field, checked_time, value)
    return checked(field, parse_time, value)


K2: Final = Venue("k2", SequenceMode.CONTIGUOUS, decode, decode_k2, key)
K2_MONOTONIC: Final = replace(K2, name="k2-monotonic", mode=SequenceMode.MONOTONIC)
K2_IDENTITY_ONLY: Final = replace(K2, name="k2-identity-only", mode=SequenceMode.IDENTITY_ONLY)
