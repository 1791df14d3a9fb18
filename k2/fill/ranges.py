"""Ranges of sequence numbers, first and last inclusive: which trades overlap them, and what is left of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.sequencing.ranges import difference, intersection

__all__ = ["Range", "count", "merged", "overlaps", "within", "without"]


class Range(NamedTuple):
    """Numbers from `first` to `last`, inclusive."""

    first: int
    last: int


def merged(ranges: Iterable[tuple[int, int]]) -> list[Range]:
    """Return the same numbers as disjoint ranges, ascending, which do not touch.

    >>> merged([(5, 9), (1, 2), (3, 4), (7, 12)])
    [Range(first=1, last=12)]
    """
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1].last + 1:
            found[-1] = Range(found[-1].first, max(found[-1].last, last))
        else:
            found.append(Range(first, last))
    return found


def without(ranges: Sequence[Range], taken: Iterable[tuple[int, int]]) -> list[Range]:
    """Return what is left of disjoint ascending ranges without the numbers of `taken`.

    >>> without([Range(1, 10)], [(4, 5), (9, 20)])
    [Range(first=1, last=3), Range(first=6, last=8)]
    """
    return [Range(*one) for one in difference(tuple(ranges), tuple(merged(taken)))]


def within(ranges: Iterable[Range], first: int, last: int) -> list[Range]:
    """Return the part of ranges that lies between two numbers, inclusive."""
    return [Range(*one) for one in intersection(tuple(ranges), ((first, last),))]


def count(ranges: Iterable[tuple[int, int]]) -> int:
    """Return how many numbers disjoint ranges contain."""
    return sum(last - first + 1 for first, last in ranges)


def overlaps(ranges: Sequence[Range], firsts: NDArray[np.int64], lasts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each trade whether a number of disjoint ascending ranges is among its own, inclusive.

    `firsts` and `lasts`: int64, shape (trades,), in any order.
    """
    if not ranges:
        return np.zeros(len(firsts), np.bool_)
    starts, ends = (np.array(bound, np.int64) for bound in zip(*ranges, strict=True))
    # The first range that does not end before the trade begins.
    place = np.searchsorted(ends, firsts)
    return (place < len(ranges)) & (starts[np.minimum(place, len(ranges) - 1)] <= lasts)
