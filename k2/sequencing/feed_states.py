"""The feeds of one writer's key groups, persisted in a table property next to the progress.

A copy that is dropped is in no row. Without this, a start would not know what a feed has brought.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from k2.model.documents import read_document
from k2.model.feeds import BUCKETS, FIRST, FLOOR, HIGHEST, SESSION, SINCE, FeedKey, FeedRange, FeedTopic, GroupFeeds
from k2.model.key_groups import group_of
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Positions

__all__ = ["COMMITS_KEPT", "DAYS_KEPT", "FeedStates", "FeedSum"]

DAYS_KEPT: Final = 40
"""Newest days of an exchange whose lags are kept."""
COMMITS_KEPT: Final = 3
"""Commits whose events are kept: the ledger has those of the commits before (`operators.sequence.OWED_EPOCHS`)."""
FORMAT: Final = 1
_LEVEL: Final = 1
"""Zlib's default makes a large property 15 % smaller, and takes 15 % longer (`python -m benchmarks.feeds`)."""


class _Range(msgspec.Struct, frozen=True, array_like=True):
    """Exchange and topic are indices; `last` and `floor` are distances from `first`, which is shorter."""

    exchange: int
    symbol: str
    topic: int
    session: int
    first: int
    last: int
    floor: int
    since: int


class _Event(msgspec.Struct, frozen=True, array_like=True):
    """A `SequenceEvent` without its last field, which says whether the ledger lacks it."""

    exchange: str
    symbol: str
    session: int
    event: EventKind
    first_sequence: int
    last_sequence: int
    timestamp: int
    topic: str
    partition: int
    offset: int


class _Day(msgspec.Struct, frozen=True, array_like=True):
    exchange: str
    day: int
    topic: str
    first: int
    lags: list[int]
    """Alternately a bucket and its number of trades."""


class _Document(msgspec.Struct, frozen=True):
    format: int
    positions: dict[str, int]
    feeds: dict[str, str]
    """The name of each topic's feed."""
    exchanges: list[str]
    topics: list[str]
    ranges: list[_Range]
    events: list[list[_Event]]
    days: list[_Day]


class FeedSum(NamedTuple):
    """Trades that all feeds brought: how many a feed brought first, and int64[`BUCKETS`] how late it brought them."""

    first: int
    lags: NDArray[np.int64]


class FeedStates:
    """The feeds of one writer's key groups, as of its committed offsets."""

    def __init__(self, text: str | None = None) -> None:
        """Start from the text of the property; None for a table without it.

        Raises:
            ValueError: the text does not have the shape written by `text`, or has another format version.
        """
        document = _Document(FORMAT, {}, {}, [], [], [], [], []) if text is None else _decode(text)
        self._positions = {TopicPartition.parse(one): offset for one, offset in document.positions.items()}
        self._topics: frozenset[str] = frozenset()
        self.feeds = document.feeds
        """The name of each topic's feed."""
        self._stored: dict[int, list[FeedRange]] = {}
        for one in _ranges(document):
            self._stored.setdefault(group_of(one.key.exchange, one.key.symbol), []).append(one)
        self._groups: dict[int, GroupFeeds] = {}
        self._recent = [[SequenceEvent(*astuple(one)) for one in commit] for commit in document.events]
        self._new: list[SequenceEvent] = []
        self._days = {(one.exchange, one.day, one.topic): FeedSum(one.first, _lags(one)) for one in document.days}

    def begin(self, topics: Iterable[FeedTopic]) -> None:
        """Note the feeds that are read: what is known of others is left out from now on."""
        self.feeds = {one.topic: one.feed for one in topics}
        self._topics = frozenset(self.feeds)
        self._positions = {one: offset for one, offset in self._positions.items() if one.topic in self._topics}

    def update(self, feeds: GroupFeeds) -> None:
        """Replace the feeds of a key group; add its events and its trades of days."""
        self._groups[feeds.group] = feeds._replace(events=(), days=())
        self._new += feeds.events
        for one in feeds.days:
            key = one.exchange, one.day, one.topic
            known = self._days.get(key, FeedSum(0, np.zeros(BUCKETS, dtype=np.int64)))
            self._days[key] = FeedSum(known.first + one.first, known.lags + one.lags)

    def advance(self, positions: Positions) -> None:
        """Close an epoch with the offsets up to which its commit covers the feeds.

        They are compared at the next start, so that a feed is not continued over messages that a job without feeds has
        read.
        """
        self._positions |= {one: offset for one, offset in positions.items() if one.topic in self._topics}
        self._recent = [*self._recent, self._new][-COMMITS_KEPT:]
        self._new = []
        days = sorted({(exchange, day) for exchange, day, _ in self._days})
        kept = {
            one for exchange in {one for one, _ in days} for one in [d for d in days if d[0] == exchange][-DAYS_KEPT:]
        }
        self._days = {key: one for key, one in self._days.items() if key[:2] in kept}

    def ranges(self, group: int | None = None, committed: Positions | None = None) -> list[FeedRange]:
        """Return what the feeds of a group have reached as of the offsets `committed`; by default of all, at any."""
        groups = [*self._stored, *self._groups] if group is None else [group]
        found = [one for group in dict.fromkeys(groups) for one in self._of_group(group)]
        if committed is None:
            return found
        topics = {one.key.topic for one in found}
        current = {one for one in topics if _of_topic(one, committed) == _of_topic(one, self._positions)}
        return [one for one in found if one.key.topic in current]

    def events(self, group: int) -> list[SequenceEvent]:
        """Return the events of a group in the last commits, in their order."""
        return [one for commit in self._recent for one in commit if group_of(one.exchange, one.symbol) == group]

    def sums(self) -> Mapping[tuple[str, int, str], FeedSum]:
        """Return the trades that all feeds brought, by exchange, day (since the epoch) and topic."""
        return self._days

    def text(self) -> str:
        """Return the text of the property."""
        ranges = sorted(
            self.ranges(), key=lambda one: (one.key.exchange, one.key.symbol, one.key.topic, one.key.session)
        )
        exchanges = sorted({one.key.exchange for one in ranges})
        topics = sorted({one.key.topic for one in ranges})
        exchange_idx = {one: idx for idx, one in enumerate(exchanges)}
        topic_idx = {one: idx for idx, one in enumerate(topics)}
        document = _Document(
            FORMAT,
            {str(one): offset for one, offset in sorted(self._positions.items())},
            dict(self.feeds),
            exchanges,
            topics,
            [
                _Range(
                    exchange_idx[one.key.exchange],
                    one.key.symbol,
                    topic_idx[one.key.topic],
                    one.key.session,
                    one.first,
                    one.last - one.first,
                    one.floor - one.first,
                    one.since,
                )
                for one in ranges
            ],
            [[_Event(*one[:-1]) for one in commit] for commit in self._recent],
            [
                _Day(*key, one.first, _sparse(one.lags))
                for key, one in sorted(self._days.items(), key=lambda one: one[0])
            ],
        )
        return b64encode(zlib.compress(msgspec.json.encode(document), _LEVEL)).decode()

    def _of_group(self, group: int) -> Iterable[FeedRange]:
        feeds = self._groups.get(group)
        if feeds is None:
            known = self._stored.get(group, [])
            return [one for one in known if one.key.topic in self._topics] if self._topics else known
        return _ranges_of(feeds)


def _decode(text: str) -> _Document:
    try:
        plain = zlib.decompress(b64decode(text, validate=True)).decode()
    except zlib.error as error:
        raise ValueError(f"not compressed: {error}") from error
    return read_document(plain, _Document, FORMAT)


def _ranges(document: _Document) -> Iterator[FeedRange]:
    for one in document.ranges:
        key = FeedKey(document.exchanges[one.exchange], one.symbol, one.session, document.topics[one.topic])
        yield FeedRange(key, one.first, one.first + one.last, one.first + one.floor, one.since)


def _ranges_of(feeds: GroupFeeds) -> Iterator[FeedRange]:
    yield from feeds.older
    topics, names, slots = feeds.symbols
    for slot_idx, feed in np.argwhere(slots[:, :, SESSION] > 0).tolist():
        slot = slots[slot_idx, feed].tolist()
        key = FeedKey(*names[slot_idx], slot[SESSION], topics[feed])
        yield FeedRange(key, slot[FIRST], slot[HIGHEST], slot[FLOOR], slot[SINCE])


def _of_topic(topic: str, positions: Positions) -> Positions:
    return {one: offset for one, offset in positions.items() if one.topic == topic}


def _sparse(lags: NDArray[np.int64]) -> list[int]:
    buckets = np.flatnonzero(lags)
    return [int(one) for pair in zip(buckets, lags[buckets], strict=True) for one in pair]


def _lags(one: _Day) -> NDArray[np.int64]:
    lags = np.zeros(BUCKETS, dtype=np.int64)
    lags[one.lags[::2]] = one.lags[1::2]
    return lags
