"""Random numbers that are reproducible from a seed on every machine and with every version of NumPy."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rng"]


class Rng:
    """Random numbers from a seed and a purpose, so that draws for one purpose do not affect those for another.

    Only raw 64-bit words of PCG64 are used: NEP 19 guarantees the stream of a bit generator, while the distributions
    built on it may change. The modulo bias is negligible for a demo.
    """

    def __init__(self, seed: int, purpose: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, purpose]))

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return uint64[count]."""
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def below(self, limit: int) -> int:
        """Return one integer in [0, limit)."""
        return int(self.words(1)[0]) % limit
