"""Connections operator: finds messages that were lost between venue and Kafka, by the numbers of connections."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import StatefulBatchLogic
from numpy.typing import NDArray

from k2.model.batch import MessageBatch
from k2.model.connections import ConnectionSlice, ConnectionSource, GroupConnections
from k2.model.key_groups import GROUPS, group_key
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.ops.error_boundary import reports_errors
from k2.ops.metrics import CONNECTION_GAPS
from k2.sequencing.connections import SETTLE_SECONDS, ConnectionTracker
from k2.venues import VENUES
from operators.tracked import Tracked, TrackedStreams, tracked_streams

__all__ = ["connections"]

_NO_NUMBERS: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)
TICK_SECONDS: Final = 1.0
"""While numbers are missing, time passes by at most this much from call to call: a process that stands still hears from
no partition, which does not mean that they have nothing."""
GroupSlice = tuple[int, ConnectionSlice]
"""A key group and a slice of one of its connections."""
_Found = Tracked[GroupConnections]


def connections(
    step_id: str, messages: Stream[MessageBatch], source: ConnectionSource | None
) -> TrackedStreams[GroupConnections]:
    """Track the numbers of connections, in topics whose venue has them; without a `source` there is no step.

    The state is that of the table, which has it in the commit of the messages, so it does not depend on the recovery
    store. On replay, messages below the committed offsets are ignored.
    """
    if source is None:
        return TrackedStreams()
    slices = op.flat_map(f"{step_id}_read", messages, _slices)
    tracked = op.stateful_batch(step_id, slices, partial(_ConnectionLogic, source, time.monotonic))
    return tracked_streams(step_id, tracked)


def _slices(batch: MessageBatch) -> Iterable[tuple[str, GroupSlice]]:
    """Return a slice for each connection; for the first batch of a partition, an empty one for every key group.

    The empty slices make every group bring its events up to date, and let every writer know that the topic is read for
    its numbers.
    """
    read = VENUES[batch.venue].connection
    # A replayed message was received before, and has its number of that time.
    if read is None or not batch.is_live:
        return ()
    if batch.is_first:
        nothing = ConnectionSlice("", batch.topic_partition, None, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS)
        return [(group_key(group), (group, nothing)) for group in range(GROUPS)]
    return [(group_key(one.group), (one.group, one)) for one in read(batch)]


class _ConnectionLogic(StatefulBatchLogic[GroupSlice, _Found, dict[str, object]]):
    def __init__(
        self, source: ConnectionSource, clock: Callable[[], float], _: dict[str, object] | None = None
    ) -> None:
        self._source, self._clock = source, clock
        self._called_at, self._seconds = clock(), 0.0
        self._tracker: ConnectionTracker | None = None
        self._report_at: float | None = None

    @reports_errors
    def on_batch(self, values: list[GroupSlice]) -> tuple[Iterable[_Found], bool]:
        """Add the slices in order; the first call also emits the events that the ledger lacks."""
        now, tracker = self._now(), self._opened(values[0][0])
        for _, one in values:
            # Prometheus does not count the first increment of a series that begins with it.
            CONNECTION_GAPS.labels(one.exchange)
        events = [event for _, one in values for event in tracker.add(one, now)]
        return [self._found(tracker, events, now)], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        """Return when time is to pass until missing numbers are reported; None if all are."""
        return None if self._report_at is None else datetime.now(UTC) + timedelta(seconds=TICK_SECONDS)

    @reports_errors
    def on_notify(self) -> tuple[Iterable[_Found], bool]:
        """Emit the events of numbers that are in no partition, if it is time."""
        now = self._now()
        is_due = self._report_at is not None and now >= self._report_at
        return self._report(now) if is_due else [], StatefulBatchLogic.RETAIN

    @reports_errors
    def on_eof(self) -> tuple[Iterable[_Found], bool]:
        """Emit the events of all missing numbers: no more messages come."""
        return self._report(self._now(), is_end=True), StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, object]:
        """Return nothing: the table has the state."""
        return {}

    def _opened(self, group: int) -> ConnectionTracker:
        if self._tracker is None:
            # Not before the first batch: by then the ledger is rolled back.
            source = self._source
            seen = [*source.seen(group)]
            self._tracker = ConnectionTracker(group, seen, source.missing() if seen else {}, source.committed(group))
        return self._tracker

    def _now(self) -> float:
        """Return the seconds that have passed for this group."""
        called_at, self._called_at = self._called_at, self._clock()
        self._seconds += min(self._called_at - called_at, TICK_SECONDS)
        return self._seconds

    def _report(self, now: float, *, is_end: bool = False) -> list[_Found]:
        if self._tracker is None or not self._tracker.has_unreported:
            return []
        self._report_at = None
        return [self._found(self._tracker, self._tracker.report(now, is_end=is_end), now)]

    def _found(self, tracker: ConnectionTracker, events: list[SequenceEvent], now: float) -> _Found:
        if not tracker.has_unreported:
            self._report_at = None
        elif self._report_at is None:
            self._report_at = now + SETTLE_SECONDS
        for event in events:
            if event.event is EventKind.CONNECTION_GAP:
                CONNECTION_GAPS.labels(event.exchange).inc()
        return _Found(tracker.state(), events)
