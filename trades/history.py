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
    "SeenId",
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
    where: TopicPartition
    offset: int
    """Coordinates of the newest of them."""


class SeenId(NamedTuple):
    """An id of a trade without a number that is in the table."""

    exchange: str
    symbol: str
    trade_id: str
    where: TopicPartition
    kafka_timestamp: int
    """Microseconds since the epoch, UTC."""


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

    def sessions(self, group: int) -> Iterable[SeenSession]:
        """Give the numbers in the table that recovered states may not know, the sessions of a symbol ascending."""

    def recent(self, group: int) -> SeenTrades:
        """Give the newest trades likewise, by which others are known to be in conflict."""

    def ids(self, group: int, window_us: int) -> Iterable[SeenId]:
        """Give the ids likewise, of those whose Kafka time can still matter to a window."""

    def ledger(self) -> Ledger:
        """Give what the ledger says, of the trades that are in the table and of no later ones."""


_NONE: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)
NO_TRADES: Final = SeenTrades((), _NONE, _NONE, _NONE, _NONE)


class _NoHistory:
    """Nothing was stored before."""

    def resumed(self, positions: Positions) -> None:
        """Take no notice."""

    def sessions(self, group: int) -> Iterable[SeenSession]:  # noqa: ARG002
        return ()

    def recent(self, group: int) -> SeenTrades:  # noqa: ARG002
        return NO_TRADES

    def ids(self, group: int, window_us: int) -> Iterable[SeenId]:  # noqa: ARG002
        return ()

    def ledger(self) -> Ledger:
        return Ledger(frozenset(), {})


NO_HISTORY: History = _NoHistory()
"""For a flow without tables."""
