"""Fingerprints compared with a dictionary: what is stored, what expires, and what it costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.content import UNKNOWN
from k2.sequencing.contents import PlainContents
from k2.sequencing.fingerprints import (
    NO_PAGE,
    PAGE_NUMBERS,
    Fingerprints,
    find_page,
    read_fingerprint,
)

MIN, MAX = -(2**63), 2**63 - 1
SLOTS = 3
_NUMBERS = st.one_of(
    st.integers(-600, 600), st.integers(0, 40).map(lambda page: page * PAGE_NUMBERS), st.sampled_from([MIN, -1, MAX])
)
_CONTENTS = st.one_of(st.integers(1, 9), st.integers(1, 2**48 - 1), st.sampled_from([2**16, 2**32, 2**48 - 1]))
Kept = dict[tuple[int, int, int], tuple[int, int]]
"""Content and Kafka time by slot, session and number."""
Puts = list[tuple[int, int, int, int, int]]


@st.composite
def puts(draw: st.DrawFn) -> Puts:
    """Slot, session, number, content and Kafka time of a stored content."""
    one = st.tuples(st.integers(0, SLOTS - 1), st.integers(1, 4), _NUMBERS, _CONTENTS, st.integers(0, 9))
    return draw(st.lists(one, max_size=120))


def make_room(fingerprints: Fingerprints, kept: Kept, count: int = 1, floor: int = MIN) -> None:
    """Reserve capacity for the slots' newest sessions and highest numbers in the stored contents."""
    sessions, highest = np.zeros(SLOTS, dtype=np.int64), np.zeros(SLOTS, dtype=np.int64)
    for slot in range(SLOTS):
        mine = [(session, number) for of, session, number in kept if of == slot]
        if mine:
            sessions[slot], highest[slot] = max(mine)
    fingerprints.make_room(count, floor, sessions, highest)


def filled(rows: Puts) -> tuple[Fingerprints, Kept]:
    """Return fingerprints with some rows, and a dictionary of the same."""
    fingerprints, kept = Fingerprints(), Kept()
    for slot, session, number, content, kafka_time in rows:
        make_room(fingerprints, kept)
        fingerprints.put(slot, session, number, content, kafka_time)
        kept[slot, session, number] = content, kafka_time
    return fingerprints, kept


@given(puts(), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), _NUMBERS), max_size=20), st.integers(0, 300))
def test_equals_a_dictionary(rows: Puts, asked: list[tuple[int, int, int]], growth: int) -> None:
    """The last stored content is read, over slots, sessions and growth; what was never stored is unknown."""
    fingerprints, kept = filled(rows)
    make_room(fingerprints, kept, growth)
    for where in [*kept, *asked]:
        assert fingerprints.get(*where) == kept.get(where, (UNKNOWN, 0))[0]
    pages = {(slot, session, number // PAGE_NUMBERS) for slot, session, number in kept}
    assert fingerprints.page_count == len(pages)


@given(puts(), _CONTENTS, st.integers(0, 5), st.integers(1, 4), st.integers(0, 300))
def test_the_newest_session_with_a_content_is_found(
    rows: Puts, content: int, newest: int, searched: int, growth: int
) -> None:
    """As `PlainContents` finds it, in whatever order sessions took their pages, and after growth."""
    fingerprints, kept = filled(rows)
    make_room(fingerprints, kept, growth)
    for slot, _, number in kept:
        plain = PlainContents()
        for (of, session, at), (one, _) in kept.items():
            if of == slot:
                plain.put(session, at, one)
        for mark in (content, *(one for one, _ in kept.values())):
            expected = plain.find_session(newest, searched, number, mark)
            assert fingerprints.find_session(slot, newest, searched, number, mark) == expected


@pytest.mark.parametrize(
    ("newest", "searched", "found"), [(5, 9, 4), (4, 1, 4), (3, 9, 2), (3, 2, 2), (3, 1, None), (1, 9, None)]
)
def test_sessions_that_are_searched(newest: int, searched: int, found: int | None) -> None:
    """Of four sessions, the second and the last have the content."""
    fingerprints, plain = Fingerprints(), PlainContents()
    make_room(fingerprints, {}, 4)
    for session, content in ((3, 8), (1, 6), (4, 7), (2, 7)):
        fingerprints.put(0, session, 1_000, content, 0)
        plain.put(session, 1_000, content)
    assert plain.find_session(newest, searched, 1_000, 7) == found
    assert fingerprints.find_session(0, newest, searched, 1_000, 7) == found


@given(puts(), st.integers(0, 10))
def test_expiry_keeps_the_newest_and_what_is_young(rows: Puts, floor: int) -> None:
    """Contents at or above the floor stay, as do each slot's newest 256 numbers; no content changes."""
    fingerprints, kept = filled(rows)
    free = len(fingerprints.pages.headers) - fingerprints.page_count
    make_room(fingerprints, kept, free + 1, floor)
    newest = {slot: max((s, n) for of, s, n in kept if of == slot) for slot, _, _ in kept}
    latest = dict[tuple[int, int, int], int]()
    for (slot, session, number), (_, kafka_time) in kept.items():
        page = slot, session, number // PAGE_NUMBERS
        latest[page] = max(kafka_time, latest.get(page, MIN))
    gone = 0
    for (slot, session, number), (content, kafka_time) in kept.items():
        found = fingerprints.get(slot, session, number)
        is_newest = session == newest[slot][0] and number > newest[slot][1] - 256
        if kafka_time >= floor or is_newest:
            assert found == content
        assert found in {content, UNKNOWN}
        gone += found == UNKNOWN
    if floor > max(latest.values(), default=MAX) and len({*newest}) < len(latest) - 2 * SLOTS:
        assert gone


def test_pages_let_go_are_taken_again() -> None:
    """A market that continues with a rising floor needs no more memory."""
    fingerprints = Fingerprints()
    size = 0
    for number in range(400 * PAGE_NUMBERS):
        if number % PAGE_NUMBERS == 0:
            floor = number - 20 * PAGE_NUMBERS
            fingerprints.make_room(1, floor, np.array([1]), np.array([max(number - 1, 0)]))
        fingerprints.put(0, 1, number, 7, number)
        if number == 100 * PAGE_NUMBERS:
            size = fingerprints.size_bytes
    assert fingerprints.size_bytes == size
    assert fingerprints.page_count < 100
    assert [fingerprints.get(0, 1, number) for number in (0, 395 * PAGE_NUMBERS)] == [UNKNOWN, 7]


def with_full_pages(capacity: int, old: int) -> Fingerprints:
    """Return fingerprints all of whose pages are taken, as many as asked for with time 1, the others with time 9."""
    fingerprints = Fingerprints()
    for page in range(capacity):
        fingerprints.make_room(1, MIN, np.array([1]), np.array([page * PAGE_NUMBERS]))
        fingerprints.put(0, 1, page * PAGE_NUMBERS, 7, 1 if page < old else 9)
    assert fingerprints.free_count == 0
    return fingerprints


@pytest.mark.parametrize(
    ("capacity", "old", "grown"), [(64, 7, 80), (64, 8, 64), (80, 9, 100), (100, 11, 125), (100, 12, 100)]
)
def test_pages_are_added_where_letting_go_frees_few(capacity: int, old: int, grown: int) -> None:
    """By a quarter, where less than an eighth is freed."""
    fingerprints = with_full_pages(capacity, old)
    fingerprints.make_room(1, 5, np.array([1]), np.array([capacity * PAGE_NUMBERS]))
    assert len(fingerprints.pages.headers) == grown
    assert fingerprints.free_count == grown - capacity + old


def test_nothing_is_let_go_while_there_is_room() -> None:
    """Old contents stay as long as enough pages are free."""
    fingerprints = Fingerprints()
    for page in range(60):
        fingerprints.put(0, 1, page * PAGE_NUMBERS, 7, 1)
    for count, pages in ((4, 60), (5, 2)):
        fingerprints.make_room(count, 5, np.array([1]), np.array([59 * PAGE_NUMBERS]))
        assert (fingerprints.page_count, fingerprints.free_count) == (pages, 64 - pages)


def test_a_page_taken_again_holds_nothing_of_before() -> None:
    """Its former numbers are unknown, both for its new slot and for the former one."""
    fingerprints = Fingerprints()
    for number in range(64):
        fingerprints.put(0, 1, number * PAGE_NUMBERS + 3, 5, 1)
    fingerprints.make_room(1, 2, np.array([1, 1]), np.array([63 * PAGE_NUMBERS, 0]))
    fingerprints.put(1, 1, 4, 6, 9)
    assert [fingerprints.get(slot, 1, number) for slot in (0, 1) for number in (3, 4)] == [UNKNOWN, UNKNOWN, UNKNOWN, 6]
    assert fingerprints.get(0, 1, 63 * PAGE_NUMBERS + 3) == 5
    assert fingerprints.page_count == 3


def test_a_million_numbers_cost_8_bytes_each() -> None:
    """At most, if they are contiguous, whatever the steps of growth."""
    fingerprints, count = Fingerprints(), 1_000_000
    for number in range(0, count, PAGE_NUMBERS):
        fingerprints.make_room(1, MIN, np.array([1]), np.array([number]))
        fingerprints.put(0, 1, number, 1 + number, 0)
    assert fingerprints.page_count == -(-count // PAGE_NUMBERS)
    assert fingerprints.size_bytes <= 8 * count


def test_an_unknown_number_has_no_page() -> None:
    """A page is found only for its own slot, session and numbers."""
    fingerprints = Fingerprints()
    fingerprints.put(1, 2, 300, 2**48 - 1, 0)
    page = find_page(fingerprints.pages, 1, 2, 511)
    assert page != NO_PAGE
    assert [read_fingerprint(fingerprints.pages.words, page, number) for number in (300, 301)] == [2**48 - 1, UNKNOWN]
    for where in ((0, 2, 300), (1, 1, 300), (1, 2, 255), (1, 2, 512)):
        assert find_page(fingerprints.pages, *where) == NO_PAGE


@pytest.mark.parametrize(
    ("ranges", "is_unknown"),
    [
        ([], False),
        ([(256, 256)], False),
        ([(256, 258)], False),
        ([(256, 258), (300, 300)], False),
        ([(256, 259)], True),
        ([(301, 301)], True),
        ([(256, 256), (511, 511)], True),
    ],
)
def test_what_a_page_lacks_is_asked_for_once(ranges: list[tuple[int, int]], is_unknown: bool) -> None:  # noqa: FBT001
    """An unknown number of a page may be in the table until the page has been looked up there."""
    fingerprints = Fingerprints()
    for number in (256, 257, 258, 300):
        fingerprints.put(0, 1, number, 9, 0)
    assert fingerprints.has_unknown(0, 1, 1, ranges) is is_unknown
    assert fingerprints.has_unknown(0, 2, 1, ranges) is bool(ranges)
    fingerprints.set_looked_up(0, 1, 1, 5)
    fingerprints.set_looked_up(0, 2, 1, 5)
    assert not fingerprints.has_unknown(0, 1, 1, ranges)
    assert not fingerprints.has_unknown(0, 2, 1, ranges)
    assert [fingerprints.get(0, 1, 256), fingerprints.get(0, 2, 256)] == [9, UNKNOWN]
