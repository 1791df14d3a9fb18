"""Connections for tests: slices of numbered messages, and what the events of a ledger leave as missing."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from k2.model.connections import ConnectionKey, ConnectionSlice
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.model.state_source import Ranges
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.ranges import difference

__all__ = ["connection_slice", "key_of", "missing_numbers", "missing_ranges"]


def connection_slice(
    numbers: Sequence[int], offsets: Sequence[int] | int = 0, partition: int = 0, name: str | None = "a"
) -> ConnectionSlice:
    """Return numbers as those of one batch; offsets from one number on, and Kafka timestamps of 1,000 times these."""
    if isinstance(offsets, int):
        offsets = range(offsets, offsets + len(numbers))
    places = np.array(offsets, dtype=np.int64)
    return ConnectionSlice(
        "venue", TopicPartition("topic", partition), name, np.array(numbers, dtype=np.int64), places, places * 1_000
    )


def key_of(event: SequenceEvent) -> ConnectionKey:
    """Return the connection of an event."""
    return ConnectionKey(event.exchange, event.topic, event.symbol, event.session)


def missing_ranges(events: Iterable[SequenceEvent]) -> dict[ConnectionKey, Ranges]:
    """Return what events of connections leave as missing, in whatever order they come; no connection without any."""
    sets: defaultdict[tuple[ConnectionKey, EventKind], IntervalSet] = defaultdict(IntervalSet)
    for event in events:
        sets[key_of(event), event.event].add_range(event.first_sequence, event.last_sequence)
    found = {}
    for (key, kind), opened in [*sets.items()]:
        if kind is EventKind.CONNECTION_GAP:
            filled = sets[key, EventKind.CONNECTION_GAP_FILLED]
            found[key] = difference(tuple(opened.ranges()), tuple(filled.ranges()))
    return {key: ranges for key, ranges in found.items() if ranges}


def missing_numbers(events: Iterable[SequenceEvent]) -> dict[str, set[int]]:
    """Return the missing numbers by the connection's name."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for key, ranges in missing_ranges(events).items():
        for first, last in ranges:
            found[key.name] |= {*range(first, last + 1)}
    return dict(found)
