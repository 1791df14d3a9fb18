"""Ranges of sequence numbers as sets of numbers: (first, last) pairs, both inclusive, disjoint and ascending."""

from k2.model.state_source import Ranges

__all__ = ["difference", "intersection"]


def difference(ranges: Ranges, less: Ranges) -> Ranges:
    """Return the parts of `ranges` that `less` does not cover.

    >>> difference(((1, 9), (20, 29)), ((3, 4), (9, 21)))
    ((1, 2), (5, 8), (22, 29))
    """
    left: list[tuple[int, int]] = []
    lowest = 0
    for first, last in ranges:
        while lowest < len(less) and less[lowest][1] < first:
            lowest += 1
        begin, idx = first, lowest
        while idx < len(less) and less[idx][0] <= last:
            if begin < less[idx][0]:
                left.append((begin, less[idx][0] - 1))
            begin = less[idx][1] + 1
            idx += 1
        if begin <= last:
            left.append((begin, last))
    return tuple(left)


def intersection(ranges: Ranges, others: Ranges) -> Ranges:
    """Return the parts of `ranges` that `others` cover.

    >>> intersection(((1, 9), (20, 29)), ((3, 4), (9, 21)))
    ((3, 4), (9, 9), (20, 21))
    """
    return difference(ranges, difference(ranges, others))
