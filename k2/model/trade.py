"""One trade as a plain value: what reference decoders give."""

from typing import Final, NamedTuple

__all__ = ["BUY", "NO_SIDE", "SELL", "SIDES", "Trade"]

NO_SIDE: Final = 0
BUY: Final = 1
SELL: Final = 2
SIDES: Final = (None, "buy", "sell")
"""Names of the side numbers, by number."""


class Trade(NamedTuple):
    """One trade; what it holds is valid: decoders refuse what is not."""

    exchange: str
    symbol: str
    trade_id: str | None
    sequence: int | None
    """Within 64 bits, signed."""
    price: int
    """Times 10**18: what decimal(38, 18) holds."""
    quantity: int
    """Times 10**18."""
    side: int
    """The taker's: `NO_SIDE`, `BUY` or `SELL`."""
    timestamp: int
    """The venue's time, microseconds since the epoch, UTC."""
    received: int | None = None
    """The capture's time, likewise."""
    is_market: bool = True
    """False for what the venue numbers among its trades though it is no market trade: its number is seen, and no more.

    Such a one needs no price and quantity.
    """
