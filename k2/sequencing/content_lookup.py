"""Lookup of contents stored before the process started, in the table, when a row first needs them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.dedup.window import CONFIRMATIONS, WINDOW_US_MAX, WINDOWS_HELD
from k2.model.batch import NULL_TIME
from k2.model.compiled import compiled
from k2.model.content import UNKNOWN
from k2.model.state_source import SessionKey, StoredContents, WantedContents
from k2.sequencing.fingerprints import PAGE_BITS, Fingerprints, Pages, find_page, read_fingerprint, write_fingerprint
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.sequence import INTERLEAVED_MAX, SESSIONS_SEARCHED, SymbolSequence

__all__ = ["WINDOW_US_MIN", "ContentLookup", "GroupClock", "SliceSymbol", "SlotContents", "pages_of"]

WINDOW_US_MIN: Final = 600_000_000
"""Contents are kept for a window of at least 10 minutes, even if the deduplication window is shorter. A content that is
no longer known was therefore stored long before the tolerated clock difference of 5 seconds."""
PAGES_AHEAD_MIN: Final = 16
"""Initial read-ahead of a lookup, pages: a feed that resends old trades usually resends more of them. The read-ahead
doubles with each lookup, up to `PAGES_AHEAD_MAX`."""
PAGES_AHEAD_MAX: Final = 4096
_PAGES_APART_MAX: Final = 4
"""Pages that are no farther apart are requested as one range."""
_PAGE_LAST: Final = (1 << PAGE_BITS) - 1


class GroupClock:
    """The Kafka time that a key group has reached; it affects memory only, no verdict.

    As with `k2.dedup.window.Clock`, rows that are more than a window ahead move it only if a hundred of them are
    consecutive, so that one wrong time does not expire contents.
    """

    def __init__(self, window_us: int) -> None:
        self._window_us = min(window_us, WINDOW_US_MAX)
        self._ahead = 0
        self.reached = 0

    @property
    def floor(self) -> int:
        """The time before which contents expire."""
        return self.reached - WINDOWS_HELD * self._window_us

    def advance(self, times: NDArray[np.int64]) -> None:
        """Advance to the latest of a slice's Kafka times, int64[n]; `NULL_TIME` is ignored."""
        times = times[(times != NULL_TIME) & (times < WINDOW_US_MAX)]
        if not len(times):
            return
        near = times[times <= self.reached + self._window_us]
        if len(near):
            self.reached, self._ahead = max(self.reached, int(near.max())), 0
            return
        self._ahead += len(times)
        if not self.reached or self._ahead >= CONFIRMATIONS:
            self.reached, self._ahead = int(times.min()), 0


class SlotContents:
    """The contents of one slot, as `k2.sequencing.contents.Contents`."""

    __slots__ = ("_fingerprints", "_slot", "kafka_time")

    def __init__(self, fingerprints: Fingerprints, slot: int) -> None:
        self._fingerprints = fingerprints
        self._slot = slot
        self.kafka_time = 0
        """Kafka time of the message whose trade is placed, microseconds."""

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` if it is not known."""
        return self._fingerprints.get(self._slot, session, sequence)

    def find_session(self, newest: int, searched: int, sequence: int, content: int) -> int | None:
        """Return the newest session with a content under a number, as `Contents.find_session`."""
        return self._fingerprints.find_session(self._slot, newest, searched, sequence, content)

    def put(self, session: int, sequence: int, content: int) -> None:
        """Record the content of a stored number."""
        self._fingerprints.put(self._slot, session, sequence, content, self.kafka_time)


class SliceSymbol(NamedTuple):
    """A symbol with rows in a slice."""

    slot: int
    exchange: str
    symbol: str
    sequence: SymbolSequence
    numbers: NDArray[np.int64]
    """int64[n]: distinct sequence numbers of these rows, ascending."""
    begun: int | None = None
    """Index of the session that had begun at the time of one of these rows, as from `SymbolSequence.session_at`."""


class _Range(NamedTuple):
    """Numbers of the pages of one session to read, both bounds inclusive."""

    slot: int
    key: SessionKey
    numbers: IntervalSet
    first_page: int
    last_page: int
    since: int
    is_any_age: bool

    @property
    def wanted(self) -> WantedContents:
        first, last = self.first_page << PAGE_BITS, (self.last_page << PAGE_BITS) + _PAGE_LAST
        return WantedContents(self.key, first, last, self.since, self.is_any_age)


class ContentLookup:
    """Reads contents from the table into memory, with one read for all symbols of a slice."""

    def __init__(
        self,
        fingerprints: Fingerprints,
        read_contents: Callable[[Sequence[WantedContents], int], StoredContents] | None,
    ) -> None:
        self._fingerprints = fingerprints
        self._read_contents = read_contents
        self._plan: list[_Range] = []
        self._known_from: dict[tuple[int, int], int] = {}
        """By slot and session: a read has shown that pages below this number contain nothing young enough."""
        self._pages_ahead: dict[tuple[int, int], int] = {}
        """By slot and session."""

    def lacks(
        self, slot: int, sequence: SymbolSequence, number: int, begun: int | None = None, *, is_checked: bool = False
    ) -> bool:
        """Return whether placing a number may need a content that only the table has.

        `begun` is the index of the session that had begun at its time, None for the newest. In sessions before the
        newest one, all numbers of the number's page are checked, so that the following rows of that page need no check,
        as `is_checked` then says.
        """
        if self._read_contents is None:
            return False
        page_number = number >> PAGE_BITS
        # The row before may have begun a session, and made an earlier one of the newest.
        for index in _searched(sequence, begun, 2 if is_checked else SESSIONS_SEARCHED):
            numbers = sequence.sessions[index].numbers
            is_newest = index == len(sequence.sessions) - 1
            ranges = numbers.overlap(number, number) if is_newest else _in_page(numbers, page_number)
            if self._is_unknown(slot, sequence, index, page_number, ranges):
                return True
        return False

    def plan(self, symbols: Iterable[SliceSymbol]) -> int:
        """Plan one read for all contents that the rows of some symbols may need.

        Returns:
            The number of free pages to provide before `read`.
        """
        self._plan = [
            found
            for symbol in symbols
            for index in _searched(symbol.sequence, symbol.begun)
            for found in self._ranges_to_read(symbol, index)
        ]
        return 1 + sum(one.last_page - one.first_page + 1 for one in self._plan)

    def read(self, floor: int, now: int) -> None:
        """Read the planned contents of trades whose Kafka time is at least `floor`; there must be pages for them.

        `now` is the Kafka time to which the age of the pages is set. Both are in microseconds.
        """
        assert self._read_contents is not None, "a lookup is planned only if contents can be read"
        plan, self._plan = self._plan, []
        stored = self._read_contents([one.wanted for one in plan], floor)
        for one in plan:
            for page_number in range(one.first_page, one.last_page + 1):
                if any(True for _ in _in_page(one.numbers, page_number)):
                    self._fingerprints.set_looked_up(one.slot, one.key.session, page_number, now)
            self._known_from[one.slot, one.key.session] = stored.lowest.get(one.key, one.numbers.highest + 1)
        slots = np.array([one.slot for one in plan], dtype=np.int64)[stored.wanted]
        sessions = np.array([one.key.session for one in plan], dtype=np.int64)[stored.wanted]
        _fill(self._fingerprints.pages, slots, sessions, stored.sequences, stored.contents, stored.kafka_times)

    def _is_unknown(
        self, slot: int, sequence: SymbolSequence, index: int, page_number: int, ranges: Iterable[tuple[int, int]]
    ) -> bool:
        if not _is_among_newest(sequence, index, page_number):
            known_from = self._known_from.get((slot, index + 1))
            if known_from is not None and (page_number << PAGE_BITS) + _PAGE_LAST < known_from:
                return False
        return self._fingerprints.has_unknown(slot, index + 1, page_number, ranges)

    def _ranges_to_read(self, symbol: SliceSymbol, index: int) -> Iterator[_Range]:
        """Yield the ranges of pages to read of one session of a symbol."""
        session = symbol.sequence.sessions[index]
        numbers = session.numbers
        is_newest = index == len(symbol.sequence.sessions) - 1
        row_numbers = numbers.members_of(symbol.numbers) if is_newest else symbol.numbers
        page_numbers = [
            page_number
            for page_number in np.unique(row_numbers >> PAGE_BITS).tolist()
            if self._is_unknown(symbol.slot, symbol.sequence, index, page_number, _in_page(numbers, page_number))
        ]
        if not page_numbers:
            return
        key = SessionKey(symbol.exchange, symbol.symbol, index + 1)
        slot_session = symbol.slot, key.session
        ahead = self._pages_ahead.get(slot_session, PAGES_AHEAD_MIN)
        self._pages_ahead[slot_session] = min(2 * ahead, PAGES_AHEAD_MAX)
        for first, last, limit in _runs(page_numbers, numbers.highest >> PAGE_BITS):
            last_page = min(last + ahead, limit)
            is_any_age = _is_among_newest(symbol.sequence, index, last_page)
            yield _Range(symbol.slot, key, numbers, first, last_page, session.earliest, is_any_age)


def _in_page(numbers: IntervalSet, page_number: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of numbers within a page."""
    return numbers.overlap(page_number << PAGE_BITS, (page_number << PAGE_BITS) + _PAGE_LAST)


def _searched(sequence: SymbolSequence, begun: int | None, newest: int = SESSIONS_SEARCHED) -> list[int]:
    """Return the indexes of the `newest` sessions, newest first, and that of the session that had begun, if older.

    A trade is compared with the contents of these: an early one is placed by its time, in a session of any age.
    """
    count = len(sequence.sessions)
    oldest = max(count - newest, 0)
    indexes = [*range(count - 1, oldest - 1, -1)]
    return indexes if begun is None or begun >= oldest else [*indexes, begun]


def _is_among_newest(sequence: SymbolSequence, index: int, page_number: int) -> bool:
    """Return whether a page may contain some of the newest 256 numbers, which are needed regardless of their age."""
    is_newest = index == len(sequence.sessions) - 1
    return is_newest and page_number >= (sequence.sessions[index].numbers.highest >> PAGE_BITS) - 1


def _runs(page_numbers: list[int], highest: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first page number, last page number, limit of read-ahead) of each run of near pages, ascending."""
    breaks = [index for index, (left, right) in enumerate(pairwise(page_numbers), 1) if right - left > _PAGES_APART_MAX]
    starts, ends = [0, *breaks], [*breaks, len(page_numbers)]
    for start, end in zip(starts, ends, strict=True):
        limit = page_numbers[end] - 1 if end < len(page_numbers) else highest
        yield page_numbers[start], page_numbers[end - 1], limit


@compiled
def _fill(
    pages: Pages,
    slots: NDArray[np.int64],
    sessions: NDArray[np.int64],
    sequences: NDArray[np.int64],
    contents: NDArray[np.int64],
    kafka_times: NDArray[np.int64],
) -> None:
    """Record n contents, int64[n] each, that have a page in which their number is unknown."""
    for row in range(len(slots)):
        page = find_page(pages, slots[row], sessions[row], sequences[row])
        if page >= 0 and read_fingerprint(pages.words, page, sequences[row]) == UNKNOWN:
            write_fingerprint(pages.headers, pages.words, page, sequences[row], contents[row], kafka_times[row])


def pages_of(first: int, last: int) -> int:
    """Return the number of pages of fingerprints that placing the numbers `first` to `last`, inclusive, may need."""
    return 1 + (last >> PAGE_BITS) - ((first - INTERLEAVED_MAX if first < last else first) >> PAGE_BITS)
