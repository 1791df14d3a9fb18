"""The ends of the dataflow: passed in, so that tests run the real flow on ends in memory."""

from dataclasses import dataclass

from bytewax.inputs import Source
from bytewax.outputs import Sink

from k2.model.batch import MessageBatch, TradeSlice
from k2.model.consumed import Consumed
from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import NO_STATE_SOURCE, StateSource

__all__ = ["JobIO"]


@dataclass(frozen=True)
class JobIO:
    """What the dataflow touches of the outside world."""

    kafka: Source[MessageBatch]
    iceberg: Sink[tuple[str, TradeSlice | Consumed]]
    events: Sink[tuple[str, list[SequenceEvent]]]
    history: StateSource = NO_STATE_SOURCE
