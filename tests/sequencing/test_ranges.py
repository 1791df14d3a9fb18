"""Trades that stand for ranges of numbers, in both forms of the tracker."""

from collections.abc import Callable, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.content import NON_MARKET_CONTENT
from k2.model.sequence_events import EventKind
from k2.model.verdicts import CONFLICT, DUPLICATE, SKIPPED, STORED
from k2.sequencing.placement import Kind
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import FORMS, Columnar, Form

NAMED: Final = "binance-spot-aggtrade"
"""A venue that names the first number of a range."""
COUNTED: Final = "okx"
"""A venue that names how many numbers there are."""
SECOND: Final = 1_000_000
OPENED, FILLED, STARTED = EventKind.GAP_OPENED, EventKind.GAP_FILLED, EventKind.SESSION_STARTED


def spanning(first: int, last: int, at: int = 0, price: int | None = None) -> Row:
    """Return a trade of a range; by default its price depends on the last number."""
    price = abs(last) + 1 if price is None else price
    return Row(last, at * SECOND, exchange="okx", price=price, first_sequence=first)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    """Return each form of the tracker."""
    make: Callable[[], Form] = FORMS[request.param]
    return make()


CASES: Final[dict[str, tuple[str, list[Row], list[int], list[tuple[EventKind, int, int, int]]]]] = {
    "one range after the other": (
        NAMED,
        [spanning(1, 3, 1), spanning(4, 4, 2), spanning(5, 9, 3)],
        [STORED] * 3,
        [(STARTED, 1, 1, 3)],
    ),
    "a gap between two ranges is filled by one, and by two": (
        NAMED,
        [spanning(1, 3, 1), spanning(10, 12, 2), spanning(6, 9, 1), spanning(4, 4, 1), spanning(5, 5, 1)],
        [STORED] * 5,
        [(STARTED, 1, 1, 3), (OPENED, 1, 4, 9), (FILLED, 1, 6, 9), (FILLED, 1, 4, 4), (FILLED, 1, 5, 5)],
    ),
    "a copy is known by its last number": (
        NAMED,
        [spanning(1, 3, 1), spanning(1, 3, 1), spanning(1, 3, 2)],
        [STORED, DUPLICATE, DUPLICATE],
        [(STARTED, 1, 1, 3)],
    ),
    "a range that overlaps a stored one contradicts it": (
        NAMED,
        [spanning(1, 3, 1), spanning(4, 6, 2), spanning(5, 8, 2)],
        [STORED, STORED, CONFLICT],
        [(STARTED, 1, 1, 3)],
    ),
    "a number within a stored range contradicts it, and is not taken for a copy": (
        NAMED,
        [spanning(1, 9, 1), spanning(10, 10, 2), spanning(5, 5, 1)],
        [STORED, STORED, CONFLICT],
        [(STARTED, 1, 1, 9)],
    ),
    "numbering begins again with a range": (
        NAMED,
        [spanning(1, 9, 1), spanning(10, 11, 2), spanning(1, 4, 60, 77), spanning(5, 6, 61)],
        [STORED] * 4,
        [(STARTED, 1, 1, 9), (STARTED, 2, 1, 4)],
    ),
    "numbering begins again, and the first of its wide ranges is lost": (
        NAMED,
        [spanning(1, 500, 1), spanning(501, 900, 2), spanning(101, 200, 60, 77), spanning(201, 400, 61, 78)],
        [STORED, STORED, CONFLICT, STORED],
        [(STARTED, 1, 1, 500), (STARTED, 2, 201, 400)],
    ),
    "two wide ranges far from each other contradict, which is no succession": (
        NAMED,
        [spanning(1, 500, 1), spanning(501, 900, 2), spanning(101, 200, 60, 77), spanning(301, 500, 61, 78)],
        [STORED, STORED, CONFLICT, CONFLICT],
        [(STARTED, 1, 1, 500)],
    ),
    "a young session extends downwards": (
        NAMED,
        [spanning(10, 12, 2), spanning(4, 7, 1), spanning(8, 9, 1)],
        [STORED] * 3,
        [(STARTED, 1, 10, 12), (OPENED, 1, 8, 9), (FILLED, 1, 8, 9)],
    ),
    "two groups of numbers interleave: 1 and 3, 2 and 4": (
        COUNTED,
        [spanning(0, 0, 1), spanning(2, 3, 2), spanning(3, 4, 2), spanning(5, 6, 3)],
        [STORED] * 4,
        [(STARTED, 1, 0, 0), (OPENED, 1, 1, 1), (FILLED, 1, 1, 1)],
    ),
    "the same groups, the later one first": (
        COUNTED,
        [spanning(0, 0, 1), spanning(3, 4, 2), spanning(2, 3, 2), spanning(5, 6, 3)],
        [STORED] * 4,
        [(STARTED, 1, 0, 0), (OPENED, 1, 1, 2), (FILLED, 1, 1, 2)],
    ),
    "a copy of an interleaved trade": (
        COUNTED,
        [spanning(0, 0, 1), spanning(3, 4, 2), spanning(2, 3, 2), spanning(2, 3, 2), spanning(3, 4, 2)],
        [STORED, STORED, STORED, DUPLICATE, DUPLICATE],
        [(STARTED, 1, 0, 0), (OPENED, 1, 1, 2), (FILLED, 1, 1, 2)],
    ),
    "a count takes no number of a gap far away": (
        COUNTED,
        [spanning(0, 0, 1), spanning(2, 400, 2), spanning(400, 401, 3)],
        [STORED] * 3,
        [(STARTED, 1, 0, 0), (OPENED, 1, 1, 1)],
    ),
    "ranges over several pages of fingerprints": (
        NAMED,
        [spanning(1, 1_000, 1), spanning(1_001, 3_000, 2), spanning(3_500, 4_000, 3), spanning(1_001, 3_000, 2)],
        [STORED, STORED, STORED, DUPLICATE],
        [(STARTED, 1, 1, 1_000), (OPENED, 1, 3_001, 3_499)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_range_takes_its_numbers(form: Form, case: str) -> None:
    """Each case gives the same verdicts and events in both forms."""
    venue, rows, verdicts, events = CASES[case]
    said = form.track(rows, venue)
    assert said.verdicts == verdicts
    assert said.events == events


def test_a_row_says_which_numbers_it_took() -> None:
    """The trade that came later took number 1, below the range of its message, so that its row covers 1 to 4."""
    rows = [spanning(0, 0, 1), spanning(2, 3, 2), spanning(3, 4, 2)]
    given = slice_of(rows, venue=COUNTED)
    tracked = Columnar().tracker.track(given).trade_slice
    assert tracked.batch.columns.first_sequences.tolist() == [0, 2, 1]
    assert given.batch.columns.first_sequences.tolist() == [0, 2, 3]


def test_each_number_of_a_non_market_range_is_one() -> None:
    """As after a start, when no row says which was the last: another one within it is a copy, and raises no doubt."""
    sequence = SymbolSequence()
    sequence.place(4, 1, 77, first=1)
    sequence.place(9, 2, NON_MARKET_CONTENT, first=5)
    assert sequence.place(7, 3, NON_MARKET_CONTENT).kind is Kind.DUPLICATE
    rows = [spanning(1, 4, 1), *(spanning(*one)._replace(verdict=SKIPPED) for one in [(5, 9, 2), (7, 7, 3)])]
    tracked = GroupTracker().track(slice_of(rows, venue=NAMED)).trade_slice
    assert tracked.verdicts.tolist() == [STORED, SKIPPED, SKIPPED]
    assert tracked.sessions.tolist() == [1, 1, 0]
    assert tracked.doubts == ()


@st.composite
def named_ranges(draw: st.DrawFn) -> tuple[list[Row], set[int]]:
    """Generate trades whose ranges part some numbers, without some of them, in any order within a few seconds.

    Returns them, and the numbers of those left out.
    """
    widths = draw(st.lists(st.one_of(st.integers(1, 4), st.integers(200, 600)), min_size=2, max_size=40))
    start = draw(st.integers(-3, 1_000))
    bounds, rows = start, list[Row]()
    for at, width in enumerate(widths):
        rows.append(spanning(bounds, bounds + width - 1, 10 * at))
        bounds += width
    # The first and the last stay, because only between them is anything missing.
    is_left = [False, *(draw(st.booleans()) for _ in rows[2:]), False]
    lost = {
        number
        for row, left in zip(rows, is_left, strict=True)
        if left
        for number in range(row.first_sequence or 0, (row.sequence or 0) + 1)
    }
    kept = [row for row, left in zip(rows, is_left, strict=True) if not left]
    late = draw(st.lists(st.integers(1, max(len(kept) - 1, 1)), max_size=4))
    for place in late:
        if place < len(kept):
            kept.append(kept.pop(place))
    copies = draw(st.lists(st.sampled_from(kept), max_size=5))
    return [*kept, *copies], lost


@given(named_ranges(), st.integers(1, 7))
def test_what_is_missing_are_the_numbers_of_lost_ranges(trades: tuple[list[Row], set[int]], cut: int) -> None:
    """Each trade is stored once; what is missing at the end are the numbers of those that never came.

    The last trade comes first of all late ones or not; the forms agree however the rows are cut into batches.
    """
    rows, lost = trades
    forms = [FORMS["plain"](), Columnar(cut)]
    said = [form.track(rows, NAMED) for form in forms]
    assert said[0] == said[1]
    assert said[0].verdicts.count(STORED) == len({row.sequence for row in rows})
    seen = {number for low, high in forms[0].ranges("okx")[0] for number in range(low, high + 1)}
    assert set(range(min(seen), max(seen) + 1)) - seen == {n for n in lost if min(seen) < n < max(seen)}
    assert forms[0].ranges("okx") == forms[1].ranges("okx")


@st.composite
def bursts(draw: st.DrawFn) -> list[Row]:
    """Generate bursts of trades: the numbers of a burst are dealt to its trades, which come in any order.

    A trade names only its last number and how many it has.
    """
    rows, start = [spanning(0, 0)], 1
    for at, size in enumerate(draw(st.lists(st.integers(1, 12), min_size=1, max_size=12)), 1):
        owners = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
        groups = [[start + place for place in range(size) if owners[place] == owner] for owner in sorted({*owners})]
        trades = [spanning(group[-1] - len(group) + 1, group[-1], at) for group in groups]
        rows += draw(st.permutations(trades))
        start += size
    return rows


def covered(form: Columnar, rows: Sequence[Row]) -> set[int]:
    """Track rows; return the numbers that the stored rows cover by their first and last numbers."""
    tracked = form.tracker.track(slice_of(rows, venue=COUNTED)).trade_slice
    columns = tracked.batch.columns
    assert tracked.verdicts.tolist() == [STORED] * len(rows)
    pairs = zip(columns.first_sequences.tolist(), columns.sequences.tolist(), strict=True)
    return {number for first, last in pairs for number in range(first, last + 1)}


@given(bursts(), st.integers(1, 7))
def test_interleaved_ranges_leave_nothing_missing(rows: list[Row], cut: int) -> None:
    """The counts of a burst add up to its numbers: none is missing after it, and each trade is stored once.

    The first and last numbers of the stored rows cover what the tracker has seen.
    """
    plain, columnar = FORMS["plain"](), Columnar(cut)
    said = plain.track(rows, COUNTED)
    assert said == columnar.track(rows, COUNTED)
    assert said.verdicts == [STORED] * len(rows)
    highest = max(row.sequence or 0 for row in rows)
    assert plain.ranges("okx") == columnar.ranges("okx") == [[(0, highest)]]
    assert covered(Columnar(), rows) == set(range(highest + 1))
