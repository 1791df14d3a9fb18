"""The result of placing a trade in the numbering of its symbol."""

from enum import Enum
from typing import NamedTuple

from k2.model.sequence_events import EventKind

__all__ = ["Event", "Kind", "Placement"]

Event = tuple[EventKind, int, int, int]
"""Event kind, session, and first and last number of the range, inclusive."""


class Kind(Enum):
    """Relation of a number to the earlier numbers of its symbol."""

    FIRST = "first"
    """The symbol's first trade."""
    NEXT = "next"
    """One above the highest."""
    GAP = "gap"
    """More than one above the highest: the numbers between are missing."""
    LATE = "late"
    """Inside a gap, or not yet seen in an old session."""
    EARLIER = "earlier"
    """Below the first number of the session."""
    DUPLICATE = "duplicate"
    """A copy of a stored trade."""
    CONFLICT = "conflict"
    """Contradicts a stored trade, or cannot be distinguished from it."""
    NEW_SESSION = "new session"
    """Numbering began again."""


class Placement(NamedTuple):
    """The result of placing one trade."""

    verdict: int
    """`STORED`, `DUPLICATE` or `CONFLICT`, of `k2.model.verdicts`."""
    session: int
    """From 1: the session in which the trade is stored, or whose trade it copies or contradicts."""
    kind: Kind
    events: tuple[Event, ...] = ()
    first: int | None = None
    """The first number of the range, if the trade took other numbers than it was given."""
    range_change: int = 0
    """Change of the number of missing ranges, announced ones included; negative if there are fewer than before."""

    @property
    def out_of_order(self) -> bool:
        """Whether the stored trade arrived after a trade with a higher number."""
        return self.kind is Kind.LATE or self.kind is Kind.EARLIER
