"""What tracking gives for a slice: its rows with verdicts, and the events that they caused."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.sequencing.placement import Event

__all__ = ["NewestMissing", "OpenGaps", "Tracked", "first_events", "ledger_events", "with_first"]


class OpenGaps(NamedTuple):
    """What is missing now."""

    ranges: int
    numbers: int


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


class NewestMissing(NamedTuple):
    """The newest numbers of a symbol, both inclusive, which have not arrived within the grace period."""

    exchange: str
    symbol: str
    first: int
    last: int


def with_first(trade_slice: TradeSlice, slice_idx: int, first: int) -> TradeSlice:
    """Return a slice in which the range of one row begins with another number; the given one is not changed."""
    columns = trade_slice.batch.columns
    firsts = columns.first_sequences.copy()
    firsts[trade_slice.rows[slice_idx]] = first
    batch = replace(trade_slice.batch, columns=replace(columns, first_sequences=firsts))
    return replace(trade_slice, batch=batch)


def first_events(trade_slice: TradeSlice, started: NDArray[np.int32]) -> Iterator[SequenceEvent]:
    """Yield the events of symbols whose first trades are at the indices `started` of a slice."""
    for slice_idx in started.tolist():
        row = trade_slice.rows[slice_idx]
        first, last = trade_slice.batch.columns.first_sequences[row], trade_slice.batch.columns.sequences[row]
        yield from ledger_events(trade_slice, slice_idx, ((EventKind.SESSION_STARTED, 1, int(first), int(last)),))


def ledger_events(trade_slice: TradeSlice, slice_idx: int, events: Iterable[Event]) -> Iterator[SequenceEvent]:
    """Yield the ledger events that one trade caused."""
    columns, source, row = trade_slice.batch.columns, trade_slice.batch.source, int(trade_slice.rows[slice_idx])
    for kind, session, first, last in events:
        exchange, symbol = columns.name(row)
        timestamp, offset = int(columns.timestamps[row]), trade_slice.batch.offset(row)
        yield SequenceEvent(
            exchange, symbol, session, kind, first, last, timestamp, source.topic, source.partition, offset
        )
