"""The interval set compared with a plain set of numbers."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.sequencing.intervals import IntervalSet

INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.lists(st.one_of(st.integers(-15, 15), INT64), max_size=60)


def ranges_of(numbers: set[int]) -> list[tuple[int, int]]:
    """Return the maximal runs of a plain set."""
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    return list(zip(starts, ends, strict=True))


@given(NUMBERS)
def test_equals_a_plain_set(numbers: list[int]) -> None:
    """Adding returns what a plain set would, and the ranges are the set's maximal runs."""
    intervals, plain = IntervalSet(), set[int]()
    for number in numbers:
        assert intervals.add(number) == (number not in plain)
        plain.add(number)
        assert list(intervals.ranges()) == ranges_of(plain)
    assert all((number in intervals) == (number in plain) for number in [*numbers, *range(-16, 17)])


@given(NUMBERS.filter(bool))
def test_ends_and_gaps(numbers: list[int]) -> None:
    """The ends, the topmost range and the number of gaps are those of the runs."""
    intervals = IntervalSet()
    for number in numbers:
        intervals.add(number)
    runs = ranges_of(set(numbers))
    assert (intervals.lowest, intervals.highest) == (min(numbers), max(numbers))
    assert (intervals.top_start, intervals.gap_count) == (runs[-1][0], len(runs) - 1)


@given(st.lists(st.integers(-15, 15), min_size=1, max_size=30))
def test_what_is_missing_is_what_a_plain_set_lacks(numbers: list[int]) -> None:
    """All non-members between its ends are in the missing ranges, which neither overlap nor touch."""
    intervals = IntervalSet()
    for number in numbers:
        intervals.add(number)
    missing = [number for first, last in intervals.missing() for number in range(first, last + 1)]
    assert missing == sorted({*range(min(numbers), max(numbers))} - {*numbers})
    assert len(intervals) == len(intervals.missing()) + 1 == len(ranges_of({*numbers}))


@given(NUMBERS)
def test_bytes_bring_it_back(numbers: list[int]) -> None:
    """A set written as bytes is read back the same."""
    intervals = IntervalSet()
    for number in numbers:
        intervals.add(number)
    assert list(IntervalSet.from_bytes(intervals.to_bytes()).ranges()) == list(intervals.ranges())


@pytest.mark.parametrize(
    ("added", "ranges"),
    [
        ([5], [(5, 5)]),
        ([5, 6], [(5, 6)]),
        ([5, 4], [(4, 5)]),
        ([5, 7], [(5, 5), (7, 7)]),
        ([5, 7, 6], [(5, 7)]),
        ([1, 9, 5], [(1, 1), (5, 5), (9, 9)]),
        ([-(2**63), 2**63 - 1], [(-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1)]),
    ],
)
def test_ranges_join(added: list[int], ranges: list[tuple[int, int]]) -> None:
    """A number joins the ranges that it touches, and no others."""
    intervals = IntervalSet()
    assert all(intervals.add(number) for number in added)
    assert list(intervals.ranges()) == ranges


def test_extends_to_a_number() -> None:
    """The topmost range then includes all numbers up to the one given."""
    intervals = IntervalSet([1, 5], [2, 6])
    intervals.extend_top(9)
    assert list(intervals.ranges()) == [(1, 2), (5, 9)]


def test_an_empty_set_has_no_gap() -> None:
    """No number is missing if none was seen."""
    assert IntervalSet().gap_count == 0


def test_memory_grows_with_ranges_not_numbers() -> None:
    """A million numbers in a row are one range."""
    intervals = IntervalSet()
    for number in range(1_000_000, 0, -1):
        intervals.add(number)
    assert list(intervals.ranges()) == [(1, 1_000_000)]
    assert sys.getsizeof(intervals._starts) < 200


def test_the_lowest_ranges_are_let_go() -> None:
    """As many as requested, and at most all."""
    intervals = IntervalSet([1, 5, 9], [2, 6, 9])
    intervals.drop_lowest(1)
    assert list(intervals.ranges()) == [(5, 6), (9, 9)]
    intervals.drop_lowest(5)
    assert list(intervals.ranges()) == []


def test_ranges_join_at_the_ends_of_64_bits() -> None:
    """A range that starts with the least number, or ends with the largest, joins what it touches."""
    low, high = -(2**63), 2**63 - 1
    intervals = IntervalSet([low + 2, high - 3], [low + 3, high - 2])
    intervals.add_range(low, low + 1)
    intervals.add_range(high - 1, high)
    assert list(intervals.ranges()) == [(low, low + 3), (high - 3, high)]
