"""What the tables hold, as a key group's rules want to hear of it when their own state is behind, or lost."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trades.progress import TopicPartition

__all__ = [
    "NO_HISTORY",
    "NO_TRADES",
    "History",
    "Ledger",
    "Positions",
    "Ranges",
    "Reach",
    "SeenIds",
    "SeenSession",
    "SeenTrades",
    "SessionKey",
]

Positions = Mapping[TopicPartition, int]
"""How far a key group's state is in each topic partition: the first offset that it has not seen."""

Ranges = tuple[tuple[int, int], ...]
"""Ranges of numbers, ascending and apart, both ends inclusive."""


class SessionKey(NamedTuple):
    """One session of one symbol's numbering."""

    exchange: str
    symbol: str
    session: int


class SeenSession(NamedTuple):
    """Numbers of a session that are in the table."""

    key: SessionKey
    ranges: Ranges
    latest: int
    """The latest venue time among them, microseconds since the epoch, UTC."""
    earliest: int
    """The earliest, likewise."""
    where: TopicPartition
    offset: int
    """Coordinates of the newest of them."""


class Reach(NamedTuple):
    """How far a topic partition is in Kafka time, microseconds since the epoch."""

    reached: int
    """What is believed (`trades.window.Clock`)."""
    newest: int
    """The latest time seen, believed or not."""


class SeenIds(NamedTuple):
    """Trades without a number that are in the table, of one topic partition: n of them, in any order."""

    where: TopicPartition
    reached: int
    """The Kafka time that the partition has surely reached, microseconds since the epoch."""
    symbols: NDArray[np.int32]
    """int32[n], numbers of `trades.symbols.SYMBOLS`."""
    identities: NDArray[np.int64]
    """int64[n, 3]: of `trades.identity.IDENTITIES`, and the content, of `trades.recent_kernel.content`."""
    times: NDArray[np.int64]
    """int64[n], the Kafka time of each (the venue's, where it has none), microseconds since the epoch."""


class SeenTrades(NamedTuple):
    """The newest trades in the table of some symbols, at most 256 each, the oldest first: n of them."""

    names: Sequence[tuple[str, str]]
    """Exchange and symbol."""
    symbols: NDArray[np.int64]
    """int64[n], into `names`."""
    sessions: NDArray[np.int64]
    """int64[n]"""
    sequences: NDArray[np.int64]
    """int64[n]"""
    contents: NDArray[np.int64]
    """int64[n], of `trades.recent_kernel.content`."""

    def of(self, names: NDArray[np.bool_]) -> "SeenTrades":
        """Give the trades of the chosen `names`, bool[names]."""
        chosen = names[self.symbols]
        numbers = np.cumsum(names) - 1
        return SeenTrades(
            [name for name, is_chosen in zip(self.names, names, strict=True) if is_chosen],
            numbers[self.symbols[chosen]],
            self.sessions[chosen],
            self.sequences[chosen],
            self.contents[chosen],
        )


class Ledger(NamedTuple):
    """What the ledger says of the trades that are in the table."""

    started: frozenset[SessionKey]
    missing: Mapping[SessionKey, Ranges]


class History(Protocol):
    """Reads the tables as they were when the process began."""

    def resumed(self, positions: Positions) -> None:
        """Hear how far a group's recovered state is; all are told of before the first is asked for.

        States of one recovery store are of one moment, so no group misses a row below the furthest of them.
        """

    def clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Hear how far a group's recovered state is in time; all are told of before the first is asked for."""

    def sessions(self, group: int) -> Iterable[SeenSession]:
        """Give the numbers in the table that recovered states may not know, the sessions of a symbol ascending."""

    def recent(self, group: int) -> SeenTrades:
        """Give the newest trades likewise, by which others are known to be in conflict."""

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[SeenIds]:
        """Give the ids in the table whose Kafka time can still matter to a window.

        Where the group was resumed, by the clocks that were told of; else by those of the table.
        """

    def ledger(self) -> Ledger:
        """Give what the ledger says, of the trades that are in the table and of no later ones."""


_NONE: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)
NO_TRADES: Final = SeenTrades((), _NONE, _NONE, _NONE, _NONE)


class _NoHistory:
    """Nothing was stored before."""

    def resumed(self, positions: Positions) -> None:
        """Take no notice."""

    def clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Take no notice."""

    def sessions(self, group: int) -> Iterable[SeenSession]:  # noqa: ARG002
        return ()

    def recent(self, group: int) -> SeenTrades:  # noqa: ARG002
        return NO_TRADES

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[SeenIds]:  # noqa: ARG002
        return ()

    def ledger(self) -> Ledger:
        return Ledger(frozenset(), {})


NO_HISTORY: History = _NoHistory()
"""For a flow without tables."""
