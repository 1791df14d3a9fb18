"""Feeds operator: accounts for what each of several feeds brought of the same trades."""

from collections.abc import Iterable
from functools import partial
from typing import Final

import bytewax.operators as op
import numpy as np
from bytewax.operators import KeyedStream, StatefulBatchLogic
from numpy.typing import NDArray

from k2.model.batch import TradeSlice
from k2.model.feeds import FeedDay, FeedSource, GroupFeeds, lag_seconds
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.symbols import Symbols
from k2.ops.error_boundary import reports_errors
from k2.ops.metrics import FEED_FIRST, FEED_LAG, FEED_LOST
from k2.sequencing.feeds import FeedTracker
from operators.tracked import Tracked, TrackedStreams, tracked_streams

__all__ = ["feeds"]

SAMPLES_MAX: Final = 16
"""Lags of a batch that are observed: as many quantiles of all of them, because each takes 0.8 us."""


def feeds(
    step_id: str, trades: KeyedStream[TradeSlice], source: FeedSource | None, symbols: Symbols
) -> TrackedStreams[GroupFeeds]:
    """Account for rows with verdicts and sessions by feed; without a `source` there is no step.

    The state is that of the table, which has it in the commit of the rows, so it does not depend on the recovery store.
    On replay, rows below the committed offsets are ignored.
    """
    if source is None:
        return TrackedStreams()
    tracked = op.stateful_batch(step_id, trades, partial(_FeedLogic, source, symbols))
    return tracked_streams(step_id, tracked)


class _FeedLogic(StatefulBatchLogic[TradeSlice, Tracked[GroupFeeds], dict[str, object]]):
    def __init__(self, source: FeedSource, symbols: Symbols, _: dict[str, object] | None = None) -> None:
        self._source, self._symbols = source, symbols
        self._tracker: FeedTracker | None = None
        self._feed_of = {one.topic: one.feed for one in source.topics}

    @reports_errors
    def on_batch(self, values: list[TradeSlice]) -> tuple[Iterable[Tracked[GroupFeeds]], bool]:
        """Add the slices in order; the first call also emits the events that the ledger lacks."""
        is_first = self._tracker is None
        tracker = self._opened(values[0].group)
        events = [event for one in values for event in tracker.add(one)]
        if not is_first and not any(one.batch.source.topic in self._feed_of for one in values):
            return [], StatefulBatchLogic.RETAIN
        state = tracker.state()
        self._count(events, state.days)
        return [Tracked(state, events)], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, object]:
        """Return nothing: the table has the state."""
        return {}

    def _opened(self, group: int) -> FeedTracker:
        if self._tracker is None:
            # Not before the first batch: by then the ledger is rolled back.
            source = self._source
            ranges = [*source.ranges(group)]
            recorded = source.missing() if ranges else {}
            self._tracker = FeedTracker(
                group, source.topics, self._symbols, ranges, source.events(group), recorded, source.committed(group)
            )
        return self._tracker

    def _count(self, events: Iterable[SequenceEvent], days: Iterable[FeedDay]) -> None:
        for event in events:
            if event.event is EventKind.FEED_GAP and not event.is_owed:
                FEED_LOST.labels(event.exchange, self._feed_of[event.topic]).inc(event.missing)
        for one in days:
            labels = one.exchange, self._feed_of[one.topic]
            # Prometheus does not count the first increment of a series that begins with it.
            FEED_LOST.labels(*labels)
            FEED_FIRST.labels(*labels).inc(one.first)
            for lag in _samples(one.lags):
                FEED_LAG.labels(*labels).observe(lag)


def _samples(lags: NDArray[np.int64]) -> list[float]:
    """Return lags in seconds, of all that int64[buckets] counts, or as many quantiles as are observed."""
    sums = np.cumsum(lags)
    count = min(int(sums[-1]), SAMPLES_MAX)
    ranks = (np.arange(count) + 0.5) * sums[-1] / max(count, 1)
    return [lag_seconds(int(bucket)) for bucket in np.searchsorted(sums, ranks)]
