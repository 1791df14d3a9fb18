"""What the tables hold, as a key group's rules want to hear of it when their own state is behind, or lost."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from k2.model.progress import TopicPartition

__all__ = [
    "NO_CONTENTS",
    "NO_STATE_SOURCE",
    "Ledger",
    "NumberDoubt",
    "Positions",
    "Ranges",
    "Reach",
    "SeenIds",
    "SeenSession",
    "SessionKey",
    "StateSource",
    "StoredContents",
    "WantedContents",
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
    """The latest effective time among them (`k2.sequencing.tracker_kernel.effective_time`), microseconds."""
    earliest: int
    """The earliest, likewise."""
    where: TopicPartition
    offset: int
    """Coordinates of the newest of them."""


class Reach(NamedTuple):
    """How far a topic partition is in Kafka time, microseconds since the epoch."""

    reached: int
    """What is believed (`k2.dedup.window.Clock`)."""
    newest: int
    """The latest time seen, believed or not."""


class SeenIds(NamedTuple):
    """Trades without a number that are in the table, of one topic partition: n of them, in any order."""

    where: TopicPartition
    reached: int
    """The Kafka time that the partition has surely reached, microseconds since the epoch."""
    symbols: NDArray[np.int32]
    """int32[n], numbers of `k2.model.symbols.SYMBOLS`."""
    identities: NDArray[np.int64]
    """int64[n, 3]: `k2.dedup.trade_id_hash.TRADE_ID_HASHER`, and 32 bits of the content (`k2.model.content`)."""
    times: NDArray[np.int64]
    """int64[n], the Kafka time of each (the venue's, where it has none), microseconds since the epoch."""


class WantedContents(NamedTuple):
    """Of which numbers the contents are wanted: a range of one session, both ends inclusive."""

    key: SessionKey
    first: int
    last: int
    since: int
    """No trade of the range has an earlier venue time, microseconds since the epoch."""
    is_any_age: bool
    """Whether they are wanted however long ago they were stored."""


class StoredContents(NamedTuple):
    """What the table stores under wanted numbers: n trades, in any order."""

    wanted: NDArray[np.int64]
    """int64[n], into what was asked for."""
    sequences: NDArray[np.int64]
    """int64[n]"""
    contents: NDArray[np.int64]
    """int64[n], of `k2.model.content.contents`."""
    kafka_times: NDArray[np.int64]
    """int64[n], microseconds since the epoch; the venue's where the broker gave none."""
    lowest: Mapping[SessionKey, int]
    """The lowest number that is young enough, of each session asked for that has any."""


class NumberDoubt(NamedTuple):
    """A symbol's newest conflict that is not settled (`k2.sequencing.sequence.Doubt`), or that there is none now."""

    exchange: str
    symbol: str
    sequence: int | None
    """None where there is none."""
    at: int = 0
    """Its effective time, microseconds since the epoch."""


class Ledger(NamedTuple):
    """What the ledger says of the trades that are in the table."""

    started: frozenset[SessionKey]
    missing: Mapping[SessionKey, Ranges]


class StateSource(Protocol):
    """Reads the tables as they were when the process began."""

    def resumed(self, positions: Positions) -> None:
        """Hear how far a group's recovered state is; all are told of before the first is asked for.

        States of one recovery store are of one moment, so no group misses a row below the furthest of them.
        """

    def clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Hear how far a group's recovered state is in time; all are told of before the first is asked for."""

    def sessions(self, group: int) -> Iterable[SeenSession]:
        """Return the numbers in the table that recovered states may not know, the sessions of a symbol ascending."""

    def contents(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:
        """Look up what the table stores under some numbers, now.

        `floor` is the Kafka time, microseconds since the epoch, below which a trade is only wanted at any age.
        """

    def committed(self, group: int) -> Positions:
        """Return the first offset of each topic partition that is not in the table for a group's rows."""

    def doubts(self, group: int) -> Iterable[NumberDoubt]:
        """Return the conflicts of a group's symbols that are not settled by what is in the table."""

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[SeenIds]:
        """Return the ids in the table whose Kafka time can still matter to a window.

        Where the group was resumed, by the clocks that were told of; else by those of the table.
        """

    def ledger(self) -> Ledger:
        """Return what the ledger says, of the trades that are in the table and of no later ones."""


_NONE: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)
NO_CONTENTS: Final = StoredContents(_NONE, _NONE, _NONE, _NONE, {})


class _NoHistory:
    """Nothing was stored before."""

    def resumed(self, positions: Positions) -> None:
        """Take no notice."""

    def clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Take no notice."""

    def sessions(self, group: int) -> Iterable[SeenSession]:  # noqa: ARG002
        return ()

    def contents(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:  # noqa: ARG002
        return NO_CONTENTS

    def committed(self, group: int) -> Positions:  # noqa: ARG002
        return {}

    def doubts(self, group: int) -> Iterable[NumberDoubt]:  # noqa: ARG002
        return ()

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[SeenIds]:  # noqa: ARG002
        return ()

    def ledger(self) -> Ledger:
        return Ledger(frozenset(), {})


NO_STATE_SOURCE: StateSource = _NoHistory()
"""For a flow without tables."""
