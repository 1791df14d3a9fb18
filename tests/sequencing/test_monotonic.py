"""Disorder if holes mean nothing: the highest number of each symbol, and the numbers below it."""

import pickle
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.verdicts import HEAD
from k2.sequencing.monotonic import GroupDisorder
from tests.model.trade_slices import Row, slice_of

MIN, MAX = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    ("numbers", "disorder"),
    [
        ([], 0),
        ([5], 0),
        ([1, 9, 9, 10], 0),
        ([3, 2, 1], 2),
        ([1, 5, 3, 4, 6], 2),
        ([None, 1, None, 0], 1),
        ([MIN, MIN, MAX, MIN, MAX], 1),
    ],
)
def test_what_is_below_the_highest_is_out_of_order(numbers: list[int | None], disorder: int) -> None:
    """Holes and copies of the highest are not."""
    piece = slice_of([Row(number) for number in numbers], venue="kucoin")
    assert GroupDisorder().out_of_order(piece).total() == disorder


@pytest.mark.parametrize("venue", ["k2", "coinbase", "bybit", "k2-identity-only"])
def test_other_venues_are_not_looked_at(venue: str) -> None:
    """If holes mean loss the tracker counts disorder, and an id alone has no order."""
    assert not GroupDisorder().out_of_order(slice_of([Row(3), Row(1)], venue=venue))


def test_a_head_number_is_no_trade_that_others_come_after() -> None:
    """It names a trade, which may come after it."""
    rows = [Row(1), Row(3, verdict=HEAD), Row(2), Row(3), Row(1, verdict=HEAD)]
    state = GroupDisorder()
    assert not state.out_of_order(slice_of(rows, venue="kucoin"))
    assert not state.out_of_order(slice_of([Row(9, verdict=HEAD)], venue="kucoin"))
    assert not state.out_of_order(slice_of([Row(4)], venue="kucoin"))


def test_symbols_and_exchanges_are_apart() -> None:
    """Each symbol has its own highest number, whatever their names share, and is counted for its exchange."""
    rows = [Row(9, 0, "x", "a"), Row(1, 0, "x", "b"), Row(1, 0, "y", "a"), Row(0, 0, "y", "a"), Row(0, 0, "x", "b")]
    assert GroupDisorder().out_of_order(slice_of(rows, venue="kucoin")) == Counter(a=1, b=1)


def test_a_snapshot_holds_the_symbols_seen_alone() -> None:
    """By name, each with its highest number."""
    state = GroupDisorder()
    state.out_of_order(slice_of([Row(5, 0, "m1", "a"), Row(7, 0, "m2", "a"), Row(6, 0, "m2", "a")], venue="kucoin"))
    assert state.snapshot() == {"highest": [["a", "m1", 5], ["a", "m2", 7]]}


def test_a_state_is_taken_up_by_a_process_that_knows_no_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first symbol ids that it assigns get capacity like any others."""
    state = {"highest": [["a", f"S{number}", number + 1] for number in range(9)]}
    assert GroupDisorder(state).snapshot() == state


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 9)), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_neither_cuts_nor_restarts_change_the_count(trades: list[tuple[str, int]], cuts: list[int]) -> None:
    """With a pickled snapshot at each cut, the count is that of a plain loop."""
    rows = [Row(number, 0, symbol) for symbol, number in trades]
    highest, expected = dict[str, int](), 0
    for symbol, number in trades:
        expected += number < highest.get(symbol, number)
        highest[symbol] = max(highest.get(symbol, number), number)
    state, found = GroupDisorder(), 0
    bounds = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, end in pairwise(bounds):
        found += state.out_of_order(slice_of(rows[start:end], venue="kucoin")).total()
        state = GroupDisorder(pickle.loads(pickle.dumps(state.snapshot())))  # noqa: S301
    assert found == expected
