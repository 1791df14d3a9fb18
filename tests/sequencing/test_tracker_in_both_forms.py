"""The tasks of a tracker, case by case, for both the specification and the columnar tracker."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from prometheus_client import REGISTRY

from k2.model.sequence_events import EventKind
from k2.model.verdicts import DUPLICATE, STORED
from tests.flows.job_io import message_batch, run_in_memory
from tests.model.trade_slices import Row
from tests.sequencing.forms import FORMS, Columnar, Form, Plain, Said

DAY = 86_400_000_000
HOUR = 3_600_000_000
STARTED, OPENED, FILLED = EventKind.SESSION_STARTED, EventKind.GAP_OPENED, EventKind.GAP_FILLED


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    """Return a new tracker of each form."""
    make: Callable[[], Form] = request.param
    return make()


def test_first_message(form: Form) -> None:
    """It is stored, whatever its number, and starts session 1."""
    assert form.track([Row(41, 5)]) == Said([STORED], [1], [(STARTED, 1, 41, 41)], 0)


def test_in_order(form: Form) -> None:
    """Consecutive numbers cause no event but the start."""
    said = form.track([Row(number, number) for number in range(1, 50)])
    assert said == Said([STORED] * 49, [1] * 49, [(STARTED, 1, 1, 1)], 0)


@pytest.mark.parametrize("missing", [1, 2, 10])
def test_small_gap(form: Form, missing: int) -> None:
    """1 to 10 missing numbers are one gap, from the first to the last of them."""
    form.track([Row(1, 1)])
    assert form.track([Row(2 + missing, 2)]) == Said([STORED], [1], [(OPENED, 1, 2, 1 + missing)], 0)


@pytest.mark.parametrize("missing", [11, 1_000, 10**12])
def test_large_gap(form: Form, missing: int) -> None:
    """More than 10 are one gap as well, and cost one range."""
    form.track([Row(1, 1)])
    assert form.track([Row(2 + missing, 2)]) == Said([STORED], [1], [(OPENED, 1, 2, 1 + missing)], 0)
    assert form.ranges() == [[(1, 1), (2 + missing, 2 + missing)]]


def test_out_of_order(form: Form) -> None:
    """A late number is stored and counted as such, and fills its part of the gap."""
    form.track([Row(1, 1), Row(4, 4)])
    assert form.track([Row(3, 3), Row(2, 2)]) == Said(
        [STORED, STORED], [1, 1], [(FILLED, 1, 3, 3), (FILLED, 1, 2, 2)], 2
    )
    assert form.ranges() == [[(1, 4)]]


def test_duplicate(form: Form) -> None:
    """A copy of the newest and of the oldest is a duplicate, in sequence and after a gap, and causes no event."""
    form.track([Row(1, 1), Row(2, 2), Row(5, 5)])
    said = form.track([Row(5, 5), Row(1, 1), Row(1, 1), Row(2, 2)])
    assert said == Said([DUPLICATE] * 4, [1] * 4, [], 0)


def test_session_reset_at_end_of_day(form: Form) -> None:
    """Numbers from 1 on the next morning are a new session: no gap and no duplicate."""
    form.track([Row(number, 10 * HOUR + number) for number in range(1, 100)])
    said = form.track([Row(number, DAY + 10 * HOUR + number, price=2) for number in range(1, 4)])
    assert said == Said([STORED] * 3, [2] * 3, [(STARTED, 2, 1, 1)], 0)


def test_symbols_isolated(form: Form) -> None:
    """Events of one symbol leave another's numbering unchanged."""
    form.track([Row(1, 1, "A"), Row(7, 1, "B")])
    said = form.track([Row(9, 2, "A"), Row(1, 3, "A", price=2), Row(8, 2, "B"), Row(8, 2, "B")])
    assert said == Said([STORED, STORED, STORED, DUPLICATE], [1, 2, 1, 1], [(OPENED, 1, 2, 8), (STARTED, 2, 1, 1)], 0)


def test_exchanges_isolated(form: Form) -> None:
    """One symbol on two exchanges has two numberings."""
    form.track([Row(1, 1, "A", "x"), Row(7, 1, "A", "y")])
    said = form.track([Row(2, 2, "A", "x"), Row(9, 2, "A", "y"), Row(7, 1, "A", "x")])
    assert said == Said([STORED] * 3, [1, 1, 1], [(OPENED, 1, 8, 8), (OPENED, 1, 3, 6)], 0)
    assert [event.exchange for event in form.events] == ["x", "y", "y", "x"]


@pytest.mark.parametrize("make", [Plain, Columnar, partial(Columnar, 997)], ids=["plain", "columnar", "columnar, cut"])
def test_100_000_messages(make: Callable[[], Form]) -> None:
    """Of 100 symbols, one in 1,000 numbers lost and one in 500 doubled: each is found, and the others are stored."""
    rows = [Row(place // 100 + 1, place, f"S{place % 100}") for place in range(100_000)]
    lost = {place for place in range(100_000) if place % 1_000 == 501}
    kept = [row for place, row in enumerate(rows) if place not in lost]
    doubled = [row for place, row in enumerate(rows) if place % 500 == 7]
    said = make().track([*kept, *doubled])
    assert Counter(said.verdicts) == {STORED: 100_000 - len(lost), DUPLICATE: len(doubled)}
    opened = [event for event in said.events if event[0] is OPENED]
    assert sum(last - first + 1 for _, _, first, last in opened) == len(lost)


def _samples() -> tuple[float | None, ...]:
    """Return the metrics so far: small and large gaps, fills, trades out of order, resets, and open gaps."""
    return tuple(
        REGISTRY.get_sample_value(f"k2_{name}", {"exchange": "metrics", **labels})
        for name, labels in (
            ("sequence_gaps_detected_total", {"size": "small"}),
            ("sequence_gaps_detected_total", {"size": "large"}),
            ("sequence_gaps_filled_total", {}),
            ("sequence_out_of_order_total", {}),
            ("sequence_resets_detected_total", {}),
            ("open_gaps", {}),
        )
    )


def test_metrics_with_names_and_labels() -> None:
    """The flow's metrics match the specification over the same rows, by exchange, and gaps by size."""
    numbers = [1, 2, 13, 25, 4, 4, 30, 28, 27, 29, 1]
    times = [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10]
    prices = [1] * 10 + [2]
    rows = [
        Row(number, time, "S", "metrics", price=price)
        for number, time, price in zip(numbers, times, prices, strict=True)
    ]
    plain = Plain()
    said = plain.track(rows)
    lines = [
        b'{"exchange":"metrics","symbol":"S","sequence":%d,"price":"%d","quantity":"1","timestamp":%d}'
        % (row.sequence or 0, row.price, 1_700_000_000_000_000 + row.timestamp)
        for row in rows
    ]
    before = _samples()
    run_in_memory({"trades:0": [message_batch([(None, line) for line in lines])]})
    opened = [last - first + 1 for kind, _, first, last in said.events if kind is OPENED]
    filled = [first for kind, _, first, _ in said.events if kind is FILLED]
    assert (sorted(opened), len(filled), said.out_of_order, said.sessions[-1]) == ([4, 10, 11], 4, 4, 2)
    counted = [(now or 0) - (then or 0) for now, then in zip(_samples(), before, strict=True)]
    missing = sum(len(ranges) - 1 for ranges in plain.ranges("metrics", "S"))
    assert counted == [2, 1, len(filled), said.out_of_order, 1, missing]
