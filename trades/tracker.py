"""Sequence tracking of whole batches: what `trades.sequence` says, at the price of a loop over arrays."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trades.batch import TradeBatch, TradeSlice
from trades.errors import StateError
from trades.events import EventKind, SequenceEvent
from trades.history import NO_TRADES, Positions, Ranges, SeenSession, SeenTrades
from trades.intervals import IntervalSet
from trades.progress import TopicPartition
from trades.recent import Recent
from trades.recent_kernel import content
from trades.sequence import Event, Placement, SymbolSequence
from trades.symbols import SYMBOLS
from trades.tracker_kernel import COLUMNS, SESSION, follow
from trades.venues import VENUES, SequenceMode
from trades.verdicts import CONFLICT, DUPLICATE, SKIPPED, STORED

__all__ = ["GroupTracker", "Tracked", "is_contiguous"]

FORMAT: Final = 3
_NO_BOUNDARY: Final = np.iinfo(np.int64).min
_CAPACITY: Final = 64
_NO_SLOTS: Final[NDArray[np.int32]] = np.empty(0, dtype=np.int32)
Number = TypeVar("Number", np.int32, np.int64)


@dataclass(frozen=True, slots=True)
class Tracked:
    """A slice with its verdicts and sessions, and what the rows did to their symbols' numberings."""

    piece: TradeSlice
    events: list[SequenceEvent]
    """In the order of the rows that caused them."""
    out_of_order: Counter[str]
    """How many rows of each exchange are stored though a later trade of their symbol was before them."""


def is_contiguous(batch: TradeBatch) -> bool:
    """Tell whether every missing number is a missing trade on the batch's venue."""
    return VENUES[batch.source.venue].mode is SequenceMode.CONTIGUOUS


class GroupTracker:
    """The numberings of one key group's symbols, whichever partitions their trades come from.

    Each symbol has a slot of six integers, enough for rows that continue the topmost range of the
    current session or repeat it: these stay in a compiled loop. A symbol with a gap or a second
    session has a `SymbolSequence` beside its slot, which decides all other rows; the slot is the
    newer of the two between them. Verdicts, sessions and events are those of `SymbolSequence` row
    by row, however the rows are cut into slices, and the same on replay.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        """Start anew, or from what `snapshot` gave.

        Raises:
            StateError: the state was written in a format that this version does not read.
        """
        self._slots: NDArray[np.int64] = np.zeros((_CAPACITY, COLUMNS), dtype=np.int64)
        self._slot_of = _NO_SLOTS
        self._numbers: list[int] = []
        self._sequences: dict[int, SymbolSequence] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._recent = Recent()
        if state is not None:
            self._restore(state)

    def __len__(self) -> int:
        """Give the number of symbols."""
        return len(self._numbers)

    @property
    def positions(self) -> Positions:
        """How far this state is in each topic partition."""
        return self._positions

    def absorb(self, seen: Iterable[SeenSession], recent: SeenTrades = NO_TRADES) -> None:
        """Take numbers as seen that are in the table though this state was not there to see them stored.

        So a copy that is stored already is the one that counts, in whatever order a replay brings the others. `recent`
        holds the newest of those trades, of symbols that are among `seen`.
        """
        for one in seen:
            number = SYMBOLS.intern(one.key.exchange, one.key.symbol)
            self._make_slots(np.array([number], dtype=np.int32))
            slot = int(self._slot_of[number])
            sequence = self._sequence(slot) if self._slots[slot, SESSION] else SymbolSequence()
            sequence.absorb(one.key.session, one.ranges, one.latest, one.earliest)
            self._settle(slot, sequence)
        slots = np.array([self._slot_of[SYMBOLS.intern(*name)] for name in recent.names], dtype=np.int64)
        self._recent.add_all(slots[recent.symbols], recent.sessions, recent.sequences, recent.contents)

    def missing(self, exchange: str, symbol: str) -> tuple[Ranges, ...]:
        """Give the ranges missing of one symbol, session by session; it must have been seen."""
        return self._sequence(int(self._slot_of[SYMBOLS.intern(exchange, symbol)])).missing()

    def track(self, piece: TradeSlice) -> Tracked:
        """Place every row that has a number, on a venue that counts its trades without holes.

        Other rows keep their verdict and session. A row that is no market trade is placed like the others, since its
        number is not missing, and stays `SKIPPED`. The slice given is left as it is.
        """
        if not len(piece) or not is_contiguous(piece.batch):
            return Tracked(piece, [], Counter())
        self._make_slots(piece.batch.columns.symbols[piece.rows])
        source = piece.batch.source
        self._positions[TopicPartition(source.topic, source.partition)] = piece.batch.offset(int(piece.rows[-1])) + 1
        piece = replace(piece, verdicts=piece.verdicts.copy(), sessions=piece.sessions.copy())
        columns = piece.batch.columns
        started = np.empty(len(piece), dtype=np.int32)
        events: list[SequenceEvent] = []
        out_of_order: Counter[str] = Counter()
        place = 0
        while True:
            place, count = follow(
                place,
                piece.rows,
                columns.symbols,
                columns.has_sequence,
                columns.sequences,
                columns.timestamps,
                columns.prices,
                columns.quantities,
                columns.sides,
                self._slot_of,
                self._slots,
                self._recent.ring,
                piece.verdicts,
                piece.sessions,
                started,
            )
            events.extend(_first_events(piece, started[:count]))
            if place == len(piece):
                return Tracked(piece, events, out_of_order)
            placement = self._place(piece, place)
            events.extend(_ledger(piece, place, placement.events))
            if placement.out_of_order:
                exchange, _ = SYMBOLS.name(int(columns.symbols[piece.rows[place]]))
                out_of_order[exchange] += 1
            place += 1

    def _place(self, piece: TradeSlice, place: int) -> Placement:
        """Let the plain form decide one row."""
        columns, row = piece.batch.columns, piece.rows[place]
        slot = int(self._slot_of[columns.symbols[row]])
        sequence = self._sequence(slot)
        number, timestamp = int(columns.sequences[row]), int(columns.timestamps[row])
        placement = sequence.place(number, timestamp)
        if piece.verdicts[place] != SKIPPED:
            mixed = content(columns.prices[row], columns.quantities[row], int(columns.sides[row]), timestamp)
            piece.verdicts[place] = self._verdict(placement, slot, number, mixed)
        piece.sessions[place] = placement.session
        self._settle(slot, sequence)
        return placement

    def _verdict(self, placement: Placement, slot: int, number: int, mixed: int) -> int:
        """Give a row's verdict, and keep what it holds if it is stored."""
        if placement.verdict == STORED:
            self._recent.add(slot, placement.session, number, mixed)
            return STORED
        return CONFLICT if self._recent.differs(slot, placement.session, number, mixed) else DUPLICATE

    def _sequence(self, slot: int) -> SymbolSequence:
        """Give a symbol's plain form, brought up to its slot."""
        top_start, highest, latest, _, _, earliest = self._slots[slot].tolist()
        sequence = self._sequences.get(slot)
        if sequence is None:
            return SymbolSequence([IntervalSet([top_start], [highest])], latest=latest, earliest=[earliest])
        sequence.advance(highest, latest)
        return sequence

    def _settle(self, slot: int, sequence: SymbolSequence) -> None:
        """Bring a slot up to its symbol's plain form, and keep that only where the slot can't say it all."""
        numbers, boundary = sequence.numbers, sequence.boundary
        # In the order of the kernel's columns.
        self._slots[slot] = (
            numbers.top_start,
            numbers.highest,
            sequence.latest,
            _NO_BOUNDARY if boundary is None else boundary,
            sequence.session,
            sequence.earliest,
        )
        if sequence.session > 1 or numbers.gap_count:
            self._sequences[slot] = sequence
        else:
            self._sequences.pop(slot, None)

    def _make_slots(self, symbols: NDArray[np.int32]) -> None:
        """Give each symbol that has none a slot."""
        highest = int(symbols.max())
        if highest >= len(self._slot_of):
            self._slot_of = _grown(self._slot_of, highest + 1, -1)
        missing = symbols[self._slot_of[symbols] < 0]
        if not len(missing):
            return
        new = np.unique(missing)
        count = len(self._numbers)
        self._slot_of[new] = np.arange(count, count + len(new), dtype=np.int32)
        self._numbers.extend(new.tolist())
        if len(self._numbers) > len(self._slots):
            self._slots = _grown(self._slots, len(self._numbers), 0)
        self._recent.make_room(len(self._numbers))

    def open_gaps(self) -> dict[str, int]:
        """Give the number of ranges missing now by exchange, 0 for one without, over all sessions."""
        gaps = dict.fromkeys((SYMBOLS.name(number)[0] for number in self._numbers), 0)
        for slot, sequence in self._sequences.items():
            gaps[SYMBOLS.name(self._numbers[slot])[0]] += sequence.gap_count
        return gaps

    def snapshot(self) -> dict[str, object]:
        """Give the state as builtins alone, by names; later rows do not change what was given."""
        count = len(self._numbers)
        return {
            "format": FORMAT,
            "positions": [[where.topic, where.partition, offset] for where, offset in self._positions.items()],
            "symbols": [[*SYMBOLS.name(number)] for number in self._numbers],
            "slots": self._slots[:count].astype("<i8").tobytes(),
            "sequences": {slot: self._sequence(slot).snapshot() for slot in self._sequences},
            "recent": self._recent.snapshot(count),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise StateError(
                f"the recovery store's sequence state has format {state.get('format')!r}, this version reads"
                f" {FORMAT}: run the version that wrote it, or start without that store to rebuild the state"
            )
        self._positions = {TopicPartition(topic, part): offset for topic, part, offset in state["positions"]}
        numbers = np.array([SYMBOLS.intern(*name) for name in state["symbols"]], dtype=np.int32)
        if len(numbers):
            self._slot_of = _grown(self._slot_of, int(numbers.max()) + 1, -1)
        self._slot_of[numbers] = np.arange(len(numbers), dtype=np.int32)
        self._numbers = numbers.tolist()
        slots = np.frombuffer(state["slots"], dtype="<i8").reshape(-1, COLUMNS)
        self._slots = _grown(slots.astype(np.int64), _CAPACITY, 0)
        self._sequences = {slot: SymbolSequence.restore(kept) for slot, kept in state["sequences"].items()}
        self._recent = Recent.restore(state["recent"])
        self._recent.make_room(len(self._numbers))


def _grown(values: NDArray[Number], size: int, fill: int) -> NDArray[Number]:
    """Give a copy of an array with room for `size` rows and as many again, the new ones filled."""
    grown = np.full((max(2 * size, len(values)), *values.shape[1:]), fill, dtype=values.dtype)
    grown[: len(values)] = values
    return grown


def _first_events(piece: TradeSlice, started: NDArray[np.int32]) -> Iterator[SequenceEvent]:
    for place in started.tolist():
        number = int(piece.batch.columns.sequences[piece.rows[place]])
        yield from _ledger(piece, place, ((EventKind.SESSION_STARTED, 1, number, number),))


def _ledger(piece: TradeSlice, place: int, events: Iterable[Event]) -> Iterator[SequenceEvent]:
    """Give the ledger's rows of what one trade caused."""
    columns, source, row = piece.batch.columns, piece.batch.source, int(piece.rows[place])
    for kind, session, first, last in events:
        exchange, symbol = SYMBOLS.name(int(columns.symbols[row]))
        timestamp, offset = int(columns.timestamps[row]), piece.batch.offset(row)
        yield SequenceEvent(
            exchange, symbol, session, kind, first, last, timestamp, source.topic, source.partition, offset
        )
