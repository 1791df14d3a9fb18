"""Numbers that were skipped: given to what is no market trade, they are neither missing nor in the table.

A tracker that lost its state, or whose state is behind the table, is brought up to the table's rows. These numbers are
in no row, so they are kept beside the progress, and land in the same commit: else each would come up as a gap that
nothing ever fills.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

import msgspec
import numpy as np

from k2.model.batch import TradeSlice
from k2.model.documents import read_document
from k2.model.progress import PartitionProgress, TopicPartition
from k2.model.state_source import SeenSession, SessionKey
from k2.model.symbols import SYMBOLS
from k2.model.verdicts import SKIPPED
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.tracker_kernel import effective_time

__all__ = ["PROPERTY", "RANGES_MAX", "NonMarketNumbers", "joined", "off_book_in"]

PROPERTY: Final = "k2.off_book."
"""Property of the table `trades`, one a writer."""
RANGES_MAX: Final = 50_000
"""Ranges that a writer keeps, some 5 bytes each: the lowest of the session with the most go first."""
FORMAT: Final = 1


@dataclass(slots=True)
class _Numbers:
    """Numbers of one session that came from one topic partition."""

    ranges: IntervalSet = field(default_factory=IntervalSet)
    latest: int = np.iinfo(np.int64).min
    """The latest effective time among them."""
    earliest: int = np.iinfo(np.int64).max
    """The earliest."""
    offset: int = 0
    """Of the newest."""


class _Session(msgspec.Struct, frozen=True):
    exchange: str
    symbol: str
    session: int
    topic: str
    partition: int
    offset: int
    latest: int
    edges: list[int]
    """The first number, then by turns the distance to where its range ends and to where the next one starts."""
    earliest: int | None = None
    """Earlier versions did not write it."""


class _Document(msgspec.Struct, frozen=True):
    format: int
    sessions: list[_Session]


class NonMarketNumbers:
    """The numbers that one writer has skipped."""

    def __init__(self, text: str | None = None, ranges_max: int = RANGES_MAX) -> None:
        """Take up the property's text; None for a table without it.

        Raises:
            TableError: the text is not of the shape that `text` gives, or of a later format.
        """
        self._ranges_max = ranges_max
        self._sessions: defaultdict[tuple[SessionKey, TopicPartition], _Numbers] = defaultdict(_Numbers)
        self._is_changed = False
        for one in _read(text):
            edges = list(accumulate(one.edges))
            key = SessionKey(one.exchange, one.symbol, one.session), TopicPartition(one.topic, one.partition)
            earliest = one.latest if one.earliest is None else one.earliest
            self._sessions[key] = _Numbers(IntervalSet(edges[::2], edges[1::2]), one.latest, earliest, one.offset)

    def add(self, piece: TradeSlice, committed: Mapping[TopicPartition, PartitionProgress]) -> None:
        """Keep the numbers of a tracked slice's skipped rows, but for a replay's, which are below the progress."""
        places = np.flatnonzero(piece.verdicts == SKIPPED)
        if not len(places):
            return
        source, columns = piece.batch.source, piece.batch.columns
        where = TopicPartition(source.topic, source.partition)
        floor = committed[where].offset if where in committed else 0
        for place in places.tolist():
            row, session = int(piece.rows[place]), int(piece.sessions[place])
            offset = piece.batch.offset(row)
            if session and offset >= floor:
                kafka_timestamp = int(source.kafka_timestamps[columns.messages[row]])
                at = effective_time(int(columns.timestamps[row]), kafka_timestamp)
                key = SessionKey(*SYMBOLS.name(int(columns.symbols[row])), session), where
                self._note(key, int(columns.sequences[row]), at, offset)

    def _note(self, key: tuple[SessionKey, TopicPartition], number: int, at: int, offset: int) -> None:
        numbers = self._sessions[key]
        numbers.ranges.add(number)
        numbers.latest = max(numbers.latest, at)
        numbers.earliest = min(numbers.earliest, at)
        numbers.offset = max(numbers.offset, offset)
        self._is_changed = True

    def changed(self, writer: str) -> dict[str, str]:
        """Return the property to set with the next commit, once; nothing where nothing was added."""
        if not self._is_changed:
            return {}
        self._is_changed = False
        self._shrink()
        return {PROPERTY + writer: self.text()}

    def text(self) -> str:
        """Return the property's text."""
        sessions = [
            _Session(
                *key,
                where.topic,
                where.partition,
                numbers.offset,
                numbers.latest,
                _edges(numbers.ranges),
                numbers.earliest,
            )
            for (key, where), numbers in sorted(self._sessions.items())
        ]
        return msgspec.json.encode(_Document(FORMAT, sessions)).decode()

    def seen(self) -> Iterator[SeenSession]:
        """Yield the numbers as a tracker takes them in."""
        for (key, where), numbers in self._sessions.items():
            ranges = tuple(numbers.ranges.ranges())
            yield SeenSession(key, ranges, numbers.latest, numbers.earliest, where, numbers.offset)

    def _shrink(self) -> None:
        while sum(len(numbers.ranges) for numbers in self._sessions.values()) > self._ranges_max:
            longest = max((numbers.ranges for numbers in self._sessions.values()), key=len)
            longest.drop_lowest((len(longest) + 1) // 2)


def off_book_in(properties: Mapping[str, str]) -> list[SeenSession]:
    """Return what the properties of the table `trades` say that all writers have skipped."""
    texts = [text for name, text in properties.items() if name.startswith(PROPERTY)]
    return [seen for text in texts for seen in NonMarketNumbers(text).seen() if seen.ranges]


def joined(seen: Iterable[SeenSession]) -> list[SeenSession]:
    """Return each session once, with all that is said of it, the sessions of a symbol ascending."""
    sessions: dict[SessionKey, SeenSession] = {}
    for one in seen:
        other = sessions.get(one.key)
        sessions[one.key] = one if other is None else _both(one, other)
    return [sessions[key] for key in sorted(sessions)]


def _both(one: SeenSession, other: SeenSession) -> SeenSession:
    ranges = IntervalSet()
    for first, last in (*one.ranges, *other.ranges):
        ranges.add_range(first, last)
    newest = max(one, other, key=lambda seen: seen.latest)
    return newest._replace(ranges=tuple(ranges.ranges()), earliest=min(one.earliest, other.earliest))


def _edges(ranges: IntervalSet) -> list[int]:
    edges = [edge for both in ranges.ranges() for edge in both]
    return [*edges[:1], *(after - before for before, after in pairwise(edges))]


def _read(text: str | None) -> list[_Session]:
    return [] if text is None else read_document(f"{PROPERTY}N", text, _Document, FORMAT).sessions
