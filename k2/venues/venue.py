"""What a venue is to the job."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from k2.model.symbols import SymbolTable
from k2.model.trade import Trade

__all__ = ["CompiledDecoder", "KeyReader", "ReferenceDecoder", "SequenceMode", "Venue"]

ReferenceDecoder = Callable[[bytes], list[Trade]]
"""Gives a message's trades in the order in which they are to be tracked.

Raises `RejectedError` for a message that can't be a trade and `SkippedError` for one that is none.
"""

KeyReader = Callable[[bytes], str]
"""Gives a message's Kafka key, `exchange|symbol`.

Reads no more than the names, so that a message with a bad price still goes where its symbol's others do.
Raises `RejectedError` for a message in which the names can't be read, `SkippedError` for one that has none.
"""


CompiledDecoder = Callable[
    [NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32], SymbolTable, NDArray[np.int64], NDArray[np.int32]],
    int,
]
"""Takes messages (bytes, where each value starts, its size or -1), the table of symbols, and where to write.

The first array to write is int64[messages, `k2.venues.rows.WIDTH`]: a row, laid out as that module says, for
each message that it surely understands, in their order. The second, int32[messages], gets the numbers of
all others, ascending. Gives the count of rows.
"""


class SequenceMode(Enum):
    """What a missing sequence number means on a venue."""

    CONTIGUOUS = "contiguous"
    """Every missing number is a missing trade."""
    MONOTONIC = "monotonic"
    """Numbers grow, but holes mean nothing: duplicates and disorder are seen, gaps never."""
    IDENTITY_ONLY = "identity_only"
    """The id bears no order: duplicates only."""


@dataclass(frozen=True)
class Venue:
    """One venue's messages: their name in `K2_TOPICS`, what their numbers mean, and their decoders."""

    name: str
    mode: SequenceMode
    decode: ReferenceDecoder
    """The specification: exact errors, plain to read."""
    decode_compiled: CompiledDecoder | None
    """Takes what it surely understands and leaves the rest to `decode`; None where there is none."""
    key: KeyReader
    """The Kafka key by the venue's rule."""
    exchange: str | None = None
    """The name of the exchange where the messages themselves don't bear it."""
    time_field: str = "timestamp"
    """Path of the field that holds the venue time, as errors name it; `{index}` stands for the trade's place."""

    @property
    def is_contiguous(self) -> bool:
        """Whether every missing number is a missing trade."""
        return self.mode is SequenceMode.CONTIGUOUS
