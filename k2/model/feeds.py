"""Feeds: topics that bring the same trades of one venue, so that what one of them loses another may have."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import Positions, Ranges

__all__ = [
    "BUCKETS",
    "COLUMNS",
    "FIRST",
    "FLOOR",
    "HIGHEST",
    "SESSION",
    "SINCE",
    "TOP_START",
    "FeedDay",
    "FeedKey",
    "FeedRange",
    "FeedSource",
    "FeedTopic",
    "GroupFeeds",
    "SymbolFeeds",
    "lag_seconds",
]

BUCKETS: Final = 96
"""Number of buckets of a histogram of lags: 0 for no lag, then four for each doubling from 1 ms up to 4 hours."""

SESSION, FIRST, FLOOR, TOP_START, HIGHEST, SINCE = range(6)
"""Columns of a slot: the newest session that the feed brought (0 for none), its first number, the lowest number that is
judged, first and last number of the topmost range without a hole, and the session in which the account of the feed
began."""
COLUMNS: Final = 6


class FeedTopic(NamedTuple):
    """A topic that is a feed."""

    topic: str
    feed: str
    """Its name, which no other topic of its venue has."""
    peers: int
    """Number of feeds of its venue, itself included."""


class FeedKey(NamedTuple):
    """Identifies what one feed brought of one session of a symbol's numbering."""

    exchange: str
    symbol: str
    session: int
    topic: str


class FeedRange(NamedTuple):
    """The numbers that a feed has reached in a session; the ledger has those in between that it did not bring."""

    key: FeedKey
    first: int
    last: int
    floor: int
    """Numbers below it are not judged any more; `first` if all are."""
    since: int
    """The session of the symbol in which the account of the feed began."""


class FeedDay(NamedTuple):
    """Trades of an exchange's day (UTC, by venue time) that all feeds brought, by how much later than the first."""

    exchange: str
    day: int
    """Days since the epoch."""
    topic: str
    first: int
    """Trades that this feed brought before all others, by Kafka timestamp."""
    lags: NDArray[np.int64]
    """int64[`BUCKETS`], number of trades by lag (`lag_seconds`)."""


class SymbolFeeds(NamedTuple):
    """What the feeds brought of the newest session of n symbols."""

    topics: tuple[str, ...]
    """The topics of the m feeds."""
    names: list[tuple[str, str]]
    """Exchange and symbol of at least n symbols."""
    slots: NDArray[np.int64]
    """int64[n, m, 6], the columns above."""


class GroupFeeds(NamedTuple):
    """The feeds of one key group as of all rows that it was given, and what was added since the state before."""

    group: int
    symbols: SymbolFeeds
    older: tuple[FeedRange, ...]
    """Those of sessions before the newest."""
    events: tuple[SequenceEvent, ...]
    """Events since."""
    days: tuple[FeedDay, ...]
    """Trades since."""


class FeedSource(Protocol):
    """Reads what the tables have of the feeds, as they were when the process started."""

    @property
    def topics(self) -> tuple[FeedTopic, ...]:
        """The feeds that are read."""

    def ranges(self, group: int) -> Iterable[FeedRange]:
        """Return the ranges of a group as of its committed offsets."""

    def events(self, group: int) -> Iterable[SequenceEvent]:
        """Return the events of the last commits of a group's writer, which the ledger may lack."""

    def committed(self, group: int) -> Positions:
        """Return the committed offset of each topic partition for a group."""

    def missing(self) -> Mapping[FeedKey, Ranges]:
        """Return the numbers that feeds did not bring, by the ledger; call this after the ledger is rolled back."""


def lag_seconds(bucket: int) -> float:
    """Return the lag in the middle of a bucket, within 10 percent of those that it counts, in seconds.

    >>> lag_seconds(0), round(lag_seconds(1), 4), round(lag_seconds(41), 1)
    (0.0, 0.0011, 1.1)
    """
    return float(2.0 ** ((bucket - 0.5) / 4) / 1_000) if bucket else 0.0
