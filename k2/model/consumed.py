"""What a poll took from a topic partition beside its trades."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from k2.model.dead_letter import DeadLetter

__all__ = ["Consumed"]


@dataclass(frozen=True, slots=True)
class Consumed:
    """What one poll took from a topic partition beside its trades, for a writer's books.

    Every writer is told of every range; the messages without a trade are told to one of them.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    letters: tuple[DeadLetter, ...]
    """The messages that could not be decoded."""
    skipped: NDArray[np.int64]
    """int64: offsets of the messages that are no market trade."""
