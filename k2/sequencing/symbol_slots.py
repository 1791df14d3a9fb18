"""Slots of symbols: each symbol of a key group has an index into the arrays that its rules keep."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["SymbolSlots"]


class SymbolSlots:
    """Slots from 0, in the order in which symbols were added."""

    def __init__(self, symbol_ids: Iterable[int] = ()) -> None:
        """Assign a slot to each of some symbols, in their order; none may occur twice."""
        self.symbol_ids = [*symbol_ids]
        """The symbol id of each slot."""
        self.of: NDArray[np.int32] = np.full(max(self.symbol_ids, default=-1) + 1, -1, dtype=np.int32)
        """int32[symbols]: the slot of each symbol id, -1 for none. It has the ids that were added, or a few more."""
        self.of[self.symbol_ids] = np.arange(len(self.symbol_ids), dtype=np.int32)

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self.symbol_ids)

    def add(self, symbols: NDArray[np.int32]) -> int:
        """Assign a slot to each symbol of int32[n] that has none, in the order of their ids; return their number."""
        highest = int(symbols.max())
        if highest >= len(self.of):
            self.of = np.pad(self.of, (0, 2 * (highest + 1) - len(self.of)), constant_values=-1)
        missing = symbols[self.of[symbols] < 0]
        if not len(missing):
            return 0
        new = np.unique(missing)
        self.of[new] = np.arange(len(self), len(self) + len(new), dtype=np.int32)
        self.symbol_ids.extend(new.tolist())
        return len(new)
