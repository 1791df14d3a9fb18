"""The content fingerprints of numbers stored lately: 6 bytes each, in pages of 256 numbers that expire as a whole."""

from collections.abc import Iterable
from typing import Final, NamedTuple

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
    "is_stored_elsewhere",
    "read_mark",
    "take_page",
    "write_mark",
]

PAGE_BITS: Final = 8
PAGE_NUMBERS: Final = 1 << PAGE_BITS
NO_PAGE: Final = -1

# Columns of a page's header.
_SLOT, _SESSION, _NUMBER, _NEXT, _LATEST, _IS_LOOKED_UP, _IS_TAKEN = range(7)
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
    """The pages of one key group as compiled loops use them; a page holds 256 neighbouring numbers of a session."""

    headers: NDArray[np.int64]
    """int64[capacity, 7]: slot, session, number >> 8, the next page of that slot and number or -1, the latest Kafka
    time of what it holds, whether the table was asked for what it lacks, whether it is taken."""
    marks: NDArray[np.uint16]
    """uint16[capacity, 768]: three words a number, the lowest first; 0 where unknown."""
    heads: NDArray[np.int32]
    """int32[power of two]: an open-addressing table of the first page of each slot and number, or -1."""
    free: NDArray[np.int32]
    """int32[capacity]: the pages that are free, a stack."""
    state: NDArray[np.int64]
    """int64[1]: how many are free."""


@compiled
def _home(pages: Pages, slot: int, number: int) -> int:
    """Return the place of the first page of a slot and number in `heads`, or of the hole where it would be."""
    mask = np.uint64(len(pages.heads) - 1)
    mixed = (np.uint64(np.int64(slot)) * _STEP) ^ (np.uint64(np.int64(number)) * _FACTOR)
    place = (mixed ^ (mixed >> _HALF)) & mask
    while True:
        page = pages.heads[place]
        if page < 0 or (pages.headers[page, _SLOT] == slot and pages.headers[page, _NUMBER] == number):
            return int(place)
        place = (place + np.uint64(1)) & mask


@compiled
def find_page(pages: Pages, slot: int, session: int, sequence: int) -> int:
    """Return the page that holds a number of a session, or `NO_PAGE`."""
    page = pages.heads[_home(pages, slot, sequence >> PAGE_BITS)]
    while page >= 0 and pages.headers[page, _SESSION] != session:
        page = pages.headers[page, _NEXT]
    return int(page)


@compiled
def take_page(pages: Pages, slot: int, session: int, sequence: int) -> int:
    """Take a free page for a number of a session that has none; `NO_PAGE` where none is free."""
    if pages.state[0] == 0:
        return NO_PAGE
    pages.state[0] -= 1
    page = pages.free[pages.state[0]]
    number = sequence >> PAGE_BITS
    home = _home(pages, slot, number)
    header = pages.headers[page]
    header[_SLOT], header[_SESSION], header[_NUMBER] = slot, session, number
    header[_NEXT], header[_LATEST] = pages.heads[home], _TIME_MIN
    header[_IS_LOOKED_UP], header[_IS_TAKEN] = 0, 1
    pages.heads[home] = page
    pages.marks[page, :] = 0
    return int(page)


@compiled
def read_mark(marks: NDArray[np.uint16], page: int, sequence: int) -> int:
    """Return the fingerprint that a page holds for a number; `UNKNOWN` where it holds none."""
    start = (sequence & (PAGE_NUMBERS - 1)) * _WORDS
    low, middle, high = np.int64(marks[page, start]), np.int64(marks[page, start + 1]), np.int64(marks[page, start + 2])
    return int(low | (middle << _WORD_BITS) | (high << (2 * _WORD_BITS)))


@compiled
def write_mark(
    headers: NDArray[np.int64], marks: NDArray[np.uint16], page: int, sequence: int, content: int, kafka_time: int
) -> None:
    """Keep a number's fingerprint in its page."""
    start = (sequence & (PAGE_NUMBERS - 1)) * _WORDS
    marks[page, start] = content & _WORD
    marks[page, start + 1] = (content >> _WORD_BITS) & _WORD
    marks[page, start + 2] = (content >> (2 * _WORD_BITS)) & _WORD
    headers[page, _LATEST] = max(headers[page, _LATEST], kafka_time)


@compiled
def is_stored_elsewhere(pages: Pages, slot: int, session: int, sequence: int, content: int) -> bool:
    """Return whether another session of the slot holds this content under this number."""
    page = pages.heads[_home(pages, slot, sequence >> PAGE_BITS)]
    while page >= 0:
        if pages.headers[page, _SESSION] != session and read_mark(pages.marks, page, sequence) == content:
            return True
        page = pages.headers[page, _NEXT]
    return False


@compiled
def _expire(pages: Pages, floor: int, sessions: NDArray[np.int64], highest: NDArray[np.int64]) -> int:
    """Free the pages whose latest time lies below `floor`, but for those of each slot's newest 256 numbers.

    `sessions` and `highest` are int64[slots]: the newest session, and its highest number. Returns how many were freed.
    """
    freed = 0
    for page in range(len(pages.headers)):
        header = pages.headers[page]
        if header[_IS_TAKEN] == 0 or header[_LATEST] >= floor:
            continue
        slot = header[_SLOT]
        if header[_SESSION] == sessions[slot] and header[_NUMBER] >= (highest[slot] >> PAGE_BITS) - 1:
            continue
        header[_IS_TAKEN] = 0
        pages.free[pages.state[0]] = page
        pages.state[0] += 1
        freed += 1
    return freed


@compiled
def _link(pages: Pages) -> None:
    """Build the table of first pages from the headers; those taken earlier lie behind those taken later in a chain."""
    pages.heads[:] = NO_PAGE
    for page in range(len(pages.headers)):
        if pages.headers[page, _IS_TAKEN] != 0:
            home = _home(pages, pages.headers[page, _SLOT], pages.headers[page, _NUMBER])
            pages.headers[page, _NEXT] = pages.heads[home]
            pages.heads[home] = page


class Fingerprints:
    """The fingerprints of one key group's symbols, each symbol at a slot.

    Memory: 7.1 bytes a number (`python -m benchmarks.fingerprints`), some of it in free pages; at least 1.6 kB a
    symbol. While pages are added, all are there twice. A page is let go when the latest Kafka time in it is older than
    asked for, but for those that hold a symbol's newest 256 numbers.
    """

    def __init__(self) -> None:
        self.pages = _with_capacity(_CAPACITY_MIN)
        _fill_free(self.pages, 0)

    @property
    def size_bytes(self) -> int:
        """The memory that the pages take."""
        return sum(part.nbytes for part in self.pages)

    @property
    def free_count(self) -> int:
        """How many pages are free."""
        return int(self.pages.state[0])

    @property
    def page_count(self) -> int:
        """How many pages are taken."""
        return len(self.pages.headers) - self.free_count

    def get(self, slot: int, session: int, sequence: int) -> int:
        """Return the fingerprint of a number; `UNKNOWN` where there is none here."""
        page = find_page(self.pages, slot, session, sequence)
        return UNKNOWN if page < 0 else read_mark(self.pages.marks, page, sequence)

    def put(self, slot: int, session: int, sequence: int, content: int, kafka_time: int) -> None:
        """Keep a number's fingerprint; there is a free page (`make_room`)."""
        page = self._page_of(slot, session, sequence)
        write_mark(self.pages.headers, self.pages.marks, page, sequence, content, kafka_time)

    def unknown_in(self, slot: int, session: int, number: int, ranges: Iterable[tuple[int, int]]) -> bool:
        """Return whether any number of some ranges, all of the page `number`, is unknown here and may be in the table."""
        page = find_page(self.pages, slot, session, number << PAGE_BITS)
        if page >= 0 and self.pages.headers[page, _IS_LOOKED_UP]:
            return False
        if page < 0:
            return any(True for _ in ranges)
        known = self.pages.marks[page].reshape(PAGE_NUMBERS, _WORDS).any(axis=1)
        base = number << PAGE_BITS
        return any(not known[first - base : last - base + 1].all() for first, last in ranges)

    def set_looked_up(self, slot: int, session: int, number: int, kafka_time: int) -> None:
        """Note that the table was asked for what a page lacks; there is a free page."""
        header = self.pages.headers[self._page_of(slot, session, number << PAGE_BITS)]
        header[_IS_LOOKED_UP], header[_LATEST] = True, max(header[_LATEST], kafka_time)

    def make_room(self, count: int, floor: int, sessions: NDArray[np.int64], highest: NDArray[np.int64]) -> None:
        """Have so many free pages: let go of those older than `floor`, and grow where that frees few.

        `sessions` and `highest` are int64[slots]: each slot's newest session, and the highest number in it.
        """
        if self.free_count >= count:
            return
        if _expire(self.pages, floor, sessions, highest):
            _link(self.pages)
        capacity = len(self.pages.headers)
        # Expiry looks at every page: it is to free many each time.
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
        pages.marks[:count] = old.marks
        free = self.free_count
        pages.free[:free] = old.free[:free]
        pages.state[0] = free
        self.pages = pages
        _fill_free(pages, count)
        _link(pages)


def _with_capacity(capacity: int) -> Pages:
    """Return pages of which none is free yet; memory is taken as they are written."""
    return Pages(
        headers=np.zeros((capacity, _COLUMNS), dtype=np.int64),
        marks=np.empty((capacity, PAGE_NUMBERS * _WORDS), dtype=np.uint16),
        heads=np.full(1 << (2 * capacity - 1).bit_length(), NO_PAGE, dtype=np.int32),
        free=np.empty(capacity, dtype=np.int32),
        state=np.zeros(1, dtype=np.int64),
    )


def _fill_free(pages: Pages, first: int) -> None:
    """Put the pages from `first` on onto the stack, so that the lowest is taken first."""
    fresh = np.arange(len(pages.headers) - 1, first - 1, -1, dtype=np.int32)
    free = int(pages.state[0])
    pages.free[free : free + len(fresh)] = fresh
    pages.state[0] = free + len(fresh)
