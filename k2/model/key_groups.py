"""Key groups: the fixed number of shares of all symbols, and so of keyed state."""

import hashlib
from typing import Final

__all__ = ["GROUPS", "group_key", "group_of"]

GROUPS: Final = 16
"""Recovery snapshots are keyed by group. Another number needs a new recovery store, and a new table, which records it
(`k2.key_groups`); others are refused."""


def group_of(exchange: str, symbol: str) -> int:
    """Return the key group of a symbol: the same in every process, on every machine, in every version.

    BLAKE2b is specified in RFC 7693. Unlike `hash`, it does not depend on the process, library or version.

    >>> group_of("binance", "BTCUSDT"), group_of("coinbase", "BTC-USD")
    (11, 13)
    """
    name = f"{exchange}\x00{symbol}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") % GROUPS


def group_key(group: int) -> str:
    """Return the Bytewax key of a group: two digits.

    >>> group_key(7)
    '07'
    """
    return f"{group:02d}"
