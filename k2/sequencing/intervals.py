"""A set of integers as the ranges it covers: memory grows with holes, not with members."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["IntervalSet"]


class IntervalSet:
    """Signed 64-bit integers, kept as ascending closed ranges that neither overlap nor touch.

    16 bytes a range. Finding a number costs the logarithm of the ranges; opening or closing a range
    below the topmost moves those above it.

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
        place = bisect_right(self._starts, number)
        return place > 0 and number <= self._ends[place - 1]

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
        """Where the range that ends in `highest` starts; the set must not be empty."""
        return self._starts[-1]

    @property
    def gap_count(self) -> int:
        """How many ranges between `lowest` and `highest` are missing."""
        return max(len(self._starts) - 1, 0)

    def has_fewer_than(self, count: int) -> bool:
        """Return whether it has fewer members than `count`; looks at no more ranges than that."""
        found = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            found += end - start + 1
            if found >= count:
                return False
        return True

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges covered, ascending, both ends inclusive."""
        return zip(self._starts, self._ends, strict=True)

    def overlap(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Return the parts of the ranges between two numbers, ascending, all ends inclusive."""
        for place in range(bisect_left(self._ends, first), len(self._starts)):
            if self._starts[place] > last:
                return
            yield max(first, self._starts[place]), min(last, self._ends[place])

    def members_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of int64[n] that are members, in their order."""
        if not self._starts:
            return numbers[:0]
        places = np.searchsorted(np.array(self._starts), numbers, side="right") - 1
        return numbers[(places >= 0) & (numbers <= np.array(self._ends)[places])]

    def add(self, number: int) -> bool:
        """Add a number; tell whether it was missing."""
        starts, ends = self._starts, self._ends
        place = bisect_right(starts, number)
        if place > 0 and number <= ends[place - 1]:
            return False
        joins_left = place > 0 and ends[place - 1] == number - 1
        joins_right = place < len(starts) and starts[place] == number + 1
        if joins_left and joins_right:
            del starts[place], ends[place - 1]
        elif joins_left:
            ends[place - 1] = number
        elif joins_right:
            starts[place] = number
        else:
            starts.insert(place, number)
            ends.insert(place, number)
        return True

    def add_range(self, first: int, last: int) -> None:
        """Add all numbers from `first` to `last`, both inclusive, whichever of them are there."""
        starts, ends = self._starts, self._ends
        # What lies beyond 64 bits is only compared with, never kept.
        low, high = bisect_left(ends, first - 1), bisect_right(starts, last + 1)
        if low < high:
            first, last = min(first, starts[low]), max(last, ends[high - 1])
        starts[low:high] = array("q", [first])
        ends[low:high] = array("q", [last])

    def drop_lowest(self, count: int) -> None:
        """Let go of the lowest ranges."""
        del self._starts[:count], self._ends[:count]

    def missing(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges missing between `lowest` and `highest`, ascending, both ends inclusive."""
        return tuple((end + 1, start - 1) for (_, end), (start, _) in pairwise(self.ranges()))

    def to_bytes(self) -> bytes:
        """Return the ranges as bytes: all starts, then all ends, 8 bytes each in the machine's order."""
        return self._starts.tobytes() + self._ends.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Take up what `to_bytes` gave."""
        ranges = cls()
        ranges._starts.frombytes(data[: len(data) // 2])
        ranges._ends.frombytes(data[len(data) // 2 :])
        return ranges

    def extend_top(self, highest: int) -> None:
        """Add all numbers from the present `highest` to the one given, which is not below it."""
        assert highest >= self._ends[-1], "the topmost range only grows"
        self._ends[-1] = highest
