"""Sequence tracking of whole batches: the rules of `k2.sequencing.sequence` at the cost of a compiled loop."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.content import CONTENT_KEY, NON_MARKET_CONTENT
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.state_source import (
    AnnouncedNumber,
    NumberDoubt,
    Positions,
    Ranges,
    StoredContents,
    StoredSession,
    WantedContents,
)
from k2.model.symbols import Symbols
from k2.model.verdicts import HEAD, SKIPPED, STORED
from k2.sequencing.content_lookup import WINDOW_US_MIN, ContentLookup, GroupClock, SliceSymbol, SlotContents, pages_of
from k2.sequencing.fingerprints import NO_PAGE, PAGE_BITS, PAGE_NUMBERS, Fingerprints, find_page
from k2.sequencing.gap_counts import GapCounts
from k2.sequencing.heads import HEAD_GRACE_US, TradePartitions, no_heads
from k2.sequencing.kernel_layout import (
    CHECKED,
    COLUMNS,
    DOUBTED,
    EVENT_COLUMNS,
    HIGHEST,
    OLD_HIGHEST,
    RANGE_COUNT,
    SESSION,
    TOP_PAGE,
    no_ranges,
)
from k2.sequencing.placement import Kind, Placement
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.session import Doubt
from k2.sequencing.slot_states import update_sequence, write_slot
from k2.sequencing.symbol_slots import SymbolSlots
from k2.sequencing.tracked import Findings, OpenGaps, Tracked, first_new, with_first
from k2.sequencing.tracker_kernel import TrackedColumns, evidence_at, follow, heads_only, tracked_columns
from k2.venues import VENUES

__all__ = ["FORMAT", "GroupTracker"]

FORMAT: Final = 4
_STATE_COLUMNS: Final = 5
"""Number of slot columns that are part of the state; the other columns are rebuilt by each process."""
_CAPACITY: Final = 64
PAGES_AHEAD: Final = 8
"""Free pages for the symbols of a slice that come to the next one, next to those that its rows fill. A row that finds
no free page leaves the loop."""
_MIN: Final = int(np.iinfo(np.int64).min)
ContentReader = Callable[[Sequence[WantedContents], int], StoredContents]
"""Signature of `k2.model.state_source.StateSource.contents`."""


class GroupTracker:
    """The numberings of one key group's symbols, regardless of the partitions of their trades.

    Each symbol has a slot of a few integers, and the highest ranges of its newest session. They suffice for rows that
    continue that session, copy its trades, open a gap or fill one of the highest, or are the first to contradict a
    stored trade, which are handled in a compiled loop. A symbol with a gap below those, a second session or a doubt
    also has a `SymbolSequence`, which decides all other rows; it is brought up to date from the slot and the ranges
    before each use. Verdicts, sessions and events are those of `SymbolSequence` row by row, regardless of how the rows
    are split into slices.

    Contents of the last two windows are kept as fingerprints. Contents stored before the process started are read with
    `read_contents` when a row first needs one. The state has no contents.

    On replay, rows below the committed offsets (`absorb`) are not judged again, so their earlier verdicts stand.
    """

    def __init__(
        self,
        state: dict[str, Any] | None = None,
        window_us: int = WINDOW_US_MIN,
        read_contents: ContentReader | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        """Start empty, or from a state returned by `snapshot`, with the registry `symbols` or one of its own.

        Raises:
            StateError: the state was written in a format that this version does not read.
        """
        self._symbols = Symbols() if symbols is None else symbols
        self._slots: NDArray[np.int64] = np.zeros((_CAPACITY, COLUMNS), dtype=np.int64)
        self._symbol_slots = SymbolSlots()
        self._sequences: dict[int, SymbolSequence] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._committed: Positions = {}
        self._fingerprints = Fingerprints()
        self._clock = GroupClock(max(window_us, WINDOW_US_MIN))
        self._lookup = ContentLookup(self._fingerprints, read_contents)
        self._heads, self._partitions = no_heads(_CAPACITY), TradePartitions()
        self._ranges = no_ranges(_CAPACITY)
        self._gaps = GapCounts()
        if state is not None:
            self._restore(state)

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self._symbol_slots)

    @property
    def positions(self) -> Positions:
        """Next offset of this state in each topic partition."""
        return self._positions

    @property
    def fingerprints(self) -> Fingerprints:
        """The contents of recently stored numbers."""
        return self._fingerprints

    def absorb(
        self,
        stored: Iterable[StoredSession],
        committed: Positions = MappingProxyType({}),
        doubts: Iterable[NumberDoubt] = (),
        announced: Iterable[AnnouncedNumber] = (),
    ) -> None:
        """Bring the state up to the table, before the first row is judged.

        Args:
            stored: numbers in the table that this state may lack.
            committed: committed offsets. Rows below them have been judged (they are in the table, dead letters, or
                dropped) and are ignored.
            doubts: all doubts that those rows left.
            announced: all announced numbers that those rows left.
        """
        self._committed = committed
        changed = dict[int, SymbolSequence]()
        for one in stored:
            sequence = self._cached_sequence(changed, self._slot(one.key.exchange, one.key.symbol))
            sequence.absorb(one.key.session, one.ranges, one.latest, one.earliest)
        for slot in np.flatnonzero(self._ranges[: len(self), DOUBTED]).tolist():
            self._cached_sequence(changed, slot).doubt = None
        for doubt in doubts:
            if doubt.sequence is not None:
                sequence = self._cached_sequence(changed, self._slot(doubt.exchange, doubt.symbol))
                sequence.doubt = Doubt(doubt.sequence, doubt.at)
        for slot in [slot for slot, sequence in self._sequences.items() if sequence.announced]:
            self._cached_sequence(changed, slot).announced.clear()
        for named in announced:
            sequence = self._cached_sequence(changed, self._slot(named.key.exchange, named.key.symbol))
            sequence.set_announced(named.key.session, named.number)
        for slot, sequence in changed.items():
            if sequence.sessions:
                self._update_slot(slot, sequence)
        self._count_gaps()

    def _cached_sequence(self, sequences: dict[int, SymbolSequence], slot: int) -> SymbolSequence:
        """Return a slot's `SymbolSequence` from `sequences`; create and add it if absent."""
        sequence = sequences.get(slot)
        if sequence is None:
            sequence = sequences[slot] = self._sequence(slot)
        return sequence

    def missing(self, exchange: str, symbol: str) -> tuple[Ranges, ...]:
        """Return the missing ranges of one symbol, one element per session; the symbol must have been seen."""
        return self._sequence(int(self._symbol_slots.of[self._symbols.intern(exchange, symbol)])).missing()

    def track(self, trade_slice: TradeSlice) -> Tracked:
        """Place every row that has a sequence number, if the venue's numbers are contiguous, ranges included.

        Other rows keep their verdict and session. Head numbers are compared with what has arrived, whatever the numbers
        of their venue mean: it may be a second view of a contiguous one. A non-market trade is placed like the others,
        because its number is not missing, and stays `SKIPPED`; it gets a session only if its number is new. The given
        slice is not changed.
        """
        trade_slice = trade_slice.with_ids_of(self._symbols)
        is_contiguous = VENUES[trade_slice.batch.source.venue].is_contiguous
        if not len(trade_slice) or not (is_contiguous or (trade_slice.verdicts == HEAD).any()):
            return Tracked(trade_slice, [], Counter())
        source, columns = trade_slice.batch.source, tracked_columns(trade_slice.batch)
        self._make_slots(columns.symbols[trade_slice.rows])
        self._make_room(PAGES_AHEAD + len(trade_slice) // PAGE_NUMBERS)
        kafka_times = trade_slice.batch.kafka_timestamps_of(trade_slice.rows)
        self._partitions.note(trade_slice, kafka_times, self._symbol_slots)
        slice_idx = first_new(trade_slice, self._committed.get(source.topic_partition, 0))
        if is_contiguous:
            self._positions[source.topic_partition] = trade_slice.batch.offset(int(trade_slice.rows[-1])) + 1
            self._clock.advance(kafka_times[slice_idx:])
        else:
            columns = heads_only(columns, trade_slice.rows[trade_slice.verdicts == HEAD])
        trade_slice = replace(trade_slice, verdicts=trade_slice.verdicts.copy(), sessions=trade_slice.sessions.copy())
        events = np.empty((len(trade_slice), EVENT_COLUMNS), dtype=np.int64)
        findings = Findings()
        while True:
            slice_idx, count = follow(
                slice_idx,
                trade_slice.rows,
                columns,
                CONTENT_KEY,
                self._symbol_slots.of,
                self._slots,
                self._heads,
                HEAD_GRACE_US if source.is_live else 0,
                self._ranges,
                self._fingerprints.pages,
                trade_slice.verdicts,
                trade_slice.sessions,
                events,
            )
            self._gaps.add(findings.add_compiled(trade_slice, events[:count]))
            if slice_idx == len(trade_slice):
                return findings.tracked(trade_slice)
            if trade_slice.verdicts[slice_idx] == HEAD:
                self._announce(trade_slice, slice_idx, findings)
            elif (first := self._place(trade_slice, columns, slice_idx, findings).first) is not None:
                trade_slice = with_first(trade_slice, slice_idx, first)
            slice_idx += 1

    def _announce(self, trade_slice: TradeSlice, slice_idx: int, findings: Findings) -> None:
        """Note the overdue number of a message that names one, and wait for the number that it names itself."""
        batch, row = trade_slice.batch, int(trade_slice.rows[slice_idx])
        source, columns = batch.source, batch.columns
        slot, number = int(self._symbol_slots.of[columns.symbols[row]]), int(columns.sequences[row])
        kafka_time = int(batch.kafka_timestamps_of(trade_slice.rows[slice_idx : slice_idx + 1])[0])
        overdue, since = self._heads[slot].tolist() if source.is_live else (number, kafka_time)
        if source.is_live and not self._partitions.are_read(slot, source.topic_partition, since + HEAD_GRACE_US):
            return
        self._heads[slot] = number, kafka_time
        sequence = self._sequence(slot)
        range_count = len(sequence.announced)
        if events := sequence.announce(overdue):
            self._update_slot(slot, sequence)
            self._gaps.add_events(self._exchange(slot), events, len(sequence.announced) - range_count)
            findings.add_events(trade_slice, slice_idx, events, since)
            findings.add_announced(trade_slice, slice_idx, len(sequence.sessions), overdue, since)
            findings.add_newest_missing(trade_slice, slice_idx, events)

    def _place(self, trade_slice: TradeSlice, columns: TrackedColumns, slice_idx: int, findings: Findings) -> Placement:
        """Place one row with its `SymbolSequence`; add what it caused to `findings`."""
        row = int(trade_slice.rows[slice_idx])
        slot, number = int(self._symbol_slots.of[columns.symbols[row]]), int(columns.content.sequences[row])
        content, at, is_named, kafka_time = evidence_at(columns, row, CONTENT_KEY)
        is_market = trade_slice.verdicts[slice_idx] != SKIPPED
        first = int(columns.first_sequences[row])
        pages = pages_of(first, number)
        self._make_room(pages)
        sequence = self._sequence(slot)
        # The contents of earlier sessions are in memory if the row before was of the same page.
        begun, is_checked = sequence.session_at(int(at)), self._slots[slot, CHECKED] == number >> PAGE_BITS
        if self._lookup.lacks(slot, sequence, number, begun, is_checked=is_checked):
            self._make_room(self._lookup.plan(self._symbols_from(trade_slice, columns, slice_idx, begun)))
            self._lookup.read(self._clock.floor, self._clock.reached)
            self._make_room(pages)
        assert isinstance(sequence.contents, SlotContents)
        sequence.contents.kafka_time = int(kafka_time)
        doubt, announced = sequence.doubt, dict(sequence.announced)
        placement = sequence.place(
            number,
            int(at),
            int(content) if is_market else NON_MARKET_CONTENT,
            is_named=bool(is_named) and is_market,
            first=first,
            is_counted=VENUES[trade_slice.batch.source.venue].counts_numbers,
            is_in_stream=trade_slice.batch.source.is_in_stream(int(columns.messages[row])),
        )
        if sequence.doubt != doubt:
            findings.add_doubt(trade_slice, slice_idx, sequence.doubt)
        for session in announced.keys() - sequence.announced.keys():
            findings.add_announced(trade_slice, slice_idx, session, None, int(at))
        if is_market:
            trade_slice.verdicts[slice_idx] = placement.verdict
        if is_market or placement.verdict == STORED:
            trade_slice.sessions[slice_idx] = placement.session
        # Of the session that was the newest only this number was checked.
        has_begun = placement.kind is Kind.NEW_SESSION
        is_unknown = has_begun and self._lookup.lacks(slot, sequence, number, is_checked=True)
        self._update_slot(slot, sequence, _MIN if is_unknown else number >> PAGE_BITS)
        self._gaps.add_events(self._exchange(slot), placement.events, placement.range_change)
        findings.add_events(trade_slice, slice_idx, placement.events)
        if placement.out_of_order:
            findings.add_out_of_order(trade_slice, slice_idx)
        return placement

    def _symbols_from(
        self, trade_slice: TradeSlice, columns: TrackedColumns, slice_idx: int, begun: int | None
    ) -> Iterator[SliceSymbol]:
        """Yield the symbols with a session and rows from `slice_idx` on, and their numbers; `begun` is of the first."""
        first_slot = self._symbol_slots.of[columns.symbols[trade_slice.rows[slice_idx]]]
        rows = trade_slice.rows[slice_idx:]
        rows = rows[columns.has_sequence[rows]]
        slots = self._symbol_slots.of[columns.symbols[rows]]
        order = np.argsort(slots)
        for selected in np.split(order, np.flatnonzero(np.diff(slots[order])) + 1):
            slot = int(slots[selected[0]])
            if self._slots[slot, SESSION]:
                names = self._symbols.name(self._symbol_slots.symbol_ids[slot])
                numbers = np.unique(columns.content.sequences[rows[selected]])
                yield SliceSymbol(slot, *names, self._sequence(slot), numbers, begun if slot == first_slot else None)

    def _make_room(self, pages: int = 1) -> None:
        if self._fingerprints.free_count >= pages:
            return
        slots = self._slots[: len(self)]
        self._fingerprints.make_room(pages, self._clock.floor, slots[:, SESSION].copy(), slots[:, HIGHEST].copy())

    def _sequence(self, slot: int) -> SymbolSequence:
        """Return a symbol's `SymbolSequence`, brought up to date from its slot and its highest ranges."""
        sequence = self._sequences.get(slot)
        if sequence is None:
            sequence = SymbolSequence(SlotContents(self._fingerprints, slot))
        if self._slots[slot, SESSION]:
            update_sequence(self._slots[slot], self._ranges[slot], sequence)
        return sequence

    def _update_slot(self, slot: int, sequence: SymbolSequence, checked: int = _MIN) -> None:
        """Update a slot from its `SymbolSequence`; keep the latter only if the slot cannot represent it.

        `checked` is the number of the page whose contents are all in memory.
        """
        session = len(sequence.sessions)
        if session > self._slots[slot, SESSION]:
            # A number that was named before numbering began again says nothing of the numbers that follow.
            self._heads[slot] = no_heads(1)[0]
        page = find_page(self._fingerprints.pages, slot, session, sequence.sessions[-1].numbers.highest)
        write_slot(self._slots[slot], self._ranges[slot], sequence, page, checked)
        if session > 1 or sequence.sessions[-1].numbers.gap_count or not sequence.is_certain:
            self._sequences[slot] = sequence
        else:
            self._sequences.pop(slot, None)

    def _slot(self, exchange: str, symbol: str) -> int:
        symbol_id = self._symbols.intern(exchange, symbol)
        self._make_slots(np.array([symbol_id], dtype=np.int32))
        return int(self._symbol_slots.of[symbol_id])

    def _make_slots(self, symbols: NDArray[np.int32]) -> None:
        """Assign a slot to each symbol that has none."""
        added = self._symbol_slots.add(symbols)
        if not added:
            return
        if len(self) > len(self._slots):
            more = 2 * len(self) - len(self._slots)
            self._slots = np.pad(self._slots, ((0, more), (0, 0)))
            self._heads = np.concatenate([self._heads, no_heads(more)])
            self._ranges = np.concatenate([self._ranges, no_ranges(more)])
        self._gaps.add_exchanges(self._exchange(slot) for slot in range(len(self) - added, len(self)))
        self._make_room(added)

    def open_gaps(self) -> dict[str, OpenGaps]:
        """Return what is missing in all sessions by exchange; zeros for an exchange without gaps."""
        return self._gaps.by_exchange()

    def _count_gaps(self) -> None:
        """Count all gaps, after sequences have changed otherwise than by trades."""
        self._gaps = GapCounts()
        self._gaps.add_exchanges(self._exchange(slot) for slot in range(len(self)))
        for slot in self._slots_with_sequences():
            self._gaps.add_symbol(self._exchange(slot), self._sequence(slot))

    def _exchange(self, slot: int) -> str:
        return self._symbols.name(self._symbol_slots.symbol_ids[slot])[0]

    def _slots_with_sequences(self) -> list[int]:
        """Return the slots that have more than one range of numbers, or a doubt, ascending."""
        ranges = self._ranges[: len(self)]
        return sorted({*self._sequences, *np.flatnonzero(ranges[:, RANGE_COUNT] | ranges[:, DOUBTED]).tolist()})

    def snapshot(self) -> dict[str, object]:
        """Return the state as builtins, with symbols by name; later rows do not change the returned value."""
        return {
            "format": FORMAT,
            "positions": [
                [topic_partition.topic, topic_partition.partition, offset]
                for topic_partition, offset in self._positions.items()
            ],
            "symbols": [[*self._symbols.name(symbol_id)] for symbol_id in self._symbol_slots.symbol_ids],
            "slots": self._slots[: len(self), :_STATE_COLUMNS].astype("<i8").tobytes(),
            "sequences": {slot: self._sequence(slot).snapshot() for slot in self._slots_with_sequences()},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise StateError(
                f"the recovery store's sequence state has format {state.get('format')!r}; this version reads"
                f" {FORMAT}: run the version that wrote it, or start without that store to rebuild the state"
            )
        self._positions = {TopicPartition(topic, partition): offset for topic, partition, offset in state["positions"]}
        self._symbol_slots = SymbolSlots(self._symbols.intern(*name) for name in state["symbols"])
        self._slots = np.zeros((max(len(self), _CAPACITY), COLUMNS), dtype=np.int64)
        columns = np.frombuffer(state["slots"], dtype="<i8")
        self._slots[: len(self), :_STATE_COLUMNS] = columns.reshape(len(self), _STATE_COLUMNS)
        self._heads, self._ranges = no_heads(len(self._slots)), no_ranges(len(self._slots))
        self._slots[:, OLD_HIGHEST] = self._slots[:, CHECKED] = _MIN
        self._slots[:, TOP_PAGE] = NO_PAGE
        for slot, sequence in state["sequences"].items():
            self._update_slot(slot, SymbolSequence.restore(sequence, SlotContents(self._fingerprints, slot)))
        self._count_gaps()
