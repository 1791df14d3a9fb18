"""The offset range of a poll and its messages without a trade, for the partition counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k2.model.correction import PlacedCorrection
from k2.model.dead_letter import DeadLetter
from k2.model.last_message import LastMessage

__all__ = ["Consumed"]


@dataclass(frozen=True, slots=True)
class Consumed:
    """The offset range of one poll and its messages without a trade, for a writer's partition counts.

    Every writer receives every range. Only one of them receives the messages without a trade, so that each is counted
    once.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    dead_letters: Sequence[DeadLetter]
    """The messages that could not be decoded."""
    skipped: NDArray[np.int64]
    """int64: offsets of the messages that are neither a trade nor an error."""
    last_message: LastMessage | None = None
    """The last message of the poll; None if it had none."""
    messages: int = 0
    """Number of messages in the poll; 0 for the writers that do not receive those without a trade."""
    corrections: tuple[PlacedCorrection, ...] = ()
    """In the order of their coordinates. Each goes to the writer of its symbol's key group."""
    is_live: bool = True
    """Whether the messages are of the live feed, not replayed dead letters or fills."""
