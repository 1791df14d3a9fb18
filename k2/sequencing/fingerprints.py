"""Content fingerprints of recently stored numbers: 6 bytes each, in pages of 256 numbers that expire as a whole."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.content import UNKNOWN

__all__ = [
    "NO_PAGE",
    "PAGE_BITS",
    "PAGE_NUMBERS",
    "Fingerprints",
    "Pages",
    "find_page",
    "find_session",
    "read_fingerprint",
    "take_page",
    "write_fingerprint",
]

PAGE_BITS: Final = 8
PAGE_NUMBERS: Final = 1 << PAGE_BITS
NO_PAGE: Final = -1

# Columns of a page's header.
_SLOT, _SESSION, _PAGE_NUMBER, _NEXT, _LATEST, _IS_LOOKED_UP, _IS_TAKEN = range(7)
_COLUMNS: Final = 7
_WORDS: Final = 3
_WORD_BITS: Final = 16
_WORD: Final = 0xFFFF
_CAPACITY_MIN: Final = 64
_TIME_MIN: Final = np.iinfo(np.int64).min
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FACTOR: Final = np.uint64(0xBF58476D1CE4E5B9)
_HALF: Final = np.uint64(32)


class Pages(NamedTuple):
    """The pages of one key group, for compiled loops; a page has 256 consecutive numbers of a session."""

    headers: NDArray[np.int64]
    """int64[capacity, 7]: slot, session, page number (sequence number >> 8), next page of the same slot and page number
    or -1, latest Kafka time of its contents in microseconds (the least int64 for none), whether the table was read for
    its unknown contents, whether it is in use."""
    words: NDArray[np.uint16]
    """uint16[capacity, 768]: three words per number, lowest first; 0 if unknown. Those of free pages mean nothing."""
    heads: NDArray[np.int32]
    """int32[power of two, at least twice the capacity]: open-addressing table of the first page of each slot and page
    number, or -1."""
    free: NDArray[np.int32]
    """int32[capacity]: stack of the free pages."""
    state: NDArray[np.int64]
    """int64[1]: number of free pages."""


@compiled
def _head_idx(pages: Pages, slot: int, page_number: int) -> int:
    """Return the index in `heads` of a slot and page number, or of the empty element where it would be inserted."""
    mask = np.uint64(len(pages.heads) - 1)
    hashed = (np.uint64(np.int64(slot)) * _STEP) ^ (np.uint64(np.int64(page_number)) * _FACTOR)
    idx = (hashed ^ (hashed >> _HALF)) & mask
    while True:
        page = pages.heads[idx]
        if page < 0 or (pages.headers[page, _SLOT] == slot and pages.headers[page, _PAGE_NUMBER] == page_number):
            return int(idx)
        idx = (idx + np.uint64(1)) & mask


@compiled
def find_page(pages: Pages, slot: int, session: int, sequence: int) -> int:
    """Return the page of a sequence number of a session, or `NO_PAGE`."""
    page = _first_page(pages, slot, session, sequence)
    return page if page >= 0 and pages.headers[page, _SESSION] == session else NO_PAGE


@compiled
def _first_page(pages: Pages, slot: int, session: int, sequence: int) -> int:
    """Return the page of a sequence number of a session, or else of the newest one before it; `NO_PAGE` if none."""
    page: Any = np.int64(pages.heads[_head_idx(pages, slot, sequence >> PAGE_BITS)])
    while page >= 0 and pages.headers[page, _SESSION] > session:
        page = pages.headers[page, _NEXT]
    return int(page)


@compiled
def take_page(pages: Pages, slot: int, session: int, sequence: int) -> int:
    """Take a free page for a sequence number of a session without one; `NO_PAGE` if none is free."""
    if pages.state[0] == 0:
        return NO_PAGE
    pages.state[0] -= 1
    page: Any = np.int64(pages.free[pages.state[0]])
    page_number = sequence >> PAGE_BITS
    header = pages.headers[page]
    header[_SLOT], header[_SESSION], header[_PAGE_NUMBER] = slot, session, page_number
    header[_LATEST], header[_IS_LOOKED_UP], header[_IS_TAKEN] = _TIME_MIN, 0, 1
    _link(pages, page)
    pages.words[page, :] = 0
    return int(page)


@compiled
def _link(pages: Pages, page: int) -> None:
    """Insert a page in the chain of its slot and page number, in which newer sessions come first."""
    header = pages.headers[page]
    head_idx = _head_idx(pages, header[_SLOT], header[_PAGE_NUMBER])
    before: Any = np.int64(NO_PAGE)
    after: Any = np.int64(pages.heads[head_idx])
    while after >= 0 and pages.headers[after, _SESSION] > header[_SESSION]:
        before, after = after, pages.headers[after, _NEXT]
    header[_NEXT] = after
    if before < 0:
        pages.heads[head_idx] = page
    else:
        pages.headers[before, _NEXT] = page


@compiled
def read_fingerprint(words: NDArray[np.uint16], page: int, sequence: int) -> int:
    """Return the fingerprint of a sequence number in a page; `UNKNOWN` if it has none."""
    start = (sequence & (PAGE_NUMBERS - 1)) * _WORDS
    low, middle, high = np.int64(words[page, start]), np.int64(words[page, start + 1]), np.int64(words[page, start + 2])
    return int(low | (middle << _WORD_BITS) | (high << (2 * _WORD_BITS)))


@compiled
def _has_unknown(words: NDArray[np.uint16], page: int, first: int, last: int) -> bool:
    """Return whether any number from `first` to `last`, both of one page, is unknown in it."""
    for start in range((first & (PAGE_NUMBERS - 1)) * _WORDS, ((last & (PAGE_NUMBERS - 1)) + 1) * _WORDS, _WORDS):
        if words[page, start] == 0 and words[page, start + 1] == 0 and words[page, start + 2] == 0:
            return True
    return False


@compiled
def write_fingerprint(
    headers: NDArray[np.int64], words: NDArray[np.uint16], page: int, sequence: int, content: int, kafka_time: int
) -> None:
    """Write the fingerprint of a sequence number to its page."""
    start = (sequence & (PAGE_NUMBERS - 1)) * _WORDS
    words[page, start] = content & _WORD
    words[page, start + 1] = (content >> _WORD_BITS) & _WORD
    words[page, start + 2] = (content >> (2 * _WORD_BITS)) & _WORD
    headers[page, _LATEST] = max(headers[page, _LATEST], kafka_time)


@compiled
def find_session(pages: Pages, slot: int, newest: int, searched: int, sequence: int, content: int) -> int:
    """Return the newest session with this content under a sequence number, 0 for none.

    It is one of the `searched` sessions up to and including `newest`. `content` is not `UNKNOWN`.
    """
    page: Any = np.int64(_first_page(pages, slot, newest, sequence))
    while page >= 0 and pages.headers[page, _SESSION] > newest - searched:
        if read_fingerprint(pages.words, page, sequence) == content:
            return int(pages.headers[page, _SESSION])
        page = pages.headers[page, _NEXT]
    return 0


@compiled
def _expire(pages: Pages, floor: int, sessions: NDArray[np.int64], highest: NDArray[np.int64]) -> int:
    """Free the pages whose latest time is below `floor`, except those with a slot's newest 256 numbers.

    `heads` and the chains are wrong until `_rebuild_chains`.

    Args:
        pages: changed in place.
        floor: Kafka time, microseconds.
        sessions: int64[slots], newest session.
        highest: int64[slots], highest number of the newest session.

    Returns:
        The number of pages freed.
    """
    freed = 0
    for page in range(len(pages.headers)):
        header = pages.headers[page]
        if header[_IS_TAKEN] == 0 or header[_LATEST] >= floor:
            continue
        slot = header[_SLOT]
        if header[_SESSION] == sessions[slot] and header[_PAGE_NUMBER] >= (highest[slot] >> PAGE_BITS) - 1:
            continue
        header[_IS_TAKEN] = 0
        pages.free[pages.state[0]] = page
        pages.state[0] += 1
        freed += 1
    return freed


def _rebuild_chains(pages: Pages) -> None:
    """Rebuild `heads` and the chains from the headers."""
    # The newest session last: its page is then the first of its chain, so that each is linked in one step.
    _link_all(pages, np.argsort(pages.headers[:, _SESSION], kind="stable"))


@compiled
def _link_all(pages: Pages, order: NDArray[np.int64]) -> None:
    """Link the taken ones of int64[capacity] pages, in this order, and no others."""
    pages.heads[:] = NO_PAGE
    for page in order:
        if pages.headers[page, _IS_TAKEN] != 0:
            _link(pages, page)


class Fingerprints:
    """The fingerprints of one key group's symbols, by slot.

    Memory: 7.1 bytes per number (`python -m benchmarks.fingerprints`), including free pages; at least 1.6 kB per
    symbol; twice that while the capacity grows. A page expires when its latest Kafka time is below the floor of
    `make_room`, except the pages with a symbol's newest 256 numbers.
    """

    def __init__(self) -> None:
        self.pages = _with_capacity(_CAPACITY_MIN)
        _fill_free(self.pages, 0)

    @property
    def size_bytes(self) -> int:
        """Memory used by the pages, bytes."""
        return sum(part.nbytes for part in self.pages)

    @property
    def free_count(self) -> int:
        """Number of free pages."""
        return int(self.pages.state[0])

    @property
    def page_count(self) -> int:
        """Number of pages in use."""
        return len(self.pages.headers) - self.free_count

    def get(self, slot: int, session: int, sequence: int) -> int:
        """Return the fingerprint of a sequence number; `UNKNOWN` if it has none."""
        page = find_page(self.pages, slot, session, sequence)
        return UNKNOWN if page < 0 else read_fingerprint(self.pages.words, page, sequence)

    def find_session(self, slot: int, newest: int, searched: int, sequence: int, content: int) -> int | None:
        """Return the newest session with a content under a number, as `Contents.find_session`."""
        return find_session(self.pages, slot, newest, searched, sequence, content) or None

    def put(self, slot: int, session: int, sequence: int, content: int, kafka_time: int) -> None:
        """Record the fingerprint of a sequence number; there must be a free page (`make_room`)."""
        page = self._page_of(slot, session, sequence)
        write_fingerprint(self.pages.headers, self.pages.words, page, sequence, content, kafka_time)

    def has_unknown(self, slot: int, session: int, page_number: int, ranges: Iterable[tuple[int, int]]) -> bool:
        """Return whether any number in `ranges`, all within one page, is unknown here and may be in the table."""
        page = find_page(self.pages, slot, session, page_number << PAGE_BITS)
        if page >= 0 and self.pages.headers[page, _IS_LOOKED_UP]:
            return False
        if page < 0:
            return any(True for _ in ranges)
        return any(_has_unknown(self.pages.words, page, first, last) for first, last in ranges)

    def set_looked_up(self, slot: int, session: int, page_number: int, kafka_time: int) -> None:
        """Record that the table was read for the unknown contents of a page; there must be a free page."""
        header = self.pages.headers[self._page_of(slot, session, page_number << PAGE_BITS)]
        header[_IS_LOOKED_UP], header[_LATEST] = True, max(header[_LATEST], kafka_time)

    def make_room(self, count: int, floor: int, sessions: NDArray[np.int64], highest: NDArray[np.int64]) -> None:
        """Provide at least `count` free pages: expire those older than `floor`, and grow if that frees few.

        Args:
            count: number of free pages needed.
            floor: Kafka time, microseconds.
            sessions: int64[slots], newest session.
            highest: int64[slots], highest number of the newest session.
        """
        if self.free_count >= count:
            return
        if _expire(self.pages, floor, sessions, highest):
            _rebuild_chains(self.pages)
        capacity = len(self.pages.headers)
        # Expiry scans all pages, so each scan should free many.
        wanted = max(count, capacity // 8)
        if self.free_count < wanted:
            self._grow(capacity + max(wanted, capacity // 4))

    def _page_of(self, slot: int, session: int, sequence: int) -> int:
        page = find_page(self.pages, slot, session, sequence)
        if page < 0:
            page = take_page(self.pages, slot, session, sequence)
        assert page >= 0, "room was made"
        return page

    def _grow(self, capacity: int) -> None:
        old = self.pages
        count = len(old.headers)
        pages = _with_capacity(capacity)
        pages.headers[:count] = old.headers
        pages.words[:count] = old.words
        free_count = self.free_count
        pages.free[:free_count] = old.free[:free_count]
        pages.state[0] = free_count
        self.pages = pages
        _fill_free(pages, count)
        _rebuild_chains(pages)


def _with_capacity(capacity: int) -> Pages:
    """Return pages of which none is in the free stack yet; memory is committed as they are written."""
    return Pages(
        headers=np.zeros((capacity, _COLUMNS), dtype=np.int64),
        words=np.empty((capacity, PAGE_NUMBERS * _WORDS), dtype=np.uint16),
        heads=np.full(1 << (2 * capacity - 1).bit_length(), NO_PAGE, dtype=np.int32),
        free=np.empty(capacity, dtype=np.int32),
        state=np.zeros(1, dtype=np.int64),
    )


def _fill_free(pages: Pages, first: int) -> None:
    """Push the pages from `first` on to the free stack, so that the lowest is taken first."""
    added = np.arange(len(pages.headers) - 1, first - 1, -1, dtype=np.int32)
    free_count = int(pages.state[0])
    pages.free[free_count : free_count + len(added)] = added
    pages.state[0] = free_count + len(added)
