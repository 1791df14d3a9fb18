"""OKX, channel `trades`.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel says:

One message bears one or several trades of an instrument. `tradeId` grows by instrument, but one entry may stand for
several fills of a taker's order (`count`), of which it bears the last id: so holes mean nothing. `side` is the taker's,
`ts` milliseconds as text. A connection is kept alive by the text `pong`, which is no JSON.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.trade import BUY, SELL, Trade
from k2.venues.reading import checked, given, milliseconds, name, number_text, positive, read
from k2.venues.venue import SequenceMode, Venue

__all__ = ["OKX", "decode", "key"]

EXCHANGE: Final = "okx"
CHANNEL: Final = "trades"
_SIDES: Final = {"buy": BUY, "sell": SELL}
_REPLIES: Final = frozenset({"subscribe", "unsubscribe", "channel-conn-count"})


class _Argument(msgspec.Struct, gc=False):
    channel: str | UnsetType = UNSET
    instId: str | UnsetType = UNSET  # noqa: N815  the venue's name


class _Head(msgspec.Struct, gc=False):
    event: str | UnsetType = UNSET
    arg: _Argument | UnsetType = UNSET


class _Trade(msgspec.Struct, gc=False):
    instId: str | UnsetType = UNSET  # noqa: N815  the venue's name
    tradeId: str | UnsetType = UNSET  # noqa: N815  the venue's name
    px: str | UnsetType = UNSET
    sz: str | UnsetType = UNSET
    side: str | UnsetType = UNSET
    ts: str | UnsetType = UNSET


class _Message(msgspec.Struct, gc=False):
    data: list[_Trade] | UnsetType = UNSET


_HEAD: Final = msgspec.json.Decoder(_Head)
_MESSAGE: Final = msgspec.json.Decoder(_Message)


def decode(value: bytes) -> list[Trade]:
    """Read one message: its trades, in their order.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for a message of another channel.
        SkippedError: a heartbeat, or the reply to a subscription.
    """
    head = _head(value)
    if isinstance(head.event, str):
        raise RejectedError(Reason.UNSUPPORTED, f"event: {clipped(head.event)} is not read from an okx topic")
    channel = given("arg.channel", given("arg", head.arg).channel)
    if channel != CHANNEL:
        raise RejectedError(Reason.UNSUPPORTED, f"arg.channel: {clipped(channel)} is not read from an okx topic")
    trades = given("data", read(_MESSAGE, value).data)
    if not trades:
        raise SkippedError("no_trades")
    return [_trade(f"data[{place}]", trade) for place, trade in enumerate(trades)]


def key(value: bytes) -> str:
    """Return `okx|instrument` of a message, by what it was subscribed for."""
    instrument = given("arg.instId", given("arg", _head(value).arg).instId)
    return f"{EXCHANGE}|{name('arg.instId', instrument)}"


def _head(value: bytes) -> _Head:
    if value == b"pong":
        raise SkippedError("heartbeat")
    head = read(_HEAD, value)
    if head.event in _REPLIES:
        raise SkippedError("subscription_reply")
    return head


def _trade(where: str, trade: _Trade) -> Trade:
    number = number_text(f"{where}.tradeId", given(f"{where}.tradeId", trade.tradeId))
    time = number_text(f"{where}.ts", given(f"{where}.ts", trade.ts))
    return Trade(
        exchange=EXCHANGE,
        symbol=name(f"{where}.instId", given(f"{where}.instId", trade.instId)),
        trade_id=str(number),
        sequence=number,
        price=checked(f"{where}.px", parse_decimal, given(f"{where}.px", trade.px)),
        quantity=positive(f"{where}.sz", given(f"{where}.sz", trade.sz)),
        side=_side(f"{where}.side", given(f"{where}.side", trade.side)),
        timestamp=milliseconds(f"{where}.ts", time),
    )


def _side(field: str, side: str) -> int:
    if side not in _SIDES:
        invalid(field, f"neither buy nor sell: {clipped(side)}")
    return _SIDES[side]


OKX: Final = Venue("okx", SequenceMode.MONOTONIC, decode, None, key, exchange=EXCHANGE, time_field="data[{index}].ts")
