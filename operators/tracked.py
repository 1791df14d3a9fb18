"""What a step that tracks numbers emits: a state for the commit of what it was seen in, and events for the ledger."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from k2.model.sequence_events import SequenceEvent

__all__ = ["Tracked", "TrackedStreams", "tracked_streams"]

State = TypeVar("State")


@dataclass(frozen=True)
class Tracked(Generic[State]):
    """The state of a key group after some batches, and the events that these caused."""

    state: State
    events: list[SequenceEvent]


@dataclass(frozen=True)
class TrackedStreams(Generic[State]):
    """Output streams of a step that tracks numbers; None if there is no such step."""

    states: KeyedStream[State] | None = None
    """What has been seen in a key group, for the commit of the rows that it was seen in."""
    events: Stream[list[SequenceEvent]] | None = None


def tracked_streams(step_id: str, tracked: KeyedStream[Tracked[State]]) -> TrackedStreams[State]:
    """Split what a step emits; the steps `<step_id>_states` and `<step_id>_events` keep no state."""
    return TrackedStreams(
        states=op.map_value(f"{step_id}_states", tracked, _state),
        events=op.filter_map(f"{step_id}_events", tracked, _events),
    )


def _state(tracked: Tracked[State]) -> State:
    return tracked.state


def _events(item: tuple[str, Tracked[State]]) -> list[SequenceEvent] | None:
    _, tracked = item
    return tracked.events or None
