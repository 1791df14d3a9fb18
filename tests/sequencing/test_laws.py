"""Laws of the rules for any stream, each with a small table of examples."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.dedup.deduplicator import GroupDeduplicator
from k2.model.batch import TradeSlice
from k2.model.key_groups import group_of
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.verdicts import DUPLICATE, STORED
from k2.sequencing.tracker import GroupTracker
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.forms import FORMS, Columnar, Form, Plain

WINDOW: Final = 1_000
Judged = tuple[dict[int, tuple[int, int]], list[SequenceEvent]]
"""Verdict and session by offset, and the events by offset."""


def judged(rows: Sequence[Row], cuts: Sequence[int], groups: int, workers: int) -> Judged:
    """Judge rows of one partition, cut into slices, which are divided among key groups and workers."""
    states = [(GroupTracker(), GroupDeduplicator(WINDOW)) for _ in range(groups)]
    found, events = dict[int, tuple[int, int]](), list[SequenceEvent]()
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        whole = slice_of(rows[start:end], first_offset=start)
        places = [group_of(row.exchange, row.symbol) % groups for row in rows[start:end]]
        for group in sorted(range(groups), key=lambda group: group % workers):
            chosen = np.flatnonzero(np.array(places, dtype=np.int64) == group).astype(np.int32)
            tracker, window = states[group]
            tracked = tracker.track(part_of(whole, chosen))
            piece = window.deduplicate(tracked.trade_slice)
            events += tracked.events
            for row, verdict, session in zip(piece.rows, piece.verdicts, piece.sessions, strict=True):
                found[piece.batch.offset(int(row))] = int(verdict), int(session)
    return found, sorted(events, key=lambda event: event.offset)


def part_of(whole: TradeSlice, rows: Any) -> TradeSlice:
    """Return some rows of a slice, as a key group gets them."""
    return TradeSlice(whole.batch, 0, rows, np.zeros(len(rows), np.uint8), np.zeros(len(rows), np.int32))


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Generate rows of a few symbols, with numbers or ids, so that gaps, copies, corrections and restarts mix."""
    trade = st.tuples(
        st.sampled_from("ABCDEFGH"), st.integers(0, 9), st.integers(0, 12), st.booleans(), st.integers(1, 2)
    )
    return [
        Row(number, at, symbol, price=price)
        if numbered
        else Row(None, at, symbol, trade_id=str(number), kafka_timestamp=at, price=price)
        for symbol, number, at, numbered, price in draw(st.lists(trade, max_size=50))
    ]


EXAMPLES: Final = {
    "nothing": [],
    "one": [Row(1, 1, "A")],
    "a gap filled in the next slice": [Row(1, 1, "A"), Row(4, 2, "A"), Row(1, 1, "B"), Row(3, 2, "A"), Row(2, 2, "A")],
    "a restart between two slices": [
        Row(8, 1, "A"),
        Row(9, 2, "A"),
        Row(8, 3, "A", price=2),
        Row(9, 2, "A"),
        Row(9, 4, "A", price=2),
    ],
    "two corrections in succession": [
        *(Row(number, number, "A") for number in range(1, 5)),
        *(Row(number, 5 + number, "A", price=2) for number in (2, 3, 4, 5)),
    ],
    "copies by number and by id": [
        Row(1, 1, "A"),
        Row(None, 1, "B", trade_id="1"),
        Row(1, 1, "A"),
        Row(None, 1, "B", trade_id="1"),
        Row(None, 1, "C", trade_id="1"),
    ],
}


@given(streams(), st.lists(st.integers(0, 50), max_size=5), st.integers(1, 16), st.integers(1, 4))
def test_neither_cuts_nor_groups_nor_workers_change_a_verdict(
    rows: list[Row], cuts: list[int], groups: int, workers: int
) -> None:
    """However a stream is cut and divided, verdicts, sessions and events are those of one group and one slice."""
    assert judged(rows, cuts, groups, workers) == judged(rows, [], 1, 1)


@pytest.mark.parametrize("groups", [2, 16])
@pytest.mark.parametrize("rows", EXAMPLES.values(), ids=EXAMPLES)
def test_examples_of_cuts_and_groups(rows: list[Row], groups: int) -> None:
    """Row by row and in one slice, in few groups and in many: the same as in one."""
    expected = judged(rows, [], 1, 1)
    for cuts in ([], range(len(rows))):
        assert judged(rows, list(cuts), groups, 3) == expected


def holds_each_once(form: Form, numbers: Sequence[int]) -> None:
    """Check that one row of each number is stored, and that the opened numbers are the missing ones."""
    said = form.track([Row(number, 0) for number in numbers])
    stored = Counter(number for number, verdict in zip(numbers, said.verdicts, strict=True) if verdict == STORED)
    assert stored == Counter({*numbers})
    missing = Counter[int]()
    for kind, _, first, last in said.events:
        sign = {EventKind.GAP_OPENED: 1, EventKind.GAP_FILLED: -1, EventKind.SESSION_STARTED: 0}[kind]
        missing.update(dict.fromkeys(range(first, last + 1), sign))
    assert +missing == Counter({*range(min(numbers), max(numbers))} - {*numbers})


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=30))
def test_no_order_loses_or_invents_a_trade(make: Any, numbers: list[int]) -> None:
    """With equal times, each number is stored once, whatever the order and the number of copies."""
    holds_each_once(make(), numbers)


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "numbers",
    [[1], [1, 1], [1, 2, 3], [3, 2, 1], [1, 3, 2], [2, 4, 1, 5, 3], [1, 9, 1, 9], [5, 1, 9, 3, 7, 5], [0, -3, 3, 0]],
    ids=str,
)
def test_examples_of_orders(make: Any, numbers: list[int]) -> None:
    """Ascending, descending, from the middle, doubled, with holes."""
    holds_each_once(make(), numbers)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=25), st.integers())
def test_no_order_of_ids_loses_or_invents_a_trade(trades: list[tuple[int, int]], seed: int) -> None:
    """Within the window, one row of each id is stored, whichever copy arrives first."""
    Random(seed).shuffle(trades)
    rows = [Row(None, 0, trade_id=str(number), kafka_timestamp=at) for number, at in trades]
    piece = GroupDeduplicator(WINDOW).deduplicate(slice_of(rows))
    stored = [row.trade_id for row, verdict in zip(rows, piece.verdicts, strict=True) if verdict == STORED]
    assert sorted(map(str, stored)) == sorted({str(number) for number, _ in trades})


@pytest.mark.parametrize(
    ("ids", "verdicts"),
    [
        (["a"], [STORED]),
        (["a", "a"], [STORED, DUPLICATE]),
        (["b", "a", "b"], [STORED, STORED, DUPLICATE]),
        ([None, None], [STORED, STORED]),
        (["", None, ""], [STORED, STORED, DUPLICATE]),
    ],
    ids=str,
)
def test_examples_of_ids(ids: list[str | None], verdicts: list[int]) -> None:
    """The first of an id is stored; without an id nothing is dropped."""
    rows = [Row(None, 0, trade_id=trade_id) for trade_id in ids]
    assert GroupDeduplicator(WINDOW).deduplicate(slice_of(rows)).verdicts.tolist() == verdicts


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 2)), max_size=40))
def test_both_forms_know_the_same_numbers(trades: list[tuple[int, int, int]]) -> None:
    """After any stream, the ranges of every session are the same, and none touches the next."""
    rows = [Row(number, at, price=price) for number, at, price in trades]
    plain, columnar = Plain(), Columnar()
    assert plain.track(rows) == columnar.track(rows)
    if rows:
        assert plain.ranges() == columnar.ranges()
        assert all(low[1] + 1 < high[0] for ranges in plain.ranges() for low, high in pairwise(ranges))
