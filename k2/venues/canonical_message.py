"""Write stored trades as canonical messages, from which `k2` and `k2-fill` decode the same trades again."""

from typing import Final

import msgspec

__all__ = ["CanonicalMessage", "canonical_message"]


class CanonicalMessage(msgspec.Struct, gc=False, omit_defaults=True):
    """One trade, with the names and units of the message (docs/messages.md); what is None is left out."""

    exchange: str
    symbol: str
    price: str
    """Decimal digits, without an exponent."""
    quantity: str
    timestamp: int
    """Microseconds since the epoch."""
    trade_id: str | None = None
    sequence: int | None = None
    first_sequence: int | None = None
    """The first number of the range that the trade stands for; read by `k2-fill` alone."""
    side: str | None = None
    received: int | None = None
    """Microseconds since the epoch."""


_ENCODER: Final = msgspec.json.Encoder()


def canonical_message(trade: CanonicalMessage) -> bytes:
    """Return the message.

    A trade with neither id nor number has an explicit null as its id, as it was published.

    >>> canonical_message(CanonicalMessage("x", "A-B", "1.5", "2", 1_723_161_255_342_000, sequence=7))
    b'{"exchange":"x","symbol":"A-B","price":"1.5","quantity":"2","timestamp":1723161255342000,"sequence":7}'
    """
    value = _ENCODER.encode(trade)
    return value[:-1] + b',"trade_id":null}' if trade.trade_id is None and trade.sequence is None else value
