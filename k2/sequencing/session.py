"""A session of the numbering of a symbol, and the doubt whether another one has begun."""

from typing import Final, NamedTuple

from k2.sequencing.intervals import IntervalSet

__all__ = ["CLOCK_TOLERANCE_US", "NEAR", "YOUNG", "Doubt", "Session"]

YOUNG: Final = 256
"""A session with fewer numbers is young: its first trades may still arrive out of order."""
CLOCK_TOLERANCE_US: Final = 5_000_000
"""How far a venue's clock may be behind after its numbering began again, microseconds."""
NEAR: Final = 64
"""Maximum distance of two contradicting numbers that begin a new session: its first trades may be lost or swapped."""


class Session:
    """A stretch of numbering without repeated numbers: the numbers seen, and the range of their times."""

    __slots__ = ("earliest", "latest", "numbers")

    def __init__(self, numbers: IntervalSet, earliest: int, latest: int) -> None:
        self.numbers = numbers
        self.earliest = earliest
        """Earliest effective time of its trades (`k2.sequencing.effective_time`), microseconds."""
        self.latest = latest
        """Latest effective time of its trades, microseconds."""

    @property
    def is_young(self) -> bool:
        """Whether the session has fewer than 256 numbers."""
        return self.numbers.has_fewer_than(YOUNG)

    def lacks(self, sequence: int) -> bool:
        """Return whether a number is in one of the gaps of the session, which must have a number."""
        numbers = self.numbers
        return numbers.lowest < sequence < numbers.highest and sequence not in numbers

    def is_later(self, at: int) -> bool:
        """Return whether a trade is later than the newest; from 256 numbers on, with a tolerance of 5 seconds."""
        return at > self.latest if self.is_young else at >= self.latest - CLOCK_TOLERANCE_US

    def takes_early(self, sequence: int, at: int, before: "Session") -> bool:
        """Return whether a trade that is earlier than the whole session belongs to it, not to the session `before`.

        Its number must be near, and either it is later than the session before, or the clock tolerance explains how
        much earlier it is. The latter applies to numbers below the session's first, and if the sessions overlap.
        """
        numbers = self.numbers
        if not numbers.lowest - YOUNG <= sequence <= numbers.highest + YOUNG or sequence in numbers:
            return False
        is_below = sequence < numbers.lowest
        if at >= self.earliest - CLOCK_TOLERANCE_US and (is_below or self.earliest <= before.latest):
            return True
        # The first trade after a restart may have the same time as the last one before it.
        return at >= before.latest if is_below else at > before.latest


class Doubt(NamedTuple):
    """The newest conflict of a symbol, until a later trade is stored or the newest session continues."""

    sequence: int
    at: int

    def is_confirmed_by(self, first: int, sequence: int, at: int) -> bool:
        """Return whether another contradicting number is the second one in succession.

        It must be adjacent; or near, and on the same side of this one in number and in time. Of a range above this one,
        the `first` number counts: the last may be far although none is between.
        """
        nearest = first if first > self.sequence else sequence
        (lower, lower_at), (higher, higher_at) = sorted([(self.sequence, self.at), (nearest, at)])
        distance = higher - lower
        return 0 < distance <= NEAR and (distance == 1 or lower_at < higher_at)
