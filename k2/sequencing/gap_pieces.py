"""Gaps as the ledger tells them: what was opened, cut into pieces by when it was opened and when filled."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Piece", "Told", "joined", "pieces", "still_open"]


class Told(NamedTuple):
    """A range of numbers that the ledger tells as opened, or as filled."""

    first: int
    last: int
    """Inclusive."""
    at: int
    """When it was told, microseconds since the epoch."""


class Piece(NamedTuple):
    """Numbers that were missing together: opened at one time, and filled at one, or not at all."""

    first: int
    last: int
    """Inclusive."""
    opened_at: int
    filled_at: int | None


def pieces(opened: Iterable[Told], filled: Iterable[Told]) -> Iterator[Piece]:
    """Cut what was opened in one session into pieces, ascending; neighbours differ in a time or do not touch.

    A number was opened when it was first told as opened, and filled when it was first told as filled: what is told
    twice is told once, and the order of telling is nothing to it. What was filled and never opened is no gap.

    >>> list(pieces([Told(5, 9, 10)], [Told(7, 7, 20)]))
    [Piece(first=5, last=6, opened_at=10, filled_at=None), Piece(first=7, last=7, opened_at=10, filled_at=20), \
Piece(first=8, last=9, opened_at=10, filled_at=None)]
    """
    return joined(_cut([*opened], [*filled]))


def _cut(opened: list[Told], filled: list[Told]) -> Iterator[Piece]:
    edges = sorted({edge for told in (*opened, *filled) for edge in (told.first, told.last + 1)})
    opening, filling = _Cover(opened), _Cover(filled)
    for edge, following in pairwise(edges):
        opened_at, filled_at = opening.earliest(edge), filling.earliest(edge)
        if opened_at is not None:
            yield Piece(edge, following - 1, opened_at, filled_at)


class _Cover:
    """Ranges that may overlap, asked number by number, ascending."""

    def __init__(self, told: Iterable[Told]) -> None:
        self._coming = sorted(told, reverse=True)
        self._begun: list[tuple[int, int]] = []

    def earliest(self, number: int) -> int | None:
        """Return when a number was first told; None where no range covers it."""
        while self._coming and self._coming[-1].first <= number:
            told = self._coming.pop()
            heappush(self._begun, (told.at, told.last))
        while self._begun and self._begun[0][1] < number:
            heappop(self._begun)
        return self._begun[0][0] if self._begun else None


def joined(cut: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces, ascending, with those that touch and are of the same times as one."""
    return _grown(cut, lambda last, piece: last.opened_at if last[2:] == piece[2:] else None)


def still_open(cut: Iterable[Piece]) -> Iterator[Piece]:
    """Yield the ranges that are missing, in as few pieces as can be: each opened when the first of it was."""
    still = (piece for piece in cut if piece.filled_at is None)
    return _grown(still, lambda last, piece: min(last.opened_at, piece.opened_at))


def _grown(cut: Iterable[Piece], opened_at: Callable[[Piece, Piece], int | None]) -> Iterator[Piece]:
    """Grow each piece by those that touch it; `opened_at` says when the two as one were, None where they stay apart."""
    last: Piece | None = None
    for piece in cut:
        at = opened_at(last, piece) if last is not None and last.last + 1 == piece.first else None
        if last is not None and at is not None:
            last = last._replace(last=piece.last, opened_at=at)
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last
