"""What tracking gives for a slice: its rows with verdicts, and the events that they caused."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import AnnouncedNumber, NumberDoubt, SessionKey
from k2.sequencing.kernel_layout import CONTRADICTED, EVENT_KINDS, FILLED, OPENED, SETTLED
from k2.sequencing.placement import Event
from k2.sequencing.session import Doubt

__all__ = ["Findings", "NewestMissing", "OpenGaps", "Tracked", "first_new", "with_first"]


class OpenGaps(NamedTuple):
    """What is missing now."""

    ranges: int
    numbers: int


_NO_GAPS: Final = OpenGaps(0, 0)


@dataclass(frozen=True, slots=True)
class Tracked:
    """A slice with verdicts and sessions, and the events that its rows caused."""

    trade_slice: TradeSlice
    events: list[SequenceEvent]
    """In the order of the rows that caused them."""
    out_of_order: Counter[str]
    """By exchange, the number of stored rows that arrived after a trade of their symbol with a higher number."""
    newest_missing: list["NewestMissing"] = field(default_factory=list)
    """Of the symbols whose newest trades have not arrived, although the venue has named their numbers."""


@dataclass(slots=True)
class Findings:
    """What the rows of a slice caused, as they are placed one after the other."""

    events: list[SequenceEvent] = field(default_factory=list)
    out_of_order: Counter[str] = field(default_factory=Counter)
    newest_missing: list["NewestMissing"] = field(default_factory=list)
    doubts: dict[tuple[str, str], NumberDoubt] = field(default_factory=dict)
    """By symbol, the last change."""
    announced: dict[SessionKey, AnnouncedNumber] = field(default_factory=dict)
    """The last change."""

    def add_events(
        self, trade_slice: TradeSlice, slice_idx: int, events: Iterable[Event], at: int | None = None
    ) -> None:
        """Add the events that one row caused, at its venue time unless another time is given."""
        self.events.extend(_ledger_events(trade_slice, slice_idx, events, at))

    def add_compiled(self, trade_slice: TradeSlice, found: NDArray[np.int64]) -> dict[str, OpenGaps]:
        """Add what the compiled loop found, int64[n, EVENT_COLUMNS]; return the change of gaps by exchange.

        Each trade that filled missing numbers arrived after one with a higher number.
        """
        changes: dict[str, OpenGaps] = {}
        if not len(found):
            return changes
        batch, source = trade_slice.batch, trade_slice.batch.source
        rows, columns = trade_slice.rows[found[:, 0]], batch.columns
        for name, session, (_, kind, first, last, more), timestamp, offset in zip(
            map(columns.names.name, columns.symbols[rows].tolist()),
            trade_slice.sessions[found[:, 0]].tolist(),
            found.tolist(),
            columns.timestamps[rows].tolist(),
            batch.offsets_of(rows).tolist(),
            strict=True,
        ):
            if kind in {CONTRADICTED, SETTLED}:
                doubt = Doubt(first, last) if kind == CONTRADICTED else None
                self.doubts[name] = _number_doubt(name, doubt)
                continue
            exchange, symbol = name
            self.events.append(
                SequenceEvent(
                    exchange,
                    symbol,
                    session,
                    EVENT_KINDS[kind],
                    first,
                    last,
                    timestamp,
                    source.topic,
                    source.partition,
                    offset,
                )
            )
            if kind in {OPENED, FILLED}:
                ranges, numbers = changes.get(exchange, _NO_GAPS)
                count = last - first + 1
                changes[exchange] = OpenGaps(ranges + more, numbers + (count if kind == OPENED else -count))
            if kind == FILLED:
                self.out_of_order[exchange] += 1
        return changes

    def add_out_of_order(self, trade_slice: TradeSlice, slice_idx: int) -> None:
        """Count a stored row that arrived after a trade of its symbol with a higher number."""
        self.out_of_order[_name(trade_slice, slice_idx)[0]] += 1

    def add_doubt(self, trade_slice: TradeSlice, slice_idx: int, doubt: Doubt | None) -> None:
        """Note that one row changed the doubt of its symbol."""
        names = _name(trade_slice, slice_idx)
        self.doubts[names] = _number_doubt(names, doubt)

    def add_announced(self, trade_slice: TradeSlice, slice_idx: int, session: int, number: int | None, at: int) -> None:
        """Note the number that a session is known to reach, or None if its trades have reached it."""
        key = SessionKey(*_name(trade_slice, slice_idx), session)
        batch = trade_slice.batch
        offset = batch.offset(int(trade_slice.rows[slice_idx]))
        self.announced[key] = AnnouncedNumber(key, number, at, batch.source.topic_partition, offset)

    def add_newest_missing(self, trade_slice: TradeSlice, slice_idx: int, events: Iterable[Event]) -> None:
        """Note numbers above the newest trade of a symbol that have not arrived."""
        names = _name(trade_slice, slice_idx)
        self.newest_missing.extend(NewestMissing(*names, first, last) for _, _, first, last in events)

    def tracked(self, trade_slice: TradeSlice) -> Tracked:
        """Return the result for the slice."""
        if self.doubts or self.announced:
            doubts, announced = tuple(self.doubts.values()), tuple(self.announced.values())
            trade_slice = replace(trade_slice, doubts=doubts, announced=announced)
        return Tracked(trade_slice, self.events, self.out_of_order, self.newest_missing)


class NewestMissing(NamedTuple):
    """The newest numbers of a symbol, both inclusive, which have not arrived within the grace period."""

    exchange: str
    symbol: str
    first: int
    last: int


def first_new(trade_slice: TradeSlice, committed: int) -> int:
    """Return the index in a slice of the first row at or above the committed offset."""
    if trade_slice.batch.offset(int(trade_slice.rows[0])) >= committed:
        return 0
    return bisect_left(trade_slice.rows, committed, key=trade_slice.batch.offset)


def with_first(trade_slice: TradeSlice, slice_idx: int, first: int) -> TradeSlice:
    """Return a slice in which the range of one row begins with another number; the given one is not changed."""
    columns = trade_slice.batch.columns
    firsts = columns.first_sequences.copy()
    firsts[trade_slice.rows[slice_idx]] = first
    batch = replace(trade_slice.batch, columns=replace(columns, first_sequences=firsts))
    return replace(trade_slice, batch=batch)


def _number_doubt(names: tuple[str, str], doubt: Doubt | None) -> NumberDoubt:
    return NumberDoubt(*names, None) if doubt is None else NumberDoubt(*names, *doubt)


def _name(trade_slice: TradeSlice, slice_idx: int) -> tuple[str, str]:
    return trade_slice.batch.columns.name(int(trade_slice.rows[slice_idx]))


def _ledger_events(
    trade_slice: TradeSlice, slice_idx: int, events: Iterable[Event], at: int | None = None
) -> Iterator[SequenceEvent]:
    """Yield the ledger events that one row caused."""
    columns, source, row = trade_slice.batch.columns, trade_slice.batch.source, int(trade_slice.rows[slice_idx])
    for kind, session, first, last in events:
        exchange, symbol = columns.name(row)
        timestamp, offset = int(columns.timestamps[row]) if at is None else at, trade_slice.batch.offset(row)
        yield SequenceEvent(
            exchange, symbol, session, kind, first, last, timestamp, source.topic, source.partition, offset
        )
