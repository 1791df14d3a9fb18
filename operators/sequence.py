"""Sequence operator: assigns each row its verdict and session, and emits the events of the ledger."""

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import bytewax.operators as op
import structlog
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic

from k2.model.batch import TradeSlice
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import NO_STATE_SOURCE, GroupState, StateSource
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.metrics import (
    GAPS_DETECTED,
    GAPS_FILLED,
    MISSING_NUMBERS,
    NEWEST_MISSING,
    OPEN_GAPS,
    OUT_OF_ORDER,
    RESETS_DETECTED,
)
from k2.sequencing.monotonic import GroupDisorder
from k2.sequencing.owed_events import owed_events, with_announced
from k2.sequencing.tracked import NewestMissing, OpenGaps, Tracked
from k2.sequencing.tracker import GroupTracker

__all__ = ["SequencedStreams", "sequence"]

MONOTONIC: Final = "monotonic"
"""Key of the state of `monotonic` venues in the state of a key group."""
CHECKPOINT_ROWS: Final = 100_000
"""Rows of a key group from one checkpoint to the next, which a start reads."""
CHECKPOINT_SECONDS: Final = 120.0
"""Time after which a group with fewer rows has a checkpoint, because a start opens each file committed since."""
OWED_EPOCHS: Final = 2
"""The epoch that emits owed events, and the one after: it may close while the ledger still writes those."""
OWED_SECONDS: Final = 1.0
"""How long to wait for the end of an epoch that writes owed events."""

_LOG = structlog.get_logger()


@dataclass(frozen=True)
class SequencedStreams:
    """Output streams of `sequence`."""

    trades: KeyedStream[TradeSlice]
    """The same rows, with verdicts and sessions."""
    events: Stream[list[SequenceEvent]]


def sequence(
    step_id: str,
    trades: KeyedStream[TradeSlice],
    gap_large_min: int,
    window_seconds: int,
    state_source: StateSource,
    symbols: Symbols,
) -> SequencedStreams:
    """Track the sequence numbers of every symbol of a key group.

    The state is part of the recovery snapshot and moves with its key group when the number of workers changes. If the
    state is lost or older than the table, it is first brought up to date from the table. Rows that a replay reads
    again are not judged again, so verdicts agree with the stored rows, in whatever order partitions are replayed.
    """
    logic = partial(_SequenceLogic, gap_large_min, window_seconds * SECOND_US, state_source, symbols)
    tracked = op.stateful_batch(step_id, trades, logic)
    return SequencedStreams(
        trades=op.map_value(f"{step_id}_trades", tracked, _trade_slice),
        events=op.filter_map(f"{step_id}_events", tracked, _events),
    )


class _SequenceLogic(StatefulBatchLogic[TradeSlice, Tracked, dict[str, Any]]):
    @reports_errors
    def __init__(
        self,
        gap_large_min: int,
        window_us: int,
        state_source: StateSource,
        symbols: Symbols,
        state: dict[str, Any] | None,
    ) -> None:
        self._gap_large_min = gap_large_min
        self._state_source: StateSource | None = state_source
        self._window_us, self._symbols = window_us, symbols
        self._read_contents = None if state_source is NO_STATE_SOURCE else state_source.contents
        self._is_resumed = state is not None
        self._open_gaps: dict[str, OpenGaps] = {}
        self._restore(state)
        self._rows_since_checkpoint, self._checkpoint_at = 0, -math.inf
        self._no_rows: TradeSlice | None = None
        """An empty slice of the group."""
        self._epochs_with_owed_events = 0
        """Epochs until events of trades committed earlier, which this run has emitted, are surely in the ledger."""
        if state is not None:
            state_source.report_positions(self._tracker.positions)

    def _restore(self, state: dict[str, Any] | None) -> None:
        self._tracker = GroupTracker(state, self._window_us, self._read_contents, self._symbols)
        self._disorder = GroupDisorder(None if state is None else state.get(MONOTONIC), self._symbols)
        self._report_open_gaps()

    @reports_errors
    def on_batch(self, values: list[TradeSlice]) -> tuple[Iterable[Tracked], bool]:
        """Track the slices in order; the first call also emits the events that the ledger lacks."""
        if self._no_rows is None:
            self._no_rows = _without_rows(values[0])
        owed = self._catch_up(values[0].group)
        values = [replace(values[0], state=self._take_checkpoint(values)), *values[1:]]
        tracked = [self._tracker.track(trade_slice) for trade_slice in values]
        for one in tracked:
            _count_out_of_order(self._disorder.out_of_order(one.trade_slice))
        if owed:
            tracked[0] = replace(tracked[0], events=[*owed, *tracked[0].events])
        for one in tracked:
            self._count_events(one)
        return tracked, StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        """Return when a checkpoint is due if no batch follows; None if all rows are in one."""
        if not self._rows_since_checkpoint:
            return None
        age = time.monotonic() - self._checkpoint_at
        # Owed events are written at the end of the epoch.
        seconds = OWED_SECONDS if self._epochs_with_owed_events else max(0.0, CHECKPOINT_SECONDS - age)
        return datetime.now(UTC) + timedelta(seconds=seconds)

    @reports_errors
    def on_notify(self) -> tuple[Iterable[Tracked], bool]:
        """Emit an empty slice with the state for a checkpoint."""
        state = self._take_checkpoint([])
        if state is None or self._no_rows is None:
            return [], StatefulBatchLogic.RETAIN
        return [Tracked(replace(self._no_rows, state=state), [], Counter())], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the key group."""
        failpoint("sequence.snapshot")
        self._epochs_with_owed_events = max(0, self._epochs_with_owed_events - 1)
        return self._state()

    def _state(self) -> dict[str, Any]:
        return {**self._tracker.snapshot(), MONOTONIC: self._disorder.snapshot()}

    def _catch_up(self, group: int) -> list[SequenceEvent]:
        """Bring the state up to date with the table, before the first slice only; return events the ledger lacks."""
        state_source, self._state_source = self._state_source, None
        if state_source is None:
            return []
        checkpoint = None if self._is_resumed else state_source.checkpoint(group)
        if checkpoint is not None:
            self._restore(checkpoint.sequence)
        stored, announced = list(state_source.sessions(group)), list(state_source.announced(group))
        self._tracker.absorb(stored, state_source.committed(group), state_source.doubts(group), announced)
        self._report_open_gaps()
        changed = with_announced(stored, announced)
        owed = list(owed_events(changed, self._tracker, state_source.ledger())) if changed else []
        self._epochs_with_owed_events = OWED_EPOCHS if owed else 0
        return owed

    def _take_checkpoint(self, values: list[TradeSlice]) -> GroupState | None:
        """Return the state before some rows if a checkpoint is due: in the first call, then by rows and time.

        Owed events must be in the ledger first: a start from the checkpoint would not read the trades that owe them.
        """
        rows, now = self._rows_since_checkpoint, time.monotonic()
        self._rows_since_checkpoint += sum(map(len, values))
        if self._epochs_with_owed_events:
            return None
        is_old = now - self._checkpoint_at >= CHECKPOINT_SECONDS and (rows or math.isinf(self._checkpoint_at))
        if rows < CHECKPOINT_ROWS and not is_old:
            return None
        self._rows_since_checkpoint, self._checkpoint_at = self._rows_since_checkpoint - rows, now
        return GroupState(self._state())

    def _count_events(self, tracked: Tracked) -> None:
        _count_out_of_order(tracked.out_of_order)
        _count_events(tracked.events, self._gap_large_min)
        for missing in tracked.newest_missing:
            _report_newest_missing(missing)
        if tracked.events:
            self._report_open_gaps()

    def _report_open_gaps(self) -> None:
        now = self._tracker.open_gaps()
        for exchange, gaps in now.items():
            before = self._open_gaps.get(exchange, OpenGaps(0, 0))
            OPEN_GAPS.labels(exchange).inc(gaps.ranges - before.ranges)
            MISSING_NUMBERS.labels(exchange).inc(gaps.numbers - before.numbers)
        self._open_gaps = now


def _count_out_of_order(out_of_order: Counter[str]) -> None:
    for exchange, count in out_of_order.items():
        OUT_OF_ORDER.labels(exchange).inc(count)


def _count_events(events: Iterable[SequenceEvent], gap_large_min: int) -> None:
    counts = Counter(
        (event.event, event.exchange, event.missing >= gap_large_min, event.session > 1) for event in events
    )
    for (kind, exchange, is_large, is_later), count in counts.items():
        match kind:
            case EventKind.GAP_OPENED:
                GAPS_DETECTED.labels(exchange, "large" if is_large else "small").inc(count)
            case EventKind.GAP_FILLED:
                GAPS_FILLED.labels(exchange).inc(count)
            case EventKind.SESSION_STARTED if is_later:
                RESETS_DETECTED.labels(exchange).inc(count)


def _report_newest_missing(missing: NewestMissing) -> None:
    exchange, symbol, first, last = missing
    NEWEST_MISSING.labels(exchange).inc(last - first + 1)
    _LOG.warning(
        "newest_trades_missing",
        exchange=exchange,
        symbol=symbol,
        first_sequence=first,
        last_sequence=last,
        hint="the venue has named these numbers, and no trade has come, so a gap is open: check the feed",
    )


def _without_rows(trade_slice: TradeSlice) -> TradeSlice:
    """Return an empty slice of the same group, which does not hold the batch."""
    rows, verdicts, sessions = trade_slice.rows[:0], trade_slice.verdicts[:0], trade_slice.sessions[:0]
    return replace(
        trade_slice, rows=rows, verdicts=verdicts, sessions=sessions, doubts=(), announced=(), state=None
    ).compact()


def _trade_slice(tracked: Tracked) -> TradeSlice:
    return tracked.trade_slice


def _events(item: tuple[str, Tracked]) -> list[SequenceEvent] | None:
    _, tracked = item
    return tracked.events or None
