"""Gaps from the ledger: the opened ranges, split into pieces by opening time and filling time."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

__all__ = ["LedgerRange", "Piece", "joined", "pieces", "still_open"]


class LedgerRange(NamedTuple):
    """A range of numbers that an event of the ledger opened or filled."""

    first: int
    last: int
    """Inclusive."""
    at: int
    """Time of the event, microseconds since the epoch."""


class Piece(NamedTuple):
    """Consecutive missing numbers that were opened at the same time, and filled at the same time or not at all."""

    first: int
    last: int
    """Inclusive."""
    opened_at: int
    filled_at: int | None


def pieces(opened: Iterable[LedgerRange], filled: Iterable[LedgerRange]) -> Iterator[Piece]:
    """Split the opened ranges of one session into pieces, ascending; neighbours differ in a time or do not touch.

    A number is opened by its earliest open event and filled by its earliest fill event. Duplicate and out-of-order
    events are harmless; a fill without a matching open is ignored.

    >>> list(pieces([LedgerRange(5, 9, 10)], [LedgerRange(7, 7, 20)]))
    [Piece(first=5, last=6, opened_at=10, filled_at=None), Piece(first=7, last=7, opened_at=10, filled_at=20), \
Piece(first=8, last=9, opened_at=10, filled_at=None)]
    """
    return joined(_split([*opened], [*filled]))


def _split(opened: list[LedgerRange], filled: list[LedgerRange]) -> Iterator[Piece]:
    edges = sorted({edge for one in (*opened, *filled) for edge in (one.first, one.last + 1)})
    opening, filling = _Cover(opened), _Cover(filled)
    for edge, following in pairwise(edges):
        opened_at, filled_at = opening.earliest(edge), filling.earliest(edge)
        if opened_at is not None:
            yield Piece(edge, following - 1, opened_at, filled_at)


class _Cover:
    """Ranges that may overlap, queried in ascending order of numbers."""

    def __init__(self, ranges: Iterable[LedgerRange]) -> None:
        self._pending = sorted(ranges, reverse=True)
        self._active: list[tuple[int, int]] = []

    def earliest(self, number: int) -> int | None:
        """Return the earliest time of the ranges that cover a number; None if no range covers it."""
        while self._pending and self._pending[-1].first <= number:
            started = self._pending.pop()
            heappush(self._active, (started.at, started.last))
        while self._active and self._active[0][1] < number:
            heappop(self._active)
        return self._active[0][0] if self._active else None


def joined(cut: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces, ascending, with adjacent pieces of the same times merged."""
    return _merged(cut, lambda last, piece: last.opened_at if last[2:] == piece[2:] else None)


def still_open(cut: Iterable[Piece]) -> Iterator[Piece]:
    """Yield the ranges that are still missing, with adjacent ones merged; a range has its earliest opening time."""
    missing = (piece for piece in cut if piece.filled_at is None)
    return _merged(missing, lambda last, piece: min(last.opened_at, piece.opened_at))


def _merged(cut: Iterable[Piece], opened_at: Callable[[Piece, Piece], int | None]) -> Iterator[Piece]:
    """Merge adjacent pieces; `opened_at` returns the opening time of the merged piece, or None to keep two apart."""
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
