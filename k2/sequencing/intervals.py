"""A set of integers stored as ranges: memory grows with the number of gaps, not of members."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["IntervalSet", "bounds_of", "edges_of"]


class IntervalSet:
    """A set of signed 64-bit integers, stored as ascending closed ranges that neither overlap nor touch.

    Memory: 16 bytes per range. Lookup is a binary search over the ranges. Inserting or removing a range below the
    topmost one moves the ranges above it.

    >>> numbers = IntervalSet([1, 5], [3, 9])
    >>> numbers.add(4), numbers.add(4), list(numbers.ranges())
    (True, False, [(1, 9)])
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, starts: Iterable[int] = (), ends: Iterable[int] = ()) -> None:
        self._starts = array("q", starts)
        self._ends = array("q", ends)

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._starts)

    def __contains__(self, number: int) -> bool:
        idx = bisect_right(self._starts, number)
        return idx > 0 and number <= self._ends[idx - 1]

    @property
    def lowest(self) -> int:
        """The smallest member; the set must not be empty."""
        return self._starts[0]

    @property
    def highest(self) -> int:
        """The largest member; the set must not be empty."""
        return self._ends[-1]

    @property
    def top_start(self) -> int:
        """The start of the range that ends in `highest`; the set must not be empty."""
        return self._starts[-1]

    @property
    def gap_count(self) -> int:
        """Number of missing ranges between `lowest` and `highest`."""
        return max(len(self._starts) - 1, 0)

    @property
    def missing_count(self) -> int:
        """Number of missing numbers between `lowest` and `highest`."""
        if not self._starts:
            return 0
        members = int(np.sum(np.array(self._ends) - np.array(self._starts))) + len(self._starts)
        return self._ends[-1] - self._starts[0] + 1 - members

    def has_fewer_than(self, count: int) -> bool:
        """Return whether the set has fewer than `count` members; visits at most `count` ranges."""
        found = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            found += end - start + 1
            if found >= count:
                return False
        return True

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Return an iterator over the ranges, ascending, both bounds inclusive."""
        return zip(self._starts, self._ends, strict=True)

    def overlap(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of the ranges between two numbers, ascending, all bounds inclusive."""
        for idx in range(bisect_left(self._ends, first), len(self._starts)):
            if self._starts[idx] > last:
                return
            yield max(first, self._starts[idx]), min(last, self._ends[idx])

    def has_any(self, first: int, last: int) -> bool:
        """Return whether any number between two numbers, both inclusive, is a member."""
        return next(self.overlap(first, last), None) is not None

    def highest_missing(self, first: int, last: int, reach: int) -> tuple[tuple[int, int], ...]:
        """Return the missing numbers that a trade takes which stands for as many numbers as `first` to `last` are.

        These are the missing ones from `first` to `last`, and for each number there that is a member already, the next
        missing number below `first`. Those below are at most `reach` away and above the lowest member, so there may be
        fewer. After adding them, no number between the lowest one taken and `last` is missing. The set must not
        be empty. The ranges are ascending, both bounds inclusive.
        """
        own = tuple(self._missing_between(first, last))
        excess = (last - first + 1) - sum(high - low + 1 for low, high in own)
        if not excess:
            return own
        below = list[tuple[int, int]]()
        for low, high in reversed([*self._missing_between(max(first - reach, self.lowest), first - 1)]):
            if excess <= 0:
                break
            below.append((max(low, high - excess + 1), high))
            excess -= high - below[-1][0] + 1
        return _joined([*reversed(below), *own])

    def _missing_between(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the missing ranges between two numbers, ascending, all bounds inclusive."""
        for start, end in self.overlap(first, last):
            if first < start:
                yield first, start - 1
            first = end + 1
        if first <= last:
            yield first, last

    def members_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the members among int64[n] `numbers`, in their order."""
        if not self._starts:
            return numbers[:0]
        indices = np.searchsorted(np.array(self._starts), numbers, side="right") - 1
        return numbers[(indices >= 0) & (numbers <= np.array(self._ends)[indices])]

    def add(self, number: int) -> bool:
        """Add a number; return whether it was missing."""
        starts, ends = self._starts, self._ends
        idx = bisect_right(starts, number)
        if idx > 0 and number <= ends[idx - 1]:
            return False
        joins_left = idx > 0 and ends[idx - 1] == number - 1
        joins_right = idx < len(starts) and starts[idx] == number + 1
        if joins_left and joins_right:
            del starts[idx], ends[idx - 1]
        elif joins_left:
            ends[idx - 1] = number
        elif joins_right:
            starts[idx] = number
        else:
            starts.insert(idx, number)
            ends.insert(idx, number)
        return True

    def add_range(self, first: int, last: int) -> None:
        """Add all numbers from `first` to `last`, both inclusive; some of them may be members already."""
        starts, ends = self._starts, self._ends
        # first - 1 and last + 1 may exceed 64 bits: they are only compared, never stored.
        low, high = bisect_left(ends, first - 1), bisect_right(starts, last + 1)
        if low < high:
            first, last = min(first, starts[low]), max(last, ends[high - 1])
        starts[low:high] = array("q", [first])
        ends[low:high] = array("q", [last])

    def drop_lowest(self, count: int) -> None:
        """Remove the lowest `count` ranges."""
        del self._starts[:count], self._ends[:count]

    def missing(self) -> tuple[tuple[int, int], ...]:
        """Return the missing ranges between `lowest` and `highest`, ascending, both bounds inclusive."""
        return tuple((end + 1, start - 1) for (_, end), (start, _) in pairwise(self.ranges()))

    def to_bytes(self) -> bytes:
        """Serialize the ranges: all starts, then all ends, 8 bytes each in native byte order."""
        return self._starts.tobytes() + self._ends.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Deserialize the result of `to_bytes`."""
        ranges = cls()
        ranges._starts.frombytes(data[: len(data) // 2])
        ranges._ends.frombytes(data[len(data) // 2 :])
        return ranges

    def extend_top(self, highest: int) -> None:
        """Add all numbers up to `highest`, which must not be below the current highest member."""
        assert highest >= self._ends[-1], "the topmost range only grows"
        self._ends[-1] = highest

    def highest_ranges(self, count: int) -> list[int]:
        """Return the bounds of at most `count` ranges below the topmost one, the highest of them, ascending."""
        starts, ends = self._starts[-1 - count : -1], self._ends[-1 - count : -1]
        return [bound for bounds in zip(starts, ends, strict=True) for bound in bounds]

    def replace_top(self, kept: int, starts: Sequence[int], ends: Sequence[int]) -> None:
        """Replace all ranges but the lowest `kept` by others, which are above those."""
        self._starts[kept:], self._ends[kept:] = array("q", starts), array("q", ends)


def edges_of(bounds: Sequence[int]) -> list[int]:
    """Return ascending bounds as text has them shortest: the first, then the distance of each to the one before."""
    return [*bounds[:1], *(after - before for before, after in pairwise(bounds))]


def bounds_of(edges: Iterable[int]) -> list[int]:
    """Return the bounds of which `edges_of` returned these."""
    return list(accumulate(edges))


def _joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join ascending ranges that touch."""
    joined = list[tuple[int, int]]()
    for first, last in ranges:
        if joined and first - 1 == joined[-1][1]:
            joined.append((joined.pop()[0], last))
        else:
            joined.append((first, last))
    return tuple(joined)
