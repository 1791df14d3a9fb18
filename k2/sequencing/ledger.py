"""What the ledger owes: events of trades that are in the table, which a crash kept from being written."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Ledger, Ranges, SeenSession

__all__ = ["difference", "owed_events"]


class Missing(Protocol):
    """Knows what is missing."""

    def missing(self, exchange: str, symbol: str) -> tuple[Ranges, ...]:
        """Return the ranges missing of one symbol, session by session."""


def owed_events(seen: Iterable[SeenSession], tracker: Missing, ledger: Ledger) -> Iterator[SequenceEvent]:
    """Yield the events that bring the ledger to what the tracker knows of the sessions it has just absorbed.

    Each bears the coordinates of the newest trade absorbed of its session, since the very one is not known.
    """
    for one in seen:
        missing = tracker.missing(one.key.exchange, one.key.symbol)[one.key.session - 1]
        told = ledger.missing.get(one.key, ())
        if one.key not in ledger.started:
            first = one.ranges[0][0]
            yield _event(one, EventKind.SESSION_STARTED, first, first)
        for first, last in difference(missing, told):
            yield _event(one, EventKind.GAP_OPENED, first, last)
        for first, last in difference(told, missing):
            yield _event(one, EventKind.GAP_FILLED, first, last)


def difference(ranges: Ranges, less: Ranges) -> Ranges:
    """Return what `ranges` cover and `less` does not.

    >>> difference(((1, 9), (20, 29)), ((3, 4), (9, 21)))
    ((1, 2), (5, 8), (22, 29))
    """
    left: list[tuple[int, int]] = []
    place = 0
    for first, last in ranges:
        while place < len(less) and less[place][1] < first:
            place += 1
        begin, at = first, place
        while at < len(less) and less[at][0] <= last:
            if begin < less[at][0]:
                left.append((begin, less[at][0] - 1))
            begin = less[at][1] + 1
            at += 1
        if begin <= last:
            left.append((begin, last))
    return tuple(left)


def _event(seen: SeenSession, kind: EventKind, first: int, last: int) -> SequenceEvent:
    key, where = seen.key, seen.where
    return SequenceEvent(*key, kind, first, last, seen.latest, where.topic, where.partition, seen.offset, is_owed=True)
