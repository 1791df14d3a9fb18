"""Job I/O: the source, the sinks and the state source of the dataflow."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bytewax.inputs import Source
from bytewax.outputs import Sink

from k2.model.batch import MessageBatch, TradeSlice
from k2.model.connections import ConnectionSource, GroupConnections
from k2.model.consumed import Consumed
from k2.model.feeds import FeedSource, GroupFeeds
from k2.model.sequence_events import SequenceEvent
from k2.model.state_source import NO_STATE_SOURCE, StateSource
from k2.model.symbols import Symbols
from operators.silence_watch import unknown_lag

__all__ = ["JobIO"]


@dataclass(frozen=True)
class JobIO:
    """Everything outside the process that the dataflow reads or writes.

    Tests run the same flow with sources and sinks in memory.
    """

    kafka: Source[MessageBatch]
    """Batches of messages, one per poll."""
    iceberg: Sink[tuple[str, TradeSlice | Consumed | GroupConnections | GroupFeeds]]
    """Trades, consumed offsets, connections and feeds, keyed by the index of their writer."""
    events: Sink[tuple[str, list[SequenceEvent]]]
    """Events of the ledger, under one key."""
    state_source: StateSource = NO_STATE_SOURCE
    """State rebuilt from the tables if the recovery store lacks it."""
    symbols: Symbols = field(default_factory=Symbols)
    """The registry of symbol ids that all steps of the process share."""
    connections: ConnectionSource | None = None
    """Connections as the tables have them; None if no topic is read for its numbers of connections."""
    lag: Callable[[], float] = unknown_lag
    """Number of messages that this process has not read yet; NaN if unknown."""
    feeds: FeedSource | None = None
    """Feeds as the tables have them; None without `K2_FEEDS`."""
