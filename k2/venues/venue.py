"""The definition of a venue: name, numbering mode, decoders and key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from k2.model.batch import MessageBatch
from k2.model.connections import ConnectionSlice
from k2.model.correction import Correction
from k2.model.symbol_names import SymbolTable
from k2.model.trade import Trade

if TYPE_CHECKING:
    # Names and numbering modes need no decoder.
    from k2.venues.payloads import Payload
    from k2.venues.table_drift import DriftFinder

__all__ = ["CompiledDecoder", "ConnectionReader", "KeyReader", "ReferenceDecoder", "SequenceMode", "Venue"]

ReferenceDecoder = Callable[[bytes], Sequence[Trade | Correction]]
"""Decodes a message to its trades and corrections, in the order in which they are tracked.

Raises `RejectedError` for a message that cannot become a trade or correction, `SkippedError` for one that is neither.
"""

KeyReader = Callable[[bytes], str]
"""Returns the Kafka key of a message, `exchange|symbol`.

Reads only the names, so that a message with an invalid price still goes to the partition of its symbol. Raises
`RejectedError` for a message whose names are invalid, `SkippedError` for one that has none.
"""


CompiledDecoder = Callable[
    [NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32], SymbolTable, NDArray[np.int64], NDArray[np.int32]],
    tuple[int, int, int],
]
"""Decodes messages that it accepts to rows; returns the numbers of messages read, of rows, and of other messages.

Arguments: the bytes of the messages; int64[messages] and int32[messages], start and size (or -1) of each value; the
symbol table; and two arrays that are written. The first is int64[n, `k2.venues.rows.WIDTH`]: the rows of the accepted
messages, in message order, with the layout of that module. The second is int32[messages, 2]: the indices of the other
messages that were read, ascending, and why each has no rows (`k2.venues.rows.REASON`). It reads all messages, or until
less than `k2.venues.rows.TRADES_MAX` rows are free.
"""


ConnectionReader = Callable[[MessageBatch], list[ConnectionSlice]]
"""Returns the numbers that a connection has given the messages of a batch: a slice for each connection."""


class SequenceMode(Enum):
    """What a missing sequence number means on a venue."""

    CONTIGUOUS = "contiguous"
    """Every missing number is a missing trade."""
    RANGE = "range"
    """As contiguous, and a trade stands for a range of numbers."""
    MONOTONIC = "monotonic"
    """Numbers increase, but missing ones mean nothing: duplicates and out-of-order trades are detected, not gaps."""
    IDENTITY_ONLY = "identity_only"
    """Ids have no order: only duplicates are detected."""


@dataclass(frozen=True)
class Venue:
    """A venue: its name in `K2_TOPICS`, the meaning of its numbers, and its decoders."""

    name: str
    mode: SequenceMode
    decode: ReferenceDecoder
    """The reference decoder: the specification, with exact errors."""
    decode_compiled: CompiledDecoder | None
    """The compiled decoder, which leaves what it does not accept to `decode`; None if the venue has none."""
    key: KeyReader
    """Returns the Kafka key of a message."""
    drift: "DriftFinder | None" = None
    """Finds how single messages differ from the venue's table; None if the venue has none."""
    exchange: str | None = None
    """Name of the exchange, if the messages do not contain it."""
    payload: "Payload | None" = None
    """How the bytes of a message become the JSON that `decode_compiled` needs; None if they are JSON.

    `decode` and `key` take the bytes.
    """
    time_field: str = "timestamp"
    """Path of the venue time field in error messages; `{index}` stands for the index of the trade in its message."""
    connection: ConnectionReader | None = None
    """Reads the numbers of connections; None if the messages have none, or the topic has not all of them."""
    view_of: str | None = None
    """The venue of whose trades this one is a second view; where both are read, its trades are not stored."""
    counts_numbers: bool = False
    """Whether a trade names its last number and how many it stands for; ranges of trades may then interleave."""
    has_corrections: bool = False
    """Whether `decode` may return corrections."""

    @property
    def is_contiguous(self) -> bool:
        """Whether every missing number is a missing trade."""
        return self.mode in {SequenceMode.CONTIGUOUS, SequenceMode.RANGE}

    @property
    def has_ranges(self) -> bool:
        """Whether a trade stands for a range of numbers."""
        return self.mode is SequenceMode.RANGE
