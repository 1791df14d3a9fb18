"""The names behind symbol ids: their limits, and the shapes in which they are passed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXCHANGE_BYTES_MAX", "SYMBOL_BYTES_MAX", "NameList", "SymbolNames", "SymbolRegistry", "SymbolTable"]

SYMBOL_BYTES_MAX: Final = 255
"""Maximum length of a symbol, bytes of UTF-8."""
EXCHANGE_BYTES_MAX: Final = 64
"""Maximum length of an exchange, bytes of UTF-8. Percent-encoded (3 characters per byte), it is part of a file path."""


class SymbolTable(NamedTuple):
    """Open-addressing hash table over the bytes of names, read by compiled loops.

    Growth creates a new table, so a running loop can safely continue with the old one. Within a table, `slots` is
    written last, so a reader sees a complete entry or none.
    """

    slots: NDArray[np.int32]
    """int32[power of two]: symbol id, or -1."""
    starts: NDArray[np.int64]
    """int64[symbols]: start of the exchange's bytes in `names`; the symbol's bytes follow them."""
    exchange_sizes: NDArray[np.int32]
    """int32[symbols], bytes."""
    symbol_sizes: NDArray[np.int32]
    """int32[symbols], bytes."""
    names: NDArray[np.uint8]
    """uint8[bytes]"""


class SymbolNames(Protocol):
    """What gives symbol ids their meaning."""

    def name(self, symbol_id: int, /) -> tuple[str, str]:
        """Return the (exchange, symbol) of a symbol id."""


class SymbolRegistry(SymbolNames, Protocol):
    """What assigns symbol ids."""

    def intern(self, exchange: str, symbol: str) -> int:
        """Return the symbol id of a pair; assign one if it has none."""

    def ids_of(self, symbols: NDArray[np.int32], names: SymbolNames) -> NDArray[np.int32]:
        """Return int32[n]: the symbol ids here of the pairs that int32[n] `symbols` denotes in `names`."""


@dataclass(frozen=True, slots=True)
class NameList:
    """Names by symbol id, for a batch that comes from another process."""

    names: Sequence[tuple[str, str]]

    def name(self, symbol_id: int, /) -> tuple[str, str]:
        """Return the (exchange, symbol) of a symbol id."""
        return self.names[symbol_id]
