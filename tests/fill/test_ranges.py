"""Ranges of numbers are sets of numbers."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2.fill.ranges import Range, count, merged, overlaps, within, without

RANGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda one: (one[0], one[0] + one[1])), max_size=8
)


def _numbers(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


def _is_disjoint(ranges: list[Range]) -> bool:
    return all(one.last < other.first for one, other in pairwise(ranges))


@given(RANGES, RANGES)
def test_ranges_are_sets(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    """Joining, taking away and cutting keep exactly the numbers that sets keep, ascending and once."""
    joined = merged(some)
    assert _is_disjoint(joined)
    assert _numbers(joined) == _numbers(some)
    assert count(joined) == len(_numbers(some))
    left = without(joined, others)
    assert _is_disjoint(left)
    assert _numbers(left) == _numbers(some) - _numbers(others)
    assert _numbers(within(joined, 5, 30)) == _numbers(some) & {*range(5, 31)}


@given(RANGES, RANGES.filter(bool))
def test_a_trade_overlaps_if_one_of_its_numbers_is_missing(
    missing: list[tuple[int, int]], trades: list[tuple[int, int]]
) -> None:
    """For single numbers and ranges, in any order."""
    firsts, lasts = (np.array(bound, np.int64) for bound in zip(*trades, strict=True))
    found = overlaps(merged(missing), firsts, lasts)
    assert found.tolist() == [bool(_numbers([one]) & _numbers(missing)) for one in trades]
