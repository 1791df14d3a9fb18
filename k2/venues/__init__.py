"""Decoders of the venues' messages, by venue name; one file per message format."""

from k2.venues.binance_futures import BINANCE_FUTURES
from k2.venues.binance_spot import BINANCE_SPOT
from k2.venues.bybit import BYBIT
from k2.venues.coinbase import COINBASE
from k2.venues.k2 import K2, K2_IDENTITY_ONLY, K2_MONOTONIC
from k2.venues.okx import OKX
from k2.venues.venue import SequenceMode, Venue

__all__ = ["VENUES", "SequenceMode", "Venue"]

VENUES: dict[str, Venue] = {
    venue.name: venue
    for venue in (K2, K2_MONOTONIC, K2_IDENTITY_ONLY, BINANCE_SPOT, BINANCE_FUTURES, COINBASE, OKX, BYBIT)
}
