"""Randomness that is the same for a seed on every machine and for every version of NumPy."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rng"]


class Rng:
    """Numbers from a seed and a purpose, so that one purpose's draws never move another's.

    Raw 64-bit words of PCG64 alone are used: NEP 19 keeps a bit generator's stream for good, while the
    distributions built on it may change. The bias of a modulo is far below what a demo could see.
    """

    def __init__(self, seed: int, purpose: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, purpose]))

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return uint64[count]."""
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def below(self, limit: int) -> int:
        """Return one integer in [0, limit)."""
        return int(self.words(1)[0]) % limit
