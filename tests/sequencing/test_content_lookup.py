"""Lookups of contents in the table: when, for which numbers, and how few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.dedup.window import CONFIRMATIONS, WINDOW_US_MAX, WINDOWS_HELD
from k2.model.batch import NULL_TIME
from k2.model.content import UNKNOWN
from k2.model.state_source import SessionKey
from k2.sequencing.content_lookup import (
    PAGES_AHEAD_MAX,
    PAGES_AHEAD_MIN,
    ContentLookup,
    GroupClock,
    SliceSymbol,
    SlotContents,
)
from k2.sequencing.fingerprints import PAGE_NUMBERS, Fingerprints
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.session import Session
from tests.sequencing.stored_rows import StoredRow, StoredRows

WINDOW = 1_000
COUNT = 100 * PAGE_NUMBERS
NOW = 50_000


def advanced(*times: list[int]) -> int:
    """Return the time reached after slices with some Kafka times."""
    reach = GroupClock(WINDOW)
    for some in times:
        reach.advance(np.array(some, dtype=np.int64))
    return reach.reached


@pytest.mark.parametrize(
    ("times", "reached"),
    [
        ([[]], 0),
        ([[NULL_TIME]], 0),
        ([[NOW]], NOW),
        ([[NOW], [NOW + WINDOW]], NOW + WINDOW),
        ([[NOW], [NOW - 9]], NOW),
        ([[NOW], [NULL_TIME, NOW + 1]], NOW + 1),
        ([[NOW], [2**60]], NOW),
        ([[NOW], [NOW + WINDOW + 1]], NOW),
        ([[NOW], [NOW + WINDOW + 1] * (CONFIRMATIONS - 1)], NOW),
        ([[NOW], [NOW + WINDOW + 1] * CONFIRMATIONS], NOW + WINDOW + 1),
        ([[NOW], *[[NOW + 9_000 + place] for place in range(CONFIRMATIONS)]], NOW + 9_000 + CONFIRMATIONS - 1),
        ([[NOW], *[[NOW + 9_000], [NOW]] * CONFIRMATIONS], NOW),
        ([[NOW], [NOW + 9_000] * CONFIRMATIONS + [NOW + 1]], NOW + 1),
        ([[NOW], [NOW + 1], [NOW + 9_000] * (CONFIRMATIONS - 1)], NOW + 1),
        ([[NOW], [NOW + 9_000] * (CONFIRMATIONS - 1), [NULL_TIME], [NOW + 9_000]], NOW + 9_000),
        ([[WINDOW_US_MAX]], 0),
        ([[WINDOW_US_MAX - 1]], WINDOW_US_MAX - 1),
    ],
)
def test_one_wrong_time_moves_nothing(times: list[list[int]], reached: int) -> None:
    """A time more than a window ahead moves the clock only if a hundred follow in succession; it never moves back."""
    assert advanced(*times) == reached


@given(st.lists(st.lists(st.integers(1, 3_000), max_size=5), max_size=20))
def test_the_floor_is_two_windows_behind_and_only_rises(times: list[list[int]]) -> None:
    """Contents are held for two windows."""
    reach, floor = GroupClock(WINDOW), -WINDOWS_HELD * WINDOW
    for some in times:
        reach.advance(np.array(some, dtype=np.int64))
        assert reach.floor == reach.reached - WINDOWS_HELD * WINDOW >= floor
        floor = reach.floor


class Resumed:
    """A key group that starts with symbols whose numbers are all in the table, each at its number's time."""

    def __init__(self, symbols: int = 1, *ranges: tuple[int, int]) -> None:
        self.table, self.fingerprints = StoredRows(), Fingerprints()
        self.lookup = ContentLookup(self.fingerprints, self.table.read)
        self.sequences = list[SymbolSequence]()
        ranges = ranges or ((0, COUNT - 1),)
        for slot in range(symbols):
            numbers = [number for first, last in ranges for number in range(first, last + 1)]
            key = SessionKey("a", f"S{slot}", 1)
            self.table.rows[key] = {number: StoredRow(content(slot, number), number, number) for number in numbers}
            session = Session(IntervalSet(*zip(*ranges, strict=True)), min(numbers), max(numbers))
            self.sequences.append(SymbolSequence(SlotContents(self.fingerprints, slot), [session]))

    def need(self, *numbers: int, slots: tuple[int, ...] = (0,), floor: int = 0) -> bool:
        """Request some numbers of some slots as the tracker does; return whether the table was read."""
        if not any(self.lookup.lacks(slot, self.sequences[slot], number) for slot in slots for number in numbers):
            return False
        array = np.unique(np.array(numbers, dtype=np.int64))
        pages = self.lookup.plan(SliceSymbol(slot, "a", f"S{slot}", self.sequences[slot], array) for slot in slots)
        highest = np.array([one.sessions[-1].numbers.highest for one in self.sequences])
        self.fingerprints.make_room(pages, floor, np.ones(len(highest), dtype=np.int64), highest)
        self.lookup.read(floor, NOW)
        return True

    def begin_sessions(self, count: int, *ranges: tuple[int, int]) -> None:
        """Begin some sessions of the first symbol, which the table does not have."""
        for _ in range(count):
            self.sequences[0].sessions.append(Session(IntervalSet(*zip(*ranges, strict=True)), NOW, NOW))

    def asked(self, lookup: int = -1) -> list[tuple[int, int]]:
        """Return the pages that a read requested."""
        return [(one.first // PAGE_NUMBERS, one.last // PAGE_NUMBERS) for one in self.table.lookups[lookup]]


def content(slot: int, number: int) -> int:
    """Return a content that is a function of slot and number."""
    return 100 + 10 * abs(number) + slot


def test_a_range_is_read_ahead_and_then_known() -> None:
    """A read includes the pages after those needed, so that a block sent again costs few reads."""
    group = Resumed()
    assert group.need(1_000)
    assert group.asked() == [(3, 3 + PAGES_AHEAD_MIN)]
    assert all(not group.need(number) for number in range(1_001, (4 + PAGES_AHEAD_MIN) * PAGE_NUMBERS, 100))
    assert [group.fingerprints.get(0, 1, number) for number in (1_000, 2_000)] == [content(0, 1_000), content(0, 2_000)]


def test_each_read_of_a_session_goes_farther() -> None:
    """A block of 25,000 numbers sent again one by one costs three reads."""
    group = Resumed()
    reads = sum(group.need(number) for number in range(COUNT))
    assert reads == len(group.table.lookups) == 3
    first, second, third = (group.asked(place)[0] for place in range(3))
    assert first == (0, PAGES_AHEAD_MIN)
    assert second == (first[1] + 1, first[1] + 1 + 2 * PAGES_AHEAD_MIN)
    assert third == (second[1] + 1, COUNT // PAGE_NUMBERS - 1)
    assert PAGES_AHEAD_MAX > PAGES_AHEAD_MIN


def test_near_pages_are_one_range_and_far_ones_two() -> None:
    """Pages in between are read if they are few; ranges of one read do not overlap."""
    group = Resumed()
    pages = (2, 5, 9, 20, 60)
    assert group.need(*(page * PAGE_NUMBERS for page in pages))
    assert group.asked() == [(2, 19), (20, 36), (60, 76)]


def test_room_is_asked_for_all_that_is_read_and_the_row_itself() -> None:
    """The pages of each range, and one for the number that is placed."""
    group = Resumed()
    numbers = np.array([page * PAGE_NUMBERS for page in (2, 20, 60)], dtype=np.int64)
    assert group.lookup.plan([SliceSymbol(0, "a", "S0", group.sequences[0], numbers)]) == 1 + 3 * (1 + PAGES_AHEAD_MIN)


def test_each_session_goes_farther_by_its_own_reads() -> None:
    """What one symbol's block took says nothing of another's."""
    group = Resumed(2)
    for slot in (0, 1):
        assert group.need(1_000, slots=(slot,))
        assert group.asked() == [(3, 3 + PAGES_AHEAD_MIN)]


def test_one_read_serves_all_symbols() -> None:
    """Numbers of many symbols are looked up at once, each with its own content."""
    group = Resumed(20)
    slots = tuple(range(20))
    assert group.need(1_000, slots=slots)
    assert not group.need(1_000, slots=slots)
    assert len(group.table.lookups) == 1
    assert [group.fingerprints.get(slot, 1, 1_000) for slot in slots] == [content(slot, 1_000) for slot in slots]


def test_numbers_never_seen_are_not_looked_up() -> None:
    """A number above the highest, below the lowest, or in a gap of the newest session has no content."""
    group = Resumed(1, (256, 300), (400, 500))
    assert not any(group.need(number) for number in (255, 301, 399, 501, -1, 10**9))
    assert group.need(300)


def test_a_read_asks_for_what_the_newest_session_has() -> None:
    """Numbers in its gaps are skipped, although others of their pages are stored."""
    group = Resumed(1, (0, 300), (25_000, 26_000))
    assert group.need(5, 24_999)
    assert group.asked() == [(0, PAGES_AHEAD_MIN)]


def test_a_page_of_an_old_session_is_looked_up_for_any_of_its_numbers() -> None:
    """Also for one in a gap, so that the rows after it need no read; for none of a page that the session lacks."""
    group = Resumed(1, (0, 300), (400, 500), (99 * PAGE_NUMBERS, COUNT))
    group.begin_sessions(1, (0, 0))
    assert not group.need(50 * PAGE_NUMBERS)
    assert group.need(350)
    assert group.asked() == [(1, 1 + PAGES_AHEAD_MIN)]
    assert not group.need(400)
    assert group.fingerprints.get(0, 1, 400) == content(0, 400)


def test_no_more_sessions_are_looked_up_than_are_compared() -> None:
    """The newest 64 of them."""
    group = Resumed()
    group.begin_sessions(69, (0, 10))
    assert group.need(5)
    assert {one.key.session for one in group.table.lookups[0]} == {*range(7, 71)}


def test_pages_below_the_young_ones_are_not_read_again() -> None:
    """A read shows from which number on contents are recent enough: none below it is requested."""
    for lowest in (50 * PAGE_NUMBERS, 51 * PAGE_NUMBERS - 1):
        group = Resumed()
        assert group.need(60 * PAGE_NUMBERS, floor=lowest)
        assert not any(group.need(number, floor=lowest) for number in range(0, 50 * PAGE_NUMBERS, 100))
        assert group.need(lowest, floor=lowest)
        assert group.fingerprints.get(0, 1, lowest) == content(0, lowest)


def test_a_session_without_young_rows_is_read_once() -> None:
    """Contents that are all too old stay unknown, except for those of the newest 256 numbers."""
    group = Resumed(1, (0, COUNT + 99))
    assert group.need(1_000, floor=NOW)
    assert not any(group.need(number, floor=NOW) for number in range(0, COUNT - 2 * PAGE_NUMBERS, 100))
    assert group.fingerprints.get(0, 1, 1_000) == UNKNOWN
    assert group.need(COUNT - 100, floor=NOW)
    for number in range(COUNT + 100 - PAGE_NUMBERS, COUNT + 100):
        assert group.fingerprints.get(0, 1, number) == content(0, number)


def test_what_the_process_stored_itself_stays() -> None:
    """A read adds what is unknown and changes nothing else."""
    group = Resumed()
    group.fingerprints.put(0, 1, 1_000, 7, NOW)
    assert not group.need(1_000)
    assert group.need(1_001)
    assert [group.fingerprints.get(0, 1, number) for number in (1_000, 1_001)] == [7, content(0, 1_001)]


def test_without_a_table_nothing_is_looked_up() -> None:
    """Unknown contents stay unknown."""
    group = Resumed()
    assert not ContentLookup(group.fingerprints, None).lacks(0, group.sequences[0], 1_000)


@pytest.mark.parametrize(("price", "is_known"), [(5, True), (6, False)])
def test_contents_of_a_slot_are_its_own(price: int, is_known: bool) -> None:  # noqa: FBT001
    """They are stored with the Kafka time of the message, by session and number."""
    fingerprints = Fingerprints()
    contents = SlotContents(fingerprints, 2)
    contents.kafka_time = 99
    contents.put(3, 7, 5)
    assert (contents.get(3, 7) == price) is is_known
    assert [contents.get(2, 7), contents.get(3, 8), SlotContents(fingerprints, 1).get(3, 7)] == [UNKNOWN] * 3
    assert fingerprints.pages.headers[:, 4].max() == 99
