"""Accepted numbers: which of the missing numbers are accepted, by all decisions on them."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from k2.sequencing.gap_pieces import Piece

__all__ = ["AcceptedRange", "DecidedRange", "accepted_ranges", "cut_by_acceptance"]


class AcceptedRange(NamedTuple):
    """A range of numbers that one decision accepted."""

    first: int
    last: int
    """Inclusive."""
    at: int
    """Time of the decision, microseconds since the epoch."""
    reason: str | None
    decided_by: str | None


class DecidedRange(NamedTuple):
    """A range of numbers that a decision accepts, or for which it undoes an acceptance."""

    first: int
    last: int
    """Inclusive."""
    at: int
    """Time of the decision, microseconds since the epoch."""
    is_accepted: bool
    reason: str | None = None
    decided_by: str | None = None


def accepted_ranges(decisions: Iterable[DecidedRange]) -> list[AcceptedRange]:
    """Return the ranges of one session that are accepted, ascending; neighbours differ in their decision.

    The newest decision on a number is the one that holds, in whatever order they come. A decision that the ledger has
    twice counts once. Of two decisions of one time, the one that undoes holds: a number is rather missing than not.

    >>> accepted_ranges([DecidedRange(5, 9, 10, True, "lost"), DecidedRange(7, 7, 20, False)])
    [AcceptedRange(first=5, last=6, at=10, reason='lost', decided_by=None), \
AcceptedRange(first=8, last=9, at=10, reason='lost', decided_by=None)]
    """
    found: list[AcceptedRange] = []
    for first, last, newest in _newest(decisions):
        if not newest.is_accepted:
            continue
        one = AcceptedRange(first, last, newest.at, newest.reason, newest.decided_by)
        if found and found[-1].last + 1 == first and found[-1][2:] == one[2:]:
            found[-1] = found[-1]._replace(last=last)
        else:
            found.append(one)
    return found


def _newest(decisions: Iterable[DecidedRange]) -> Iterator[tuple[int, int, DecidedRange]]:
    """Yield each range between two neighbouring edges that a decision covers, with the newest that does."""
    waiting = sorted(decisions, key=lambda one: one.first, reverse=True)
    edges = sorted({edge for one in waiting for edge in (one.first, one.last + 1)})
    covering: list[tuple[int, bool, int, DecidedRange]] = []
    for edge, following in pairwise(edges):
        while waiting and waiting[-1].first <= edge:
            one = waiting.pop()
            heappush(covering, (-one.at, one.is_accepted, len(waiting), one))
        while covering and covering[0][-1].last < edge:
            heappop(covering)
        if covering:
            yield edge, following - 1, covering[0][-1]


def cut_by_acceptance(
    missing: Iterable[Piece], accepted: Sequence[AcceptedRange]
) -> Iterator[tuple[Piece, AcceptedRange | None]]:
    """Yield the parts of missing ranges, ascending, each with the acceptance that covers it; None if none does.

    Both sides are of one session and ascending. Accepted numbers that are not missing (any more) are left out.
    """
    lowest = 0
    for piece in missing:
        while lowest < len(accepted) and accepted[lowest].last < piece.first:
            lowest += 1
        begin, idx = piece.first, lowest
        while idx < len(accepted) and accepted[idx].first <= piece.last:
            one = accepted[idx]
            if begin < one.first:
                yield piece._replace(first=begin, last=one.first - 1), None
                begin = one.first
            last = min(one.last, piece.last)
            yield piece._replace(first=begin, last=last), one
            begin, idx = last + 1, idx + 1
        if begin <= piece.last:
            yield piece._replace(first=begin), None
