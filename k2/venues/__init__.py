"""The venues by name: which module decodes the messages of each; one file per message format."""

from typing import Final

from k2.venues.registry import VenueRegistry
from k2.venues.venue import SequenceMode, Venue

__all__ = ["VENUES", "SequenceMode", "Venue"]

VENUES: Final = VenueRegistry(
    {
        "k2": "k2.venues.k2:K2",
        "k2-monotonic": "k2.venues.k2:K2_MONOTONIC",
        "k2-identity-only": "k2.venues.k2:K2_IDENTITY_ONLY",
        "binance-spot": "k2.venues.binance_spot:BINANCE_SPOT",
        "binance-futures": "k2.venues.binance_futures:BINANCE_FUTURES",
        "coinbase": "k2.venues.coinbase:COINBASE",
        "okx": "k2.venues.okx:OKX",
        "bybit": "k2.venues.bybit:BYBIT",
    }
)
