"""Days of a market under the rules alone, in both their forms: an open, a rebalance, a weekend."""

import pickle
from collections import Counter
from random import Random

import pytest

from k2.model.sequence_events import EventKind
from k2.model.verdicts import DUPLICATE, STORED
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import FORMS, Columnar, Form
from tests.sequencing.stored_rows import StoredRows

HOUR = 3_600_000_000
BURST = 30


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    """Return each of the forms."""
    made: Form = request.param()
    return made


def numbers_of(form: Form, kind: EventKind) -> Counter[tuple[str, int]]:
    """Return the numbers, with their symbols, in the events of a kind."""
    return Counter(
        (event.symbol, number)
        for event in form.events
        if event.event is kind
        for number in range(event.first_sequence, event.last_sequence + 1)
    )


def test_a_market_open_burst(form: Form) -> None:
    """Many trades of a symbol with one time, out of order, doubled and lost: each is found, and stored once."""
    random, names = Random(7), [f"S{number}" for number in range(20)]
    inner = [(name, number) for name in names for number in range(2, BURST)]
    lost, doubled = {*inner[3::29]}, {*inner[5::31]}
    rows = [Row(number, number // 8, name) for name in names for number in range(1, BURST + 1)]
    sent = [
        (row.sequence + random.uniform(0, 3) + 5 * copy, row)
        for row in rows
        for copy in range(1 + ((row.symbol, row.sequence) in doubled))
        if row.sequence is not None and (row.symbol, row.sequence) not in lost
    ]
    said = form.track([row for _, row in sorted(sent, key=lambda one: one[0])])
    assert Counter(said.verdicts) == {STORED: len(rows) - len(lost), DUPLICATE: len(doubled - lost)}
    assert {*said.sessions} == {1}
    opened, filled = numbers_of(form, EventKind.GAP_OPENED), numbers_of(form, EventKind.GAP_FILLED)
    assert opened - filled == Counter(lost)
    assert opened | filled == opened
    assert said.out_of_order >= filled.total() > 0


def test_a_kafka_rebalance(form: Form) -> None:
    """A partition moves to another worker with its state, and its last poll is read again: copies, and no gap."""
    polls = [[Row(number, number, f"S{number % 3}") for number in range(at, at + 15)] for at in range(0, 60, 15)]
    first = form.track([row for poll in polls[:3] for row in poll])
    if isinstance(form, Columnar):
        table = StoredRows()
        table.add(GroupTracker().track(slice_of([row for poll in polls[:3] for row in poll])).trade_slice)
        state = pickle.loads(pickle.dumps(form.tracker.snapshot()))  # noqa: S301
        form.tracker = GroupTracker(state, read_contents=table.read)
    again = form.track([row for poll in polls[2:] for row in poll])
    assert first.verdicts == [STORED] * 45
    assert again.verdicts == [DUPLICATE] * 15 + [STORED] * 15
    assert ({*again.sessions}, again.out_of_order) == ({1}, 0)
    assert len(numbers_of(form, EventKind.SESSION_STARTED)) == 3


def test_a_weekends_silence(form: Form) -> None:
    """From Friday's close to Sunday's open no number is missing and no session starts; Friday's trades are copies."""
    friday = [Row(number, number) for number in range(1, 21)]
    sunday = [Row(number, number + 57 * HOUR) for number in range(21, 41)]
    said = form.track([*friday, *sunday, *friday[-3:]])
    assert said.verdicts == [STORED] * 40 + [DUPLICATE] * 3
    assert ({*said.sessions}, [event.event for event in form.events]) == ({1}, [EventKind.SESSION_STARTED])


def test_a_new_week_begins_at_1(form: Form) -> None:
    """Friday's numbers are used on Monday for other trades: a session, no duplicate and no gap."""
    friday = [Row(number, number) for number in range(1, 21)]
    monday = [Row(number, number + 60 * HOUR, price=2) for number in range(1, 41)]
    said = form.track([*friday, *monday, *friday[-3:]])
    assert said.verdicts == [STORED] * 60 + [DUPLICATE] * 3
    assert said.sessions == [1] * 20 + [2] * 40 + [1] * 3
    assert [event.event for event in form.events] == [EventKind.SESSION_STARTED] * 2
