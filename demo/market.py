"""Simulated market: the trades before any fault, deterministic for a seed on every machine.

Sequence numbers of a symbol are contiguous within a session, and venue times strictly increase over the whole market,
so that every injected fault has exactly one meaning.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.rng import Rng

__all__ = ["EXCHANGES", "UNNUMBERED", "Listing", "Market", "Traded", "listings"]

EXCHANGES: Final = ("binance", "coinbase", "kraken", "okx", "bybit")
UNNUMBERED: Final = "bybit"
"""The exchange whose trades have an id (a UUID) and no sequence number."""

_BASE_NAMES: Final = (
    "BTC ETH SOL XRP ADA DOGE AVAX DOT LINK LTC BCH ATOM NEAR APT ARB OP SUI TRX UNI AAVE ETC FIL ICP INJ "
    "ALGO XLM VET SAND MANA GRT"
)
_BASES: Final = _BASE_NAMES.split()
_QUOTES: Final = ("USDT", "USD", "EUR")
_START: Final = 1_741_045_800_000_000
"""2025-03-03 23:50 UTC in microseconds: after ten minutes the partitions of a new day start."""
_STEP_MAX: Final = 1_999
"""Maximum microseconds from one trade to the next; the mean is 1,000."""
_RESTARTED_FROM: Final = 1


class Listing(NamedTuple):
    """One symbol of one exchange, with the format of its numbers."""

    exchange: str
    symbol: str
    price_scale: int
    """Decimal places of a price; a tick is 10**-price_scale."""
    quantity_scale: int
    first_ticks: int
    first_sequence: int

    @property
    def numbered(self) -> bool:
        """Whether its trades have sequence numbers."""
        return self.exchange != UNNUMBERED

    @property
    def key(self) -> bytes:
        """The Kafka key, `exchange|symbol`."""
        return f"{self.exchange}|{self.symbol}".encode()


@dataclass(frozen=True, slots=True)
class Traded:
    """Columns of n trades in the order of venue time."""

    symbols: NDArray[np.int64]
    """Indices into `listings` of the market."""
    sequences: NDArray[np.int64]
    """Counted for every symbol; published only if the listing is numbered."""
    sessions: NDArray[np.int64]
    """1 for the first numbering of a symbol, incremented at each restart."""
    ordinals: NDArray[np.int64]
    """Number of earlier trades of the session."""
    ticks: NDArray[np.int64]
    lots: NDArray[np.int64]
    sides: NDArray[np.int64]
    """0 none, 1 buy, 2 sell."""
    timestamps: NDArray[np.int64]
    """Microseconds since the epoch, strictly increasing."""
    received: NDArray[np.int64]
    id_high: NDArray[np.uint64]
    id_low: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.symbols)


def listings(count: int, seed: int) -> list[Listing]:
    """Return `count` symbols, distributed round-robin over the exchanges."""
    rng = Rng(seed, 1)
    return [_listing(listing_idx, rng) for listing_idx in range(count)]


def _listing(listing_idx: int, rng: Rng) -> Listing:
    symbol_idx, exchange = divmod(listing_idx, len(EXCHANGES))
    rest, base = divmod(symbol_idx, len(_BASES))
    rank, quote = divmod(rest, len(_QUOTES))
    symbol = f"{_BASES[base]}-{_QUOTES[quote]}" + (f"-{rank + 1}" if rank else "")
    return Listing(
        exchange=EXCHANGES[exchange],
        symbol=symbol,
        price_scale=2 + rng.below(4),
        quantity_scale=3 + rng.below(4),
        first_ticks=10_000 + rng.below(9_000_000),
        first_sequence=1 if listing_idx % 7 == 0 else 1 + rng.below(4_000_000_000),
    )


class Market:
    """State of the market: the price and next sequence number of each symbol, and the clock."""

    def __init__(self, seed: int, symbols: int) -> None:
        self.listings = listings(symbols, seed)
        self.numbered = np.array([listing.numbered for listing in self.listings])
        self._rng = Rng(seed, 2)
        self._shares = self._activity(Rng(seed, 3))
        self._ticks = np.array([listing.first_ticks for listing in self.listings], dtype=np.int64)
        self._next = np.array([listing.first_sequence for listing in self.listings], dtype=np.int64)
        self._ordinals = np.zeros(symbols, dtype=np.int64)
        self._sessions = np.ones(symbols, dtype=np.int64)
        self._clock = _START

    def _activity(self, rng: Rng) -> NDArray[np.int64]:
        """Return cumulative integer shares of trading: the busiest symbol trades about n times as often as the n-th."""
        count = len(self.listings)
        ranks = np.argsort(rng.words(count), kind="stable").astype(np.int64)
        return np.cumsum(1_000_000_000 // (ranks + 2))

    def draw(self, count: int) -> NDArray[np.int64]:
        """Return the symbols that trade next: int64[count], indices into `listings`."""
        draws = (self._rng.words(count) % np.uint64(self._shares[-1])).astype(np.int64)
        return np.searchsorted(self._shares, draws, side="right").astype(np.int64)

    def ordinals(self, symbols: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of earlier trades of its session for each row, if these symbols trade next."""
        order = np.argsort(symbols, kind="stable")
        ordinals = np.empty(len(symbols), dtype=np.int64)
        ordinals[order] = self._ordinals[symbols[order]] + _ranks(symbols[order])
        return ordinals

    def trade(self, symbols: NDArray[np.int64], restarts: list[int]) -> Traded:
        """Trade the symbols in order; at the rows in `restarts` (ascending) the symbol's numbering restarts at 1."""
        count = len(symbols)
        words = self._rng.words(count)
        order = np.argsort(symbols, kind="stable")
        ranks = _ranks(symbols[order])
        sequences, ordinals, sessions = (np.empty(count, dtype=np.int64) for _ in range(3))
        sequences[order] = self._next[symbols[order]] + ranks
        ordinals[order] = self._ordinals[symbols[order]] + ranks
        sessions[:] = self._sessions[symbols]
        for row in restarts:
            after = (symbols == symbols[row]) & (np.arange(count) >= row)
            sequences[after] -= sequences[row] - _RESTARTED_FROM
            ordinals[after] -= ordinals[row]
            sessions[after] += 1
        ticks = self._walk(symbols, order, ranks, (words % np.uint64(7)).astype(np.int64) - 3)
        self._next[symbols[order]] = sequences[order] + 1
        self._ordinals[symbols[order]] = ordinals[order] + 1
        self._sessions[symbols[order]] = sessions[order]
        timestamps = self._tick_clock(words)
        ids = self._rng.words(2 * count)
        return Traded(
            symbols=symbols,
            sequences=sequences,
            sessions=sessions,
            ordinals=ordinals,
            ticks=ticks,
            lots=1 + ((words >> np.uint64(8)) % np.uint64(500_000)).astype(np.int64),
            sides=_sides((words >> np.uint64(28)) % np.uint64(100)),
            timestamps=timestamps,
            received=timestamps + 200 + (words >> np.uint64(50)).astype(np.int64),
            id_high=ids[:count],
            id_low=ids[count:],
        )

    def _walk(
        self,
        symbols: NDArray[np.int64],
        order: NDArray[np.int64],
        ranks: NDArray[np.int64],
        steps: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Move the price of each symbol by the steps of its rows, never below one tick."""
        sums = np.cumsum(steps[order])
        firsts = np.arange(len(order)) - ranks
        before = sums[firsts] - steps[order][firsts]
        ticks = np.empty(len(order), dtype=np.int64)
        ticks[order] = np.maximum(self._ticks[symbols[order]] + sums - before, 1)
        self._ticks[symbols[order]] = ticks[order]
        return ticks

    def _tick_clock(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        steps = 1 + ((words >> np.uint64(36)) % np.uint64(_STEP_MAX)).astype(np.int64)
        timestamps = self._clock + np.cumsum(steps)
        if len(timestamps):
            self._clock = int(timestamps[-1])
        return timestamps


def _ranks(grouped: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index within each run of equal values: `[4, 4, 9]` becomes `[0, 1, 0]`."""
    indices = np.arange(len(grouped))
    starts = np.flatnonzero(np.concatenate([[True], grouped[1:] != grouped[:-1]])) if len(grouped) else indices
    lengths = np.diff(np.append(starts, len(grouped)))
    return indices - np.repeat(starts, lengths)


def _sides(hundredths: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the sides; one trade in fifty has none."""
    sides = 1 + (hundredths % np.uint64(2)).astype(np.int64)
    sides[hundredths < 2] = 0
    return sides
