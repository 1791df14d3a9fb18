"""Head numbers: what a venue says is the newest number of a symbol, compared with what has arrived.

A trade shows that the numbers between it and the one before are missing. Nothing follows the newest trade, so only the
venue can say that more exist: by a heartbeat or a ticker with the number of the last trade. Trades and heartbeats may
arrive in either order, so a number that was named counts as missing only if it has not arrived a minute later, by the
Kafka timestamps. What a person says (`k2 head`) counts at once.

A partition with tickers may be read far ahead of the one with the trades, for example after a pause of the job. So the
partition that brought the symbol's newest trade must have been read up to that minute as well, or be quiet.
"""

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.progress import TopicPartition
from k2.model.verdicts import HEAD
from k2.sequencing.symbol_slots import SymbolSlots

__all__ = ["HEAD_COLUMNS", "HEAD_GRACE_US", "HEAD_NUMBER", "HEAD_SINCE", "TradePartitions", "no_heads"]

HEAD_GRACE_US: Final = 60_000_000
"""How long after a number was named its trade may still arrive, microseconds by the Kafka timestamps."""
HEAD_NUMBER: Final = 0
"""Column of a symbol's head: the oldest number that was named and has not arrived; the least int64 for none."""
HEAD_SINCE: Final = 1
"""Column of a symbol's head: the Kafka time of the message that named it, microseconds."""
HEAD_COLUMNS: Final = 2
QUIET_SECONDS: Final = 5.0
"""After this time without a message a partition is taken to be read to its end."""


def no_heads(slots: int) -> NDArray[np.int64]:
    """Return int64[slots, HEAD_COLUMNS], in which no symbol has a number that was named.

    It is no part of the state: a lost one begins again with the next message that names a number.
    """
    heads = np.zeros((slots, HEAD_COLUMNS), dtype=np.int64)
    heads[:, HEAD_NUMBER] = np.iinfo(np.int64).min
    return heads


class TradePartitions:
    """The partition that brought the newest trade of each symbol, and how far it was read; no part of the state."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: dict[TopicPartition, int] = {}
        """Those that brought a trade."""
        self._reached: list[int] = []
        """By source, the Kafka time of its newest message, microseconds."""
        self._read_at: list[float] = []
        self._has_heads = False
        self._source_of = np.empty(0, dtype=np.int32)
        """int32[slots], the source of each symbol's newest trade; -1 for those before the first head number."""

    def note(self, trade_slice: TradeSlice, kafka_times: NDArray[np.int64], slots: SymbolSlots) -> None:
        """Note the rows of a slice: int64[m] `kafka_times` are theirs, microseconds, and their symbols have slots."""
        where, is_trade = trade_slice.batch.source.topic_partition, trade_slice.verdicts != HEAD
        self._has_heads |= not is_trade.all()
        if where not in self._sources:
            if not is_trade.any():
                return
            self._sources[where] = len(self._sources)
            self._reached.append(0)
            self._read_at.append(0.0)
        source = self._sources[where]
        self._reached[source] = max(int(kafka_times.max()), self._reached[source])
        self._read_at[source] = self._clock()
        if self._has_heads:
            if len(slots) > len(self._source_of):
                added = 2 * len(slots) - len(self._source_of)
                self._source_of = np.pad(self._source_of, (0, added), constant_values=-1)
            self._source_of[slots.of[trade_slice.batch.columns.symbols[trade_slice.rows[is_trade]]]] = source

    def are_read(self, slot: int, where: TopicPartition, until: int) -> bool:
        """Return whether the trades of a symbol are read up to a Kafka time, by a message of the partition `where`."""
        newest, own = self._source_of[slot] if slot < len(self._source_of) else -1, self._sources.get(where, -1)
        sources = range(len(self._reached)) if newest < 0 else [newest]
        return all(one == own or self._is_read(one, until) for one in sources)

    def _is_read(self, source: int, until: int) -> bool:
        return self._reached[source] >= until or self._clock() - self._read_at[source] >= QUIET_SECONDS
