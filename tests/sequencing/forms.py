"""Both forms of the tracker behind one interface, so that one test checks a law for both."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from k2.model.progress import TopicPartition
from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import SessionKey, StoredSession
from k2.model.verdicts import STORED
from k2.sequencing.effective_time import effective_time
from k2.sequencing.placement import Event
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracker import GroupTracker
from k2.venues import VENUES
from tests.model.trade_slices import Row, slice_of

__all__ = ["FORMS", "Columnar", "Form", "Plain", "Said"]

HERE = TopicPartition("trades", 0)


class Said(NamedTuple):
    """The result of a form for some rows."""

    verdicts: list[int]
    sessions: list[int]
    events: list[Event]
    """As (kind, session, first, last)."""
    out_of_order: int


class Form(Protocol):
    """Tracks rows of any symbols."""

    events: list[SequenceEvent]
    """All so far."""

    def track(self, rows: Sequence[Row], venue: str = "k2") -> Said:
        """Place rows after the earlier ones."""

    def saw(self, first: int, last: int, latest: int) -> None:
        """Mark all numbers of a range as seen, at a time, in the first session of the usual symbol."""

    def ranges(self, exchange: str = "kraken", symbol: str = "BTC-USD") -> list[list[tuple[int, int]]]:
        """Return the ranges seen of a symbol, session by session."""


class Plain:
    """The specification: one `SymbolSequence` for each symbol, called row by row."""

    def __init__(self) -> None:
        self.events: list[SequenceEvent] = []
        self._sequences = defaultdict[tuple[str, str], SymbolSequence](SymbolSequence)
        self._contents = dict[object, int]()
        self._offset = 0

    def track(self, rows: Sequence[Row], venue: str = "k2") -> Said:
        """Place rows after the earlier ones."""
        said = Said([], [], [], 0)
        for row in rows:
            said = said._replace(out_of_order=said.out_of_order + self._place(row, venue, said))
        return said

    def _place(self, row: Row, venue: str, said: Said) -> bool:
        offset, self._offset = self._offset, self._offset + 1
        if row.sequence is None or not VENUES[venue].is_contiguous:
            said.verdicts.append(STORED)
            said.sessions.append(0)
            return False
        named = row.trade_id if row.trade_id != str(row.sequence) else None
        content = self._contents.setdefault((row.price, row.quantity, row.side, named), len(self._contents) + 3)
        at = effective_time(row.timestamp, row.kafka_timestamp)
        numbers = self._sequences[row.exchange, row.symbol]
        placement = numbers.place(
            row.sequence,
            at,
            content,
            is_named=named is not None,
            first=row.first_sequence,
            is_counted=VENUES[venue].counts_numbers,
        )
        said.verdicts.append(placement.verdict)
        said.sessions.append(placement.session)
        said.events.extend(placement.events)
        for kind, session, first, last in placement.events:
            where = row.timestamp, "trades", 0, offset
            self.events.append(SequenceEvent(row.exchange, row.symbol, session, kind, first, last, *where))
        return placement.out_of_order

    def saw(self, first: int, last: int, latest: int) -> None:
        """Mark all numbers of a range as seen, at a time, in the first session of the usual symbol."""
        self._sequences[Row().exchange, Row().symbol].absorb(1, [(first, last)], latest, latest)

    def ranges(self, exchange: str = "kraken", symbol: str = "BTC-USD") -> list[list[tuple[int, int]]]:
        """Return the ranges seen of a symbol, session by session."""
        return [list(session.numbers.ranges()) for session in self._sequences[exchange, symbol].sessions]


class Columnar:
    """The form that the job runs: a `GroupTracker`, called with slices of at most `cut` rows."""

    def __init__(self, cut: int = 1_000_000) -> None:
        self.events: list[SequenceEvent] = []
        self.tracker = GroupTracker()
        self._cut = cut
        self._offset = 0

    def track(self, rows: Sequence[Row], venue: str = "k2") -> Said:
        """Place rows after the earlier ones."""
        said = Said([], [], [], 0)
        for start in range(0, len(rows), self._cut):
            some = rows[start : start + self._cut]
            tracked = self.tracker.track(slice_of(some, first_offset=self._offset, venue=venue))
            self._offset += len(some)
            self.events += tracked.events
            said = Said(
                [*said.verdicts, *tracked.trade_slice.verdicts.tolist()],
                [*said.sessions, *tracked.trade_slice.sessions.tolist()],
                [
                    *said.events,
                    *((one.event, one.session, one.first_sequence, one.last_sequence) for one in tracked.events),
                ],
                said.out_of_order + tracked.out_of_order.total(),
            )
        return said

    def saw(self, first: int, last: int, latest: int) -> None:
        """Mark all numbers of a range as seen, at a time, in the first session of the usual symbol."""
        key = SessionKey(Row().exchange, Row().symbol, 1)
        self.tracker.absorb([StoredSession(key, ((first, last),), latest, latest, HERE, 0)])

    def ranges(self, exchange: str = "kraken", symbol: str = "BTC-USD") -> list[list[tuple[int, int]]]:
        """Return the ranges seen of a symbol, session by session."""
        slot = int(self.tracker._symbol_slots.of[self.tracker._symbols.intern(exchange, symbol)])
        return [
            list(numbers.ranges()) for numbers in (session.numbers for session in self.tracker._sequence(slot).sessions)
        ]


FORMS = {"plain": Plain, "columnar": Columnar, "columnar row by row": lambda: Columnar(cut=1)}
