"""Rows of the ledger `sequence_events`: sessions started, gaps opened and filled, also those of connections."""

from enum import StrEnum
from typing import NamedTuple

__all__ = ["EventKind", "SequenceEvent"]


class EventKind(StrEnum):
    """What happened to a symbol's numbering."""

    SESSION_STARTED = "session_started"
    GAP_OPENED = "gap_opened"
    GAP_FILLED = "gap_filled"
    CONNECTION_GAP = "connection_gap"
    """Numbers of a connection that are missing; the symbol is the connection's name (`k2.model.connections`)."""
    CONNECTION_GAP_FILLED = "connection_gap_filled"
    FEED_GAP = "feed_gap"
    """Numbers that a feed passed over, whether or not another feed has brought them (`k2.sequencing.feeds`)."""
    FEED_GAP_FILLED = "feed_gap_filled"
    GAP_ACCEPTED = "gap_accepted"
    """Missing numbers that will not come, by a decision (`k2.model.decisions`), not by a message."""
    GAP_ACCEPTANCE_UNDONE = "gap_acceptance_undone"


class SequenceEvent(NamedTuple):
    """One row of the ledger, with the Kafka coordinates of the message that caused it.

    The numbers missing now are those covered by `gap_opened` rows but not by `gap_filled` rows; of a connection, those
    covered by `connection_gap` but not by `connection_gap_filled`.
    """

    exchange: str
    symbol: str
    session: int
    event: EventKind
    first_sequence: int
    last_sequence: int
    """Inclusive."""
    timestamp: int
    """Venue time of the trade that caused it, or Kafka timestamp of the message of a connection, microseconds since the
    epoch, UTC."""
    topic: str
    partition: int
    offset: int
    is_owed: bool = False
    """Whether a crash prevented the event from being written with its trade, which is in the table."""

    @property
    def missing(self) -> int:
        """Number of sequence numbers in the range; 0 for the start of a session."""
        return 0 if self.event is EventKind.SESSION_STARTED else self.last_sequence - self.first_sequence + 1
