"""The hard cases of numbering as rows of a table, for both the specification and the columnar tracker."""

import pickle
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from k2.dedup.deduplicator import GroupDeduplicator
from k2.model.sequence_events import EventKind
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.placement import Event
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import FORMS, Columnar, Form

MIN, MAX = -(2**63), 2**63 - 1
DAY: Final = 86_400_000_000
STARTED, OPENED, FILLED = EventKind.SESSION_STARTED, EventKind.GAP_OPENED, EventKind.GAP_FILLED
OTHER: Final = "ETH-USD"


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    """Return a new tracker of each form."""
    make: Callable[[], Form] = request.param
    return make()


class Case(NamedTuple):
    """What was seen, what arrives, and the verdicts of the rules."""

    saw: tuple[int, int, int] | None
    """First and last number seen, and the latest time."""
    rows: list[Row]
    verdicts: list[int]
    sessions: list[int]
    events: list[Event]


def upward(first: int, last: int, at: int, symbol: str = "BTC-USD", price: int = 1) -> list[Row]:
    """Return consecutive numbers, one each microsecond from `at` on."""
    return [Row(number, at + place, symbol, price=price) for place, number in enumerate(range(first, last + 1))]


OLD: Final = upward(1, 1_000, 1)
"""A session of 1,000 numbers, the last at 1,000 us."""


CASES: Final = {
    "a restart to 1 straight after 1,000,000 with no pause": Case(
        (1, 1_000_000, 100),
        upward(1, 3, 101, price=2),
        [STORED] * 3,
        [2] * 3,
        [(STARTED, 2, 1, 1)],
    ),
    "a restart whose first 40 numbers were lost": Case(
        (1, 1_000_000, 100),
        [*upward(41, 43, 101, price=2), Row(41, 101, price=2)],
        [CONFLICT, STORED, STORED, STORED],
        [1, 2, 2, 2],
        [(STARTED, 2, 42, 42)],
    ),
    "a lost first number of a restart that comes late after all": Case(
        (1, 1_000_000, 100),
        [*upward(41, 43, 101, price=2), Row(39, 101, price=2)],
        [CONFLICT, STORED, STORED, STORED],
        [1, 2, 2, 2],
        [(STARTED, 2, 42, 42), (OPENED, 2, 40, 41)],
    ),
    "a straggler of the old session after the restart": Case(
        (1, 1_000_000, 100),
        [*upward(1, 2, 101, price=2), Row(1_000_001, 99), Row(3, 103, price=2)],
        [STORED] * 4,
        [2, 2, 1, 2],
        [(STARTED, 2, 1, 1)],
    ),
    "a straggler of the old session that leaves a hole": Case(
        (1, 1_000_000, 100),
        [*upward(1, 2, 101, price=2), Row(1_000_003, 99), Row(1_000_001, 99)],
        [STORED] * 4,
        [2, 2, 1, 1],
        [(STARTED, 2, 1, 1), (OPENED, 1, 1_000_001, 1_000_002), (FILLED, 1, 1_000_001, 1_000_001)],
    ),
    "a straggler of the old session later than all that was seen of it": Case(
        (1, 1_000_000, 100),
        [*upward(1, 2, 110, price=2), Row(1_000_002, 106), Row(1_000_001, 105), Row(1_000_002, 106)],
        [STORED, STORED, STORED, STORED, DUPLICATE],
        [2, 2, 1, 1, 1],
        [(STARTED, 2, 1, 1), (OPENED, 1, 1_000_001, 1_000_001), (FILLED, 1, 1_000_001, 1_000_001)],
    ),
    "copies from before the restart": Case(
        None,
        [*OLD, *upward(1, 2, 2_000, price=2), Row(1_000, 1_000), Row(2, 2), *upward(1, 20, 5_000)],
        [*[STORED] * 1_002, DUPLICATE, DUPLICATE, DUPLICATE, DUPLICATE, CONFLICT, *[DUPLICATE] * 17],
        [*[1] * 1_000, 2, 2, *[1] * 22],
        [(STARTED, 1, 1, 1), (STARTED, 2, 1, 1)],
    ),
    "a restart after 20 trades": Case(
        (1, 1_000_000, 100),
        [*upward(1, 20, 101, price=2), *upward(1, 2, 121, price=3)],
        [STORED] * 22,
        [2] * 20 + [3] * 2,
        [(STARTED, 2, 1, 1), (STARTED, 3, 1, 1)],
    ),
    "a session of another symbol untouched": Case(
        (1, 1_000_000, 100),
        [Row(7, 50, OTHER), *upward(1, 2, 101, price=2), Row(8, 102, OTHER), Row(7, 50, OTHER)],
        [STORED, STORED, STORED, STORED, DUPLICATE],
        [1, 2, 2, 1, 1],
        [(STARTED, 1, 7, 7), (STARTED, 2, 1, 1)],
    ),
    "a copy 3 days later": Case(
        None,
        [*OLD, Row(1_001, 3 * DAY), Row(1_000, 1_000), Row(999, 3 * DAY), Row(1_001, 6 * DAY)],
        [*[STORED] * 1_001, *[DUPLICATE] * 3],
        [1] * 1_004,
        [(STARTED, 1, 1, 1)],
    ),
    "two explicit ids under one number": Case(
        None,
        [Row(1, 1, trade_id="a"), Row(2, 2, trade_id="b"), Row(2, 2, trade_id="c"), Row(2, 9, trade_id="b")],
        [STORED, STORED, CONFLICT, DUPLICATE],
        [1] * 4,
        [(STARTED, 1, 1, 1)],
    ),
    "an id that repeats the number is no other content": Case(
        None,
        [Row(1, 1), Row(1, 2, trade_id="1"), Row(-1, 1, OTHER, trade_id="-1"), Row(-1, 2, OTHER)],
        [STORED, DUPLICATE, STORED, DUPLICATE],
        [1] * 4,
        [(STARTED, 1, 1, 1), (STARTED, 1, -1, -1)],
    ),
    "a misdated trade does not hide a restart": Case(
        None,
        [
            *(Row(number, number, kafka_timestamp=number) for number in range(1, 1_001)),
            Row(1_001, DAY, kafka_timestamp=1_001),
            *(Row(number, 1_001 + number, kafka_timestamp=1_001 + number, price=2) for number in (1, 2)),
        ],
        [STORED] * 1_003,
        [*[1] * 1_001, 2, 2],
        [(STARTED, 1, 1, 1), (STARTED, 2, 1, 1)],
    ),
    "a weekend's silence": Case((1, 10, 100), [Row(11, 100 + 2 * DAY)], [STORED], [1], []),
    "a batch in descending order": Case(
        (1, 1, 0),
        [Row(number, number) for number in range(6, 1, -1)],
        [STORED] * 5,
        [1] * 5,
        [(OPENED, 1, 2, 5), *((FILLED, 1, number, number) for number in (5, 4, 3, 2))],
    ),
    "a batch in descending order that is the first": Case(
        None,
        [Row(number, number) for number in range(6, 0, -1)],
        [STORED] * 6,
        [1] * 6,
        [(STARTED, 1, 6, 6)],
    ),
    "negative numbers": Case(
        (-5, -3, 10),
        [Row(-2, 11), Row(1, 12), Row(0, 12), Row(-5, 9), Row(-7, 10)],
        [STORED, STORED, STORED, DUPLICATE, STORED],
        [1] * 5,
        [(OPENED, 1, -1, 0), (FILLED, 1, 0, 0), (OPENED, 1, -6, -6)],
    ),
    "the first and the last number of 64 bits": Case(
        None,
        [Row(MIN, 1), Row(MIN + 1, 2), Row(MAX, 3), Row(MAX, 3), Row(0, 3), Row(MIN, 1)],
        [STORED, STORED, STORED, DUPLICATE, STORED, DUPLICATE],
        [1] * 6,
        [(STARTED, 1, MIN, MIN), (OPENED, 1, MIN + 2, -1), (OPENED, 1, 0, MAX - 1), (FILLED, 1, 0, 0)],
    ),
    "the least number right after the largest": Case(
        (1, MAX, 5), [Row(MIN, 6), Row(MIN + 1, 6)], [STORED, STORED], [2, 2], [(STARTED, 2, MIN, MIN)]
    ),
    "the first and the last time of 64 bits": Case(
        None,
        [Row(1, MIN), Row(2, MAX), Row(1, MIN), Row(3, MIN)],
        [STORED, STORED, DUPLICATE, STORED],
        [1] * 4,
        [(STARTED, 1, 1, 1)],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hard_cases(form: Form, case: Case) -> None:
    """Each trade gets its verdict and session, and the events are those of the rules."""
    if case.saw is not None:
        form.saw(*case.saw)
    said = form.track(case.rows)
    assert said.verdicts == case.verdicts
    assert said.sessions == case.sessions
    assert said.events == case.events


@pytest.mark.parametrize("make", [FORMS["plain"], FORMS["columnar"]], ids=["plain", "columnar"])
def test_a_gap_of_5_000_000_filled_from_both_ends_and_the_middle(make: Callable[[], Form]) -> None:
    """Memory stays small while it fills, whatever arrives, and exactly the numbers not sent are missing."""
    form = make()
    form.saw(1, 1, 0)
    form.track([Row(5_000_002, 1)])
    low, high = range(2, 2_002), range(5_000_001, 4_998_001, -1)
    up, down = range(2_500_000, 2_501_000), range(2_499_999, 2_498_999, -1)
    middle = [number for both in zip(up, down, strict=True) for number in both]
    for numbers in (low, high, middle):
        assert {*form.track([Row(number, 1) for number in numbers]).verdicts} == {STORED}
    assert form.ranges() == [[(1, 2_001), (2_499_000, 2_500_999), (4_998_002, 5_000_002)]]


def test_the_state_of_a_gap_of_5_000_000_is_small() -> None:
    """A snapshot of a symbol with such a gap, thousands of its numbers filled, is below 3 kB."""
    form = Columnar()
    form.track([Row(1, 0), Row(5_000_002, 1), *(Row(number, 1) for number in range(5_000_001, 4_997_001, -1))])
    assert len(pickle.dumps(form.tracker.snapshot())) < 3_000


def test_a_gap_closes_when_all_of_it_came(form: Form) -> None:
    """Filled from both ends and the middle, down to the last number: no part is left open."""
    form.saw(1, 1, 0)
    form.track([Row(302, 1)])
    thirds = zip(range(2, 102), range(301, 201, -1), range(102, 202), strict=True)
    form.track([Row(number, 1) for three in thirds for number in three])
    assert form.ranges() == [[(1, 302)]]


def test_two_identical_trades_without_ids(form: Form) -> None:
    """Both are stored, by the tracker and by the window, because both can be real."""
    rows = [Row(None, 5), Row(None, 5)]
    assert form.track(rows).verdicts == [STORED, STORED]
    piece = GroupDeduplicator(DAY).deduplicate(GroupTracker().track(slice_of(rows)).trade_slice)
    assert piece.verdicts.tolist() == [STORED, STORED]


@pytest.mark.parametrize("venue", ["kucoin", "bybit", "k2-monotonic", "k2-identity-only"])
def test_a_hole_where_holes_mean_nothing(form: Form, venue: str) -> None:
    """Nothing is missing on a monotonic venue, nor if ids have no order; a copy is recognised by its id."""
    said = form.track([Row(1, 1), Row(9, 2), Row(9, 2), Row(3, 3)], venue)
    assert (said.verdicts, said.sessions, said.events, form.events) == ([STORED] * 4, [0] * 4, [], [])
    rows = [Row(1, 1, trade_id="1"), Row(9, 2, trade_id="9"), Row(9, 2, trade_id="9")]
    piece = GroupDeduplicator(DAY).deduplicate(slice_of(rows, venue=venue))
    assert piece.verdicts.tolist() == [STORED, STORED, DUPLICATE]


@pytest.mark.parametrize("back", [0, 1, 200, 255, 256, 800])
def test_the_same_number_with_another_price(form: Form, back: int) -> None:
    """A correction is a conflict, whatever its time and age; the same content is a copy."""
    form.track(upward(1, 1_000, 1))
    number = 1_000 - back
    said = form.track([Row(number, number, price=2), Row(number, number), Row(number, 9_000, price=2)])
    assert said == ([CONFLICT, DUPLICATE, CONFLICT], [1, 1, 1], [], 0)
    assert form.track([Row(number, 9_000)]).verdicts == [DUPLICATE]
