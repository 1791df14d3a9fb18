"""Sequence tracking of whole batches: what `k2.sequencing.sequence` says, at the price of a loop over arrays."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.content import CONTENT_KEY, NON_MARKET
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import NumberDoubt, Positions, Ranges, SeenSession, StoredContents, WantedContents
from k2.model.symbols import SYMBOLS
from k2.model.verdicts import CONFLICT, SKIPPED
from k2.sequencing.content_lookup import WINDOW_US_MIN, AskedSymbol, ContentLookup, Reached, SlotContents
from k2.sequencing.fingerprints import NO_PAGE, PAGE_BITS, Fingerprints, find_page
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.sequence import SESSIONS_SEARCHED, Doubt, Event, Placement, Session, SymbolSequence
from k2.sequencing.tracker_kernel import (
    CHECKED,
    COLUMNS,
    HIGHEST,
    OLD_HIGHEST,
    SESSION,
    TOP_PAGE,
    TrackedColumns,
    evidence_at,
    follow,
    tracked_columns,
)
from k2.venues import VENUES

__all__ = ["GroupTracker", "Tracked"]

FORMAT: Final = 4
_STATE_COLUMNS: Final = 5
"""Of a slot, as many columns are part of the state; the others are this process's."""
_CAPACITY: Final = 64
_NO_SLOTS: Final[NDArray[np.int32]] = np.empty(0, dtype=np.int32)
_NONE: Final = int(np.iinfo(np.int64).min)
_MOST: Final = int(np.iinfo(np.int64).max)
Number = TypeVar("Number", np.int32, np.int64)
ContentReader = Callable[[Sequence[WantedContents], int], StoredContents]
"""As `k2.model.state_source.StateSource.contents`."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A slice with its verdicts and sessions, and what the rows did to their symbols' numberings."""

    piece: TradeSlice
    events: list[SequenceEvent]
    """In the order of the rows that caused them."""
    out_of_order: Counter[str]
    """How many rows of each exchange are stored though a later trade of their symbol was before them."""


class GroupTracker:
    """The numberings of one key group's symbols, whichever partitions their trades come from.

    Each symbol has a slot of a few integers, enough for rows that continue the topmost range of the
    newest session or copy it: these stay in a compiled loop. A symbol with a gap, a second session or
    a conflict has a `SymbolSequence` beside its slot, which decides all other rows; the slot is the
    newer of the two between them. Verdicts, sessions and events are those of `SymbolSequence` row
    by row, however the rows are cut into slices.

    Contents of the last two windows are kept as fingerprints. Those stored before the process started are
    looked up by `read_contents` when a row first needs one. The state holds no content.

    On replay: rows that the table already has (`absorb`) are not judged again, so what was decided of them stands.
    """

    def __init__(
        self,
        state: dict[str, Any] | None = None,
        window_us: int = WINDOW_US_MIN,
        read_contents: ContentReader | None = None,
    ) -> None:
        """Start without a state, or from what `snapshot` returned.

        Raises:
            StateError: the state was written in a format that this version does not read.
        """
        self._slots: NDArray[np.int64] = np.zeros((_CAPACITY, COLUMNS), dtype=np.int64)
        self._slot_of = _NO_SLOTS
        self._numbers: list[int] = []
        self._sequences: dict[int, SymbolSequence] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._committed: Positions = {}
        self._fingerprints = Fingerprints()
        self._reach = Reached(max(window_us, WINDOW_US_MIN))
        self._lookup = ContentLookup(self._fingerprints, read_contents)
        if state is not None:
            self._restore(state)

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self._numbers)

    @property
    def positions(self) -> Positions:
        """How far this state is in each topic partition."""
        return self._positions

    @property
    def fingerprints(self) -> Fingerprints:
        """The contents of the numbers stored lately."""
        return self._fingerprints

    def absorb(
        self,
        seen: Iterable[SeenSession],
        committed: Positions = MappingProxyType({}),
        doubts: Iterable[NumberDoubt] = (),
    ) -> None:
        """Take over what is in the table, before the first row is judged.

        `seen` are numbers that this state was not there to see stored. Rows below the offsets of `committed` have been
        judged: they are in the table, in the dead letters or dropped, and are passed over. `doubts` are all
        conflicts that those rows left unsettled.
        """
        self._committed = committed
        changed = dict[int, SymbolSequence]()
        for one in seen:
            sequence = self._among(changed, self._slot(one.key.exchange, one.key.symbol))
            sequence.absorb(one.key.session, one.ranges, one.latest, one.earliest)
        for slot in [slot for slot, sequence in self._sequences.items() if sequence.doubt is not None]:
            self._among(changed, slot).doubt = None
        for doubt in doubts:
            if doubt.sequence is not None:
                sequence = self._among(changed, self._slot(doubt.exchange, doubt.symbol))
                sequence.doubt = Doubt(doubt.sequence, doubt.at)
        for slot, sequence in changed.items():
            if sequence.sessions:
                self._settle(slot, sequence)

    def _among(self, sequences: dict[int, SymbolSequence], slot: int) -> SymbolSequence:
        """Return a slot's plain form out of those taken before, or take it."""
        sequence = sequences.get(slot)
        if sequence is None:
            sequence = sequences[slot] = self._sequence(slot)
        return sequence

    def missing(self, exchange: str, symbol: str) -> tuple[Ranges, ...]:
        """Return the ranges missing of one symbol, session by session; it must have been seen."""
        return self._sequence(int(self._slot_of[SYMBOLS.intern(exchange, symbol)])).missing()

    def track(self, piece: TradeSlice) -> Tracked:
        """Place every row that has a number, on a venue that counts its trades without holes.

        Other rows keep their verdict and session. A row that is no market trade is placed like the others, since its
        number is not missing, and stays `SKIPPED`. The slice given is left as it is.
        """
        if not len(piece) or not VENUES[piece.batch.source.venue].is_contiguous:
            return Tracked(piece, [], Counter())
        self._make_slots(piece.batch.columns.symbols[piece.rows])
        source = piece.batch.source
        where = TopicPartition(source.topic, source.partition)
        self._positions[where] = piece.batch.offset(int(piece.rows[-1])) + 1
        columns = tracked_columns(piece.batch)
        place = _first_new(piece, self._committed.get(where, 0))
        self._reach.advance(columns.kafka_timestamps[columns.messages[piece.rows[place:]]])
        piece = replace(piece, verdicts=piece.verdicts.copy(), sessions=piece.sessions.copy())
        started = np.empty(len(piece), dtype=np.int32)
        events: list[SequenceEvent] = []
        out_of_order: Counter[str] = Counter()
        doubts: dict[int, NumberDoubt] = {}
        while True:
            place, count = follow(
                place,
                piece.rows,
                columns,
                CONTENT_KEY,
                self._slot_of,
                self._slots,
                self._fingerprints.pages,
                piece.verdicts,
                piece.sessions,
                started,
            )
            events.extend(_first_events(piece, started[:count]))
            if place == len(piece):
                return Tracked(replace(piece, doubts=tuple(doubts.values())), events, out_of_order)
            placement = self._place(piece, columns, place, doubts)
            events.extend(_ledger(piece, place, placement.events))
            if placement.out_of_order:
                exchange, _ = SYMBOLS.name(int(columns.symbols[piece.rows[place]]))
                out_of_order[exchange] += 1
            place += 1

    def _place(
        self, piece: TradeSlice, columns: TrackedColumns, place: int, doubts: dict[int, NumberDoubt]
    ) -> Placement:
        """Let the plain form decide one row; note in `doubts` what changes of its symbol's."""
        row = int(piece.rows[place])
        slot, number = int(self._slot_of[columns.symbols[row]]), int(columns.content.sequences[row])
        content, at, is_named, kafka_time = evidence_at(columns, row, CONTENT_KEY)
        is_market = piece.verdicts[place] != SKIPPED
        self._make_room()
        sequence = self._sequence(slot)
        if self._lookup.lacks(slot, sequence, number):
            symbols = self._symbols_from(piece, columns, place)
            self._make_room(self._lookup.plan(symbols))
            self._lookup.read(self._reach.floor, self._reach.reached)
        self._contents_of(sequence).kafka_time = int(kafka_time)
        doubt = sequence.doubt
        placement = sequence.place(
            number, int(at), int(content) if is_market else NON_MARKET, is_named=bool(is_named) and is_market
        )
        if sequence.doubt != doubt:
            names = SYMBOLS.name(self._numbers[slot])
            doubts[slot] = NumberDoubt(*names, None) if sequence.doubt is None else NumberDoubt(*names, *sequence.doubt)
        if is_market:
            piece.verdicts[place] = placement.verdict
        if is_market or placement.verdict != CONFLICT:
            piece.sessions[place] = placement.session
        self._settle(slot, sequence, number >> PAGE_BITS)
        return placement

    def _symbols_from(self, piece: TradeSlice, columns: TrackedColumns, place: int) -> Iterator[AskedSymbol]:
        """Return the numbers of each symbol in the rows from `place` on, of symbols with a session."""
        rows = piece.rows[place:]
        rows = rows[columns.has_sequence[rows]]
        slots = self._slot_of[columns.symbols[rows]]
        order = np.argsort(slots)
        for chosen in np.split(order, np.flatnonzero(np.diff(slots[order])) + 1):
            slot = int(slots[chosen[0]])
            if self._slots[slot, SESSION]:
                names = SYMBOLS.name(self._numbers[slot])
                numbers = np.unique(columns.content.sequences[rows[chosen]])
                yield AskedSymbol(slot, *names, self._sequence(slot), numbers)

    def _make_room(self, pages: int = 1) -> None:
        if self._fingerprints.free_count >= pages:
            return
        slots = self._slots[: len(self._numbers)]
        self._fingerprints.make_room(pages, self._reach.floor, slots[:, SESSION].copy(), slots[:, HIGHEST].copy())

    def _sequence(self, slot: int) -> SymbolSequence:
        """Return a symbol's plain form, brought up to its slot."""
        top_start, highest, latest, earliest, session = self._slots[slot, :_STATE_COLUMNS].tolist()
        sequence = self._sequences.get(slot)
        if sequence is None:
            numbers = [Session(IntervalSet([top_start], [highest]), earliest, latest)] if session else ()
            return SymbolSequence(SlotContents(self._fingerprints, slot), numbers)
        newest = sequence.sessions[-1]
        newest.numbers.extend_top(highest)
        newest.latest = latest
        return sequence

    @staticmethod
    def _contents_of(sequence: SymbolSequence) -> SlotContents:
        assert isinstance(sequence.contents, SlotContents)
        return sequence.contents

    def _settle(self, slot: int, sequence: SymbolSequence, checked: int = _NONE) -> None:
        """Bring a slot up to its symbol's plain form, and keep that only where the slot can't say it all.

        `checked` is the number of the page for which all contents are at hand.
        """
        newest, session = sequence.sessions[-1], len(sequence.sessions)
        highest = newest.numbers.highest
        old = sequence.sessions[-SESSIONS_SEARCHED:-1]
        # In the order of the kernel's columns.
        self._slots[slot] = (
            newest.numbers.top_start,
            highest,
            newest.latest,
            newest.earliest,
            session,
            max((one.numbers.highest for one in old if len(one.numbers)), default=_NONE)
            if sequence.doubt is None
            else _MOST,
            find_page(self._fingerprints.pages, slot, session, highest),
            checked if sequence.doubt is None else _NONE,
        )
        if session > 1 or newest.numbers.gap_count or sequence.doubt is not None:
            self._sequences[slot] = sequence
        else:
            self._sequences.pop(slot, None)

    def _slot(self, exchange: str, symbol: str) -> int:
        number = SYMBOLS.intern(exchange, symbol)
        self._make_slots(np.array([number], dtype=np.int32))
        return int(self._slot_of[number])

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
        self._make_room(len(new))

    def open_gaps(self) -> dict[str, int]:
        """Return the number of ranges missing now by exchange, 0 for one without, over all sessions."""
        gaps = dict.fromkeys((SYMBOLS.name(number)[0] for number in self._numbers), 0)
        for slot, sequence in self._sequences.items():
            gaps[SYMBOLS.name(self._numbers[slot])[0]] += sequence.gap_count
        return gaps

    def snapshot(self) -> dict[str, object]:
        """Return the state as builtins alone, by names; later rows do not change what was returned."""
        count = len(self._numbers)
        return {
            "format": FORMAT,
            "positions": [[where.topic, where.partition, offset] for where, offset in self._positions.items()],
            "symbols": [[*SYMBOLS.name(number)] for number in self._numbers],
            "slots": self._slots[:count, :_STATE_COLUMNS].astype("<i8").tobytes(),
            "sequences": {slot: self._sequence(slot).snapshot() for slot in self._sequences},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise StateError(
                f"the recovery store's sequence state has format {state.get('format')!r}, this version reads"
                f" {FORMAT}: run the version that wrote it, or start without that store to rebuild the state"
            )
        self._positions = {TopicPartition(topic, part): offset for topic, part, offset in state["positions"]}
        numbers = np.array([SYMBOLS.intern(*name) for name in state["symbols"]], dtype=np.int32)
        if not len(numbers):
            return
        self._slot_of = _grown(self._slot_of, int(numbers.max()) + 1, -1)
        self._slot_of[numbers] = np.arange(len(numbers), dtype=np.int32)
        self._numbers = numbers.tolist()
        self._slots = np.zeros((max(len(numbers), _CAPACITY), COLUMNS), dtype=np.int64)
        self._slots[: len(numbers), :_STATE_COLUMNS] = np.frombuffer(state["slots"], dtype="<i8").reshape(
            len(numbers), _STATE_COLUMNS
        )
        self._slots[:, OLD_HIGHEST] = self._slots[:, CHECKED] = _NONE
        self._slots[:, TOP_PAGE] = NO_PAGE
        for slot, kept in state["sequences"].items():
            self._settle(slot, SymbolSequence.restore(kept, SlotContents(self._fingerprints, slot)))


def _first_new(piece: TradeSlice, committed: int) -> int:
    """Return the place of the first row that the table does not have."""
    return bisect_left(piece.rows, committed, key=piece.batch.offset)


def _grown(values: NDArray[Number], size: int, fill: int) -> NDArray[Number]:
    """Return a copy of an array with room for `size` rows and as many again, the new ones filled."""
    grown = np.full((max(2 * size, len(values)), *values.shape[1:]), fill, dtype=values.dtype)
    grown[: len(values)] = values
    return grown


def _first_events(piece: TradeSlice, started: NDArray[np.int32]) -> Iterator[SequenceEvent]:
    for place in started.tolist():
        number = int(piece.batch.columns.sequences[piece.rows[place]])
        yield from _ledger(piece, place, ((EventKind.SESSION_STARTED, 1, number, number),))


def _ledger(piece: TradeSlice, place: int, events: Iterable[Event]) -> Iterator[SequenceEvent]:
    """Yield the ledger's rows of what one trade caused."""
    columns, source, row = piece.batch.columns, piece.batch.source, int(piece.rows[place])
    for kind, session, first, last in events:
        exchange, symbol = SYMBOLS.name(int(columns.symbols[row]))
        timestamp, offset = int(columns.timestamps[row]), piece.batch.offset(row)
        yield SequenceEvent(
            exchange, symbol, session, kind, first, last, timestamp, source.topic, source.partition, offset
        )
