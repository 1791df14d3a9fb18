"""Owed events: ledger events of trades in the table that a crash prevented from being written."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import AnnouncedNumber, Ledger, Ranges, StoredSession
from k2.sequencing.ranges import difference

__all__ = ["owed_events", "with_announced"]


class MissingRanges(Protocol):
    """Reports the missing ranges of symbols, as `k2.sequencing.tracker.GroupTracker` does."""

    def missing(self, exchange: str, symbol: str) -> tuple[Ranges, ...]:
        """Return the missing ranges of one symbol, one element per session."""


def owed_events(stored: Iterable[StoredSession], tracker: MissingRanges, ledger: Ledger) -> Iterator[SequenceEvent]:
    """Yield the events that bring the ledger up to the tracker's state of the sessions it has just absorbed.

    Each event has the coordinates of the newest absorbed trade of its session, because the trade that caused it is not
    known.
    """
    for one in stored:
        missing = tracker.missing(one.key.exchange, one.key.symbol)[one.key.session - 1]
        recorded = ledger.missing.get(one.key, ())
        if one.key not in ledger.started:
            first = one.ranges[0][0]
            yield _event(one, EventKind.SESSION_STARTED, first, first)
        for first, last in difference(missing, recorded):
            yield _event(one, EventKind.GAP_OPENED, first, last)
        for first, last in difference(recorded, missing):
            yield _event(one, EventKind.GAP_FILLED, first, last)


def with_announced(stored: Sequence[StoredSession], announced: Iterable[AnnouncedNumber]) -> list[StoredSession]:
    """Return the stored sessions, and those without new rows whose announced numbers the ledger may lack."""
    keys = {one.key for one in stored}
    return [
        *stored,
        *(
            StoredSession(one.key, ((one.number, one.number),), one.at, one.at, one.topic_partition, one.offset)
            for one in announced
            if one.number is not None and one.key not in keys
        ),
    ]


def _event(session: StoredSession, kind: EventKind, first: int, last: int) -> SequenceEvent:
    source = session.topic_partition
    return SequenceEvent(
        *session.key, kind, first, last, session.latest, source.topic, source.partition, session.offset, is_owed=True
    )
