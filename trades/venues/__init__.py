"""What each venue's messages mean; one file a message format, found by the venue's name."""

from trades.venues.binance_futures import BINANCE_FUTURES
from trades.venues.binance_spot import BINANCE_SPOT
from trades.venues.bybit import BYBIT
from trades.venues.coinbase import COINBASE
from trades.venues.k2 import K2, K2_IDENTITY_ONLY, K2_MONOTONIC
from trades.venues.okx import OKX
from trades.venues.venue import SequenceMode, Venue

__all__ = ["VENUES", "SequenceMode", "Venue"]

VENUES: dict[str, Venue] = {
    venue.name: venue
    for venue in (K2, K2_MONOTONIC, K2_IDENTITY_ONLY, BINANCE_SPOT, BINANCE_FUTURES, COINBASE, OKX, BYBIT)
}
