"""Sequence tracking: each row its verdict and session, and the events of the ledger."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic

from k2.model.batch import TradeSlice
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import NO_STATE_SOURCE, StateSource
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.metrics import GAPS_DETECTED, GAPS_FILLED, OPEN_GAPS, OUT_OF_ORDER, RESETS_DETECTED
from k2.sequencing.ledger import owed_events
from k2.sequencing.monotonic import GroupDisorder
from k2.sequencing.tracker import GroupTracker, Tracked

__all__ = ["SequencedStreams", "sequence"]

MICROSECONDS: Final = 1_000_000
MONOTONIC: Final = "monotonic"
"""Where a group's state holds what `monotonic` venues need."""


@dataclass(frozen=True)
class SequencedStreams:
    """What comes out of `sequence`."""

    trades: KeyedStream[TradeSlice]
    """The same rows, with verdicts and sessions."""
    events: Stream[list[SequenceEvent]]


def sequence(
    step_id: str, trades: KeyedStream[TradeSlice], gap_large_min: int, window_seconds: int, history: StateSource
) -> SequencedStreams:
    """Track the numbers of every symbol of a key group, as its venue gives them.

    State is part of the recovery snapshot and moves with its key group when workers are added or taken away. Where
    the table is ahead of it, or it is lost, what is in the table is taken over first, and the rows that a replay brings
    again are not judged again: so it gives verdicts that fit the rows, in whatever order.
    """
    window_us = window_seconds * MICROSECONDS
    tracked = op.stateful_batch(step_id, trades, partial(_SequenceLogic, gap_large_min, window_us, history))
    return SequencedStreams(
        trades=op.map_value(f"{step_id}_trades", tracked, _piece),
        events=op.filter_map(f"{step_id}_events", tracked, _events),
    )


class _SequenceLogic(StatefulBatchLogic[TradeSlice, Tracked, dict[str, Any]]):
    @reports_errors
    def __init__(self, gap_large_min: int, window_us: int, history: StateSource, state: dict[str, Any] | None) -> None:
        self._gap_large_min = gap_large_min
        self._history: StateSource | None = history
        self._tracker = GroupTracker(state, window_us, None if history is NO_STATE_SOURCE else history.contents)
        self._disorder = GroupDisorder(None if state is None else state.get(MONOTONIC))
        self._open_gaps: dict[str, int] = {}
        self._tell_open_gaps()
        if state is not None:
            history.resumed(self._tracker.positions)

    @reports_errors
    def on_batch(self, values: list[TradeSlice]) -> tuple[Iterable[Tracked], bool]:
        """Track each slice, in the order in which they came."""
        owed = self._catch_up(values[0].group)
        tracked = [self._tracker.track(piece) for piece in values]
        for piece in values:
            _tell_disorder(self._disorder.out_of_order(piece))
        if owed:
            tracked[0] = replace(tracked[0], events=[*owed, *tracked[0].events])
        for one in tracked:
            self._tell(one)
        return tracked, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        """Return the key group's state."""
        failpoint("sequence.snapshot")
        return {**self._tracker.snapshot(), MONOTONIC: self._disorder.snapshot()}

    def _catch_up(self, group: int) -> list[SequenceEvent]:
        """Bring the state up to the table, once; give the events that the ledger still owes for that."""
        history, self._history = self._history, None
        if history is None:
            return []
        seen = list(history.sessions(group))
        self._tracker.absorb(seen, history.committed(group), history.doubts(group))
        self._tell_open_gaps()
        return list(owed_events(seen, self._tracker, history.ledger())) if seen else []

    def _tell(self, tracked: Tracked) -> None:
        _tell_disorder(tracked.out_of_order)
        for event in tracked.events:
            _count(event, self._gap_large_min)
        if tracked.events:
            self._tell_open_gaps()

    def _tell_open_gaps(self) -> None:
        now = self._tracker.open_gaps()
        change = Counter(now)
        change.subtract(self._open_gaps)
        for exchange, difference in change.items():
            OPEN_GAPS.labels(exchange).inc(difference)
        self._open_gaps = now


def _tell_disorder(out_of_order: Counter[str]) -> None:
    for exchange, count in out_of_order.items():
        OUT_OF_ORDER.labels(exchange).inc(count)


def _count(event: SequenceEvent, gap_large_min: int) -> None:
    match event.event:
        case EventKind.GAP_OPENED:
            size = "large" if event.missing >= gap_large_min else "small"
            GAPS_DETECTED.labels(event.exchange, size).inc()
        case EventKind.GAP_FILLED:
            GAPS_FILLED.labels(event.exchange).inc()
        case EventKind.SESSION_STARTED if event.session > 1:
            RESETS_DETECTED.labels(event.exchange).inc()


def _piece(tracked: Tracked) -> TradeSlice:
    return tracked.trade_slice


def _events(item: tuple[str, Tracked]) -> list[SequenceEvent] | None:
    _, tracked = item
    return tracked.events or None
