"""Accepted numbers, compared with a set of numbers."""

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.sequencing.acceptance import AcceptedRange, DecidedRange, accepted_ranges, cut_by_acceptance
from k2.sequencing.gap_pieces import Piece

RANGES: Final = st.tuples(st.integers(-10, 30), st.integers(0, 8))
DECISIONS: Final = st.lists(st.tuples(RANGES, st.integers(0, 5), st.booleans()), max_size=8).map(
    lambda drawn: [DecidedRange(low, low + size, at, what, f"{at}") for (low, size), at, what in drawn]
)


def yes(first: int, last: int, at: int) -> DecidedRange:
    """Return an acceptance."""
    return DecidedRange(first, last, at, is_accepted=True)


def no(first: int, last: int, at: int) -> DecidedRange:
    """Return the undoing of an acceptance."""
    return DecidedRange(first, last, at, is_accepted=False)


def by_number(decisions: list[DecidedRange]) -> dict[int, int]:
    """Return the accepted numbers, each with the time of the decision."""
    found = {}
    for number in range(-10, 40):
        on = [(one.at, not one.is_accepted) for one in decisions if one.first <= number <= one.last]
        if on and not max(on)[1]:
            found[number] = max(on)[0]
    return found


@given(decisions=DECISIONS, order=st.randoms())
def test_the_newest_decision_on_a_number_holds(decisions: list[DecidedRange], order: object) -> None:
    """Number by number, in whatever order the decisions come, and if one comes twice."""
    again = [*decisions, *decisions[:2]]
    order.shuffle(again)  # type: ignore[attr-defined]
    found = accepted_ranges(again)
    assert {number: one.at for one in found for number in range(one.first, one.last + 1)} == by_number(decisions)
    assert all(one.last < after.first for one, after in pairwise(found))
    assert found == accepted_ranges(decisions)


@given(decisions=DECISIONS, gaps=st.sets(st.integers(-10, 40)))
def test_missing_ranges_are_cut_where_they_are_accepted(decisions: list[DecidedRange], gaps: set[int]) -> None:
    """The parts have the numbers of the ranges, each once, ascending; a part is wholly accepted or not at all."""
    pieces = [Piece(number, number + 1, 7, None) for number in sorted(gaps) if number % 3 == 0]
    parts = [*cut_by_acceptance(pieces, accepted_ranges(decisions))]
    numbers = [number for piece, _ in parts for number in range(piece.first, piece.last + 1)]
    assert numbers == [number for piece in pieces for number in (piece.first, piece.last)]
    accepted = by_number(decisions)
    for piece, by in parts:
        on = {accepted.get(number) for number in range(piece.first, piece.last + 1)}
        assert on == {None if by is None else by.at}
        assert piece[2:] == (7, None)


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        ([], []),
        ([yes(5, 9, 1), no(5, 9, 2)], []),
        ([yes(5, 9, 2), no(5, 9, 1)], [(5, 9, 2)]),
        ([yes(5, 9, 1), no(5, 9, 1)], []),
        ([yes(5, 9, 1), yes(8, 12, 2)], [(5, 7, 1), (8, 12, 2)]),
        ([yes(5, 6, 1), yes(7, 7, 1)], [(5, 7, 1)]),
        ([yes(-5, 2**62, 1)], [(-5, 2**62, 1)]),
    ],
)
def test_accepted_ranges(decisions: list[DecidedRange], expected: list[tuple[int, int, int]]) -> None:
    """Undone, accepted again, and overlapping."""
    assert accepted_ranges(decisions) == [AcceptedRange(*one, None, None) for one in expected]
