"""One trade as a plain value, returned by reference decoders."""

from typing import Final, NamedTuple

__all__ = ["BUY", "NO_SIDE", "SELL", "SIDES", "Trade"]

NO_SIDE: Final = 0
BUY: Final = 1
SELL: Final = 2
SIDES: Final = (None, "buy", "sell")
"""Names of the sides, indexed by their number."""


class Trade(NamedTuple):
    """One valid trade; decoders reject invalid ones."""

    exchange: str
    symbol: str
    trade_id: str | None
    sequence: int | None
    """Fits a signed 64-bit integer."""
    price: int
    """decimal(38, 18), times 10**18."""
    quantity: int
    """decimal(38, 18), times 10**18."""
    side: int
    """Taker side: `NO_SIDE`, `BUY` or `SELL`."""
    timestamp: int
    """Venue time, microseconds since the epoch, UTC."""
    received: int | None = None
    """Capture time, microseconds since the epoch, UTC."""
    is_market: bool = True
    """False for a non-market trade: it consumes a sequence number and is not stored.

    It needs no price and quantity.
    """
    is_head: bool = False
    """True for a message that names the last number of its symbol without being a trade.

    It is not stored, and needs neither price and quantity nor a time.
    """
    first_sequence: int | None = None
    """The first of the numbers that the trade stands for; None if it stands for `sequence` alone."""
