"""Silence: symbols that trade all day and have had no trade for much longer than they ever pause.

Their numbers are contiguous, so nothing is known to be missing: it may be a halt, or a subscription that was lost. So
it is a reason to look, and no gap. All times are Kafka timestamps, by which pauses are learned while old messages are
read as well.

A symbol is steady if it traded in at least half of the last `PERIODS` half hours before its last trade, and never
paused for longer than `PAUSE_SECONDS_MAX` in them, but for one half hour, which may have had an interruption. A steady
symbol is silent if its exchange has gone on for `FACTOR` times its longest pause, and for `SILENT_SECONDS_MIN`, without
a trade of it. After `FORGOTTEN_SECONDS` it counts as one that is no longer traded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.times import SECOND_US

__all__ = ["ExchangeSilence", "SilenceTracker"]

PERIOD_US: Final = 1_800 * SECOND_US
PERIODS: Final = 8
PERIODS_MIN: Final = 4
PAUSE_SECONDS_MAX: Final = 600
FACTOR: Final = 10
SILENT_SECONDS_MIN: Final = 300
FORGOTTEN_SECONDS: Final = 86_400
EXCHANGE_SHARE: Final = 0.5
"""Share of the steady symbols from which on the exchange is silent, as at its close, rather than some symbols."""
ROOM_MIN: Final = 1_024
"""Symbols for which there is room at first; it doubles when they are more."""
_NO_TRADE: Final = -1
_MILLISECOND_US: Final = 1_000
_PAUSE_MS_MAX: Final = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class ExchangeSilence:
    """The silence of one exchange."""

    steady: int
    """Number of steady symbols, the silent ones included."""
    silent: tuple[int, ...]
    """Symbol ids of the silent ones, the longest silent first."""
    is_exchange_silent: bool
    """Whether more than half of the steady symbols are silent."""


class SilenceTracker:
    """The last trade and the longest pauses of each symbol: 52 bytes a symbol.

    Symbols are the ids of a process. Nothing is persisted: after a start, a symbol is judged again once it is steady.
    """

    def __init__(self) -> None:
        self._symbols = 0
        self._last = np.empty(0, dtype=np.int64)
        """int64[room], Kafka time of the last trade, microseconds since the epoch; 0 before the first."""
        self._first_of_batch = np.empty(0, dtype=np.int64)
        """int64[room], scratch."""
        self._longest = np.empty((0, PERIODS), dtype=np.int32)
        """int32[room, PERIODS], the longest pause that ended in each half hour, milliseconds; -1 without a trade."""
        self._exchange = np.empty(0, dtype=np.int32)
        """int32[room], the index of each symbol's exchange."""

    def __len__(self) -> int:
        """Return the number of symbols."""
        return self._symbols

    def add_symbols(self, exchanges: Sequence[int]) -> None:
        """Add symbols, each with the index of its exchange; their ids follow those that are there."""
        needed = self._symbols + len(exchanges)
        if needed > len(self._last):
            room = max(needed, 2 * len(self._last), ROOM_MIN) - len(self._last)
            self._last = np.concatenate([self._last, np.zeros(room, dtype=np.int64)])
            self._first_of_batch = np.concatenate([self._first_of_batch, np.zeros(room, dtype=np.int64)])
            none = np.full((room, PERIODS), _NO_TRADE, dtype=np.int32)
            self._longest = np.concatenate([self._longest, none])
            self._exchange = np.concatenate([self._exchange, np.zeros(room, dtype=np.int32)])
        self._exchange[self._symbols : needed] = exchanges
        self._symbols = needed

    def add(self, symbols: NDArray[np.int32], times: NDArray[np.int64]) -> None:
        """Add the trades of a batch in the order of their offsets.

        `symbols` is int32[n], ids below `len(self)`; `times` is int64[n], Kafka times, microseconds since the epoch.
        The pauses of a symbol within the batch are taken together, so a large batch makes them seem longer: it is then
        judged later, not earlier.
        """
        if not len(symbols):
            return
        # Of several values for one index, NumPy assigns the last.
        self._first_of_batch[symbols[::-1]] = times[::-1]
        touched = self._touched(symbols)
        before, first = self._last[touched], self._first_of_batch[touched]
        self._last[symbols] = times
        # Another partition may be ahead, and a producer's clock may have gone back.
        after = np.maximum(self._last[touched], before)
        self._last[touched] = after
        pauses = np.maximum(np.where(before == 0, 0, first - before), after - np.maximum(first, before))
        pauses_ms = np.clip(pauses // _MILLISECOND_US, 0, _PAUSE_MS_MAX).astype(np.int32)
        periods = after // PERIOD_US
        self._clear(touched, before // PERIOD_US, periods)
        slots = periods % PERIODS
        self._longest[touched, slots] = np.maximum(self._longest[touched, slots], pauses_ms)

    def _touched(self, symbols: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the ids that occur, in ascending order."""
        if len(symbols) * PERIODS < len(self):
            return np.unique(symbols).astype(np.int64)
        is_touched = np.zeros(len(self), dtype=np.bool_)
        is_touched[symbols] = True
        return np.flatnonzero(is_touched)

    def _clear(self, symbols: NDArray[np.int64], before: NDArray[np.int64], now: NDArray[np.int64]) -> None:
        """Clear the half hours that have begun since the last trade of each symbol."""
        is_later = now > before
        if is_later.any():
            symbols, before, now = symbols[is_later], before[is_later, None], now[is_later, None]
            newest_of_slot = now - (now - np.arange(PERIODS)) % PERIODS
            self._longest[symbols] = np.where(newest_of_slot > before, _NO_TRADE, self._longest[symbols])

    def assess(self, now: int, live_us: int) -> dict[int, ExchangeSilence]:
        """Return the silence of each exchange with a steady symbol, by its index.

        `now` is the time of the clock, microseconds since the epoch. An exchange is as far as its newest trade; if that
        is older than `live_us`, it is as far as the clock, because nothing of it is unread.
        """
        longest, exchanges = self._longest[: self._symbols], self._exchange[: self._symbols]
        usual_us = np.sort(longest, axis=1)[:, -2].astype(np.int64) * _MILLISECOND_US
        is_steady = np.count_nonzero(longest >= 0, axis=1) >= PERIODS_MIN
        is_steady &= usual_us <= PAUSE_SECONDS_MAX * SECOND_US
        found = {}
        for exchange in np.unique(exchanges[is_steady]).tolist():
            of_exchange = np.flatnonzero(exchanges == exchange)
            newest = int(self._last[of_exchange].max())
            # A producer's clock may be ahead: its time says nothing of the others.
            reached = now if now - newest > live_us else min(newest, now)
            steady = of_exchange[is_steady[of_exchange]]
            silence = reached - self._last[steady]
            current = silence <= FORGOTTEN_SECONDS * SECOND_US
            steady, silence = steady[current], silence[current]
            limit = np.maximum(usual_us[steady] * FACTOR, SILENT_SECONDS_MIN * SECOND_US)
            silent = steady[silence > limit]
            silent = silent[np.argsort(self._last[silent], kind="stable")]
            is_all = len(silent) > EXCHANGE_SHARE * len(steady)
            found[exchange] = ExchangeSilence(len(steady), tuple(silent.tolist()), is_all)
        return found
