"""OKX, channel `trades`.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel

A message has one or more trades of an instrument. `tradeId` increases by instrument, but one entry may aggregate
several fills of a taker order (`count`) and has the id of the last one, so missing numbers mean nothing. `side` is the
taker side, `ts` milliseconds as text. The keep-alive reply of a connection is the text `pong`, which is not JSON.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from k2.model.decimals import clipped, parse_decimal
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.trade import BUY, SELL, Trade
from k2.venues.reading import checked, milliseconds, name, number_text, positive, read, required
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
    """Decode one message to its trades, in their order.

    Raises:
        RejectedError: `malformed`, `invalid`, or `unsupported` for a message of another channel.
        SkippedError: a heartbeat, or the reply to a subscription.
    """
    head = _head(value)
    if isinstance(head.event, str):
        raise RejectedError(Reason.UNSUPPORTED, f"event: {clipped(head.event)} is not read from an okx topic")
    channel = required("arg.channel", required("arg", head.arg).channel)
    if channel != CHANNEL:
        raise RejectedError(Reason.UNSUPPORTED, f"arg.channel: {clipped(channel)} is not read from an okx topic")
    trades = required("data", read(_MESSAGE, value).data)
    if not trades:
        raise SkippedError("no_trades")
    return [_trade(f"data[{index}]", trade) for index, trade in enumerate(trades)]


def key(value: bytes) -> str:
    """Return `okx|instrument` of a message, from its subscription argument."""
    instrument = required("arg.instId", required("arg", _head(value).arg).instId)
    return f"{EXCHANGE}|{name('arg.instId', instrument)}"


def _head(value: bytes) -> _Head:
    if value == b"pong":
        raise SkippedError("heartbeat")
    head = read(_HEAD, value)
    if head.event in _REPLIES:
        raise SkippedError("subscription_reply")
    return head


def _trade(path: str, trade: _Trade) -> Trade:
    number = number_text(f"{path}.tradeId", required(f"{path}.tradeId", trade.tradeId))
    time = number_text(f"{path}.ts", required(f"{path}.ts", trade.ts))
    return Trade(
        exchange=EXCHANGE,
        symbol=name(f"{path}.instId", required(f"{path}.instId", trade.instId)),
        trade_id=str(number),
        sequence=number,
        price=checked(f"{path}.px", parse_decimal, required(f"{path}.px", trade.px)),
        quantity=positive(f"{path}.sz", required(f"{path}.sz", trade.sz)),
        side=_side(f"{path}.side", required(f"{path}.side", trade.side)),
        timestamp=milliseconds(f"{path}.ts", time),
    )


def _side(field: str, side: str) -> int:
    if side not in _SIDES:
        invalid(field, f"neither buy nor sell: {clipped(side)}")
    return _SIDES[side]


OKX: Final = Venue("okx", SequenceMode.MONOTONIC, decode, None, key, exchange=EXCHANGE, time_field="data[{index}].ts")
