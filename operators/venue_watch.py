"""What sampled messages show of their venue: how its clock compares with Kafka's, and how its form changes."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import structlog

from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.reasons import Reason
from k2.ops.metrics import VENUE_DRIFT, VENUE_SKEW
from k2.venues import VENUES
from k2.venues.decode import Decoded
from k2.venues.skew import skew_seconds
from k2.venues.table_drift import Change

__all__ = ["VenueWatch"]

COMPARED_SECONDS: Final = 1.0
"""Time between the trades of a venue that are compared, so that small batches cost no more than large ones."""
DEAD_LETTERS_MAX: Final = 4
"""Dead letters of a batch that are looked at, so that a flood of them costs no more than decoding them."""
LOGGED_MAX: Final = 100
"""Changes of a venue that are logged; further ones are counted only, so that hostile keys fill no memory."""

_LOG = structlog.get_logger()


class VenueWatch:
    """Measures the skew of a few trades of each batch, and compares a few messages with the venue's table.

    Compared are one message with a trade a second, the first of its batch, and the first dead letters of each batch.
    What is logged is not persisted: each process logs a change once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._compared_at: dict[str, float] = {}
        self._logged: dict[str, set[object]] = {}

    def add(self, decoded: Decoded) -> None:
        """Measure and compare samples of a batch."""
        source = decoded.trades.source
        # A fill is late, and its form that of no venue.
        if not source.is_live:
            return
        if source.venue not in self._logged:
            self._begin(source.venue)
        skew = VENUE_SKEW.labels(source.venue)
        for seconds in skew_seconds(decoded.trades).tolist():
            skew.observe(seconds)
        for message_idx in self._sample(decoded):
            self._compare(source, message_idx)

    def _sample(self, decoded: Decoded) -> Iterator[int]:
        """Yield the messages to compare; of the dead letters, those that are JSON."""
        venue, now = decoded.trades.source.venue, self._clock()
        if len(decoded.trades.columns) and now - self._compared_at.get(venue, -math.inf) >= COMPARED_SECONDS:
            self._compared_at[venue] = now
            yield int(decoded.trades.columns.messages[0])
        rejected = [at for at, error in decoded.rejected if error.reason in {Reason.INVALID, Reason.UNSUPPORTED}]
        yield from rejected[:DEAD_LETTERS_MAX]

    def _begin(self, venue: str) -> None:
        """Create the series of a venue at 0, because Prometheus does not count an increment that begins a series."""
        self._logged.setdefault(venue, set())
        for change in Change:
            VENUE_DRIFT.labels(venue, str(change))

    def _compare(self, source: MessageBatch, message_idx: int) -> None:
        finder, value = VENUES[source.venue].drift, source.value(message_idx)
        if finder is None or value is None:
            return
        logged = self._logged[source.venue]
        for one in finder.drift(value):
            VENUE_DRIFT.labels(source.venue, str(one.change)).inc()
            if one.identity in logged or len(logged) >= LOGGED_MAX:
                continue
            logged.add(one.identity)
            received = int(source.kafka_timestamps[message_idx])
            _LOG.warning(
                "venue_drift",
                venue=source.venue,
                change=str(one.change),
                path=one.path,
                value=one.value,
                first_seen=None if received == NULL_TIME else f"{np.datetime64(received, 'us')}Z",
                example=f"{source.topic}:{source.partition}:{source.offsets[message_idx]}",
                hint="compare the venue's documentation with its table (k2 venues show)",
            )
