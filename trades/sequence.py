"""Where a number belongs in the numbering of its symbol: the rules, one trade at a time.

This is the specification; `trades.tracker` does the same to whole batches.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, NamedTuple, Self

from trades.events import EventKind
from trades.intervals import IntervalSet
from trades.verdicts import DUPLICATE, STORED

__all__ = ["Event", "Kind", "Placement", "SymbolSequence"]

_LONG_MIN: Final = -(2**63)
_LONG_MAX: Final = 2**63 - 1

Event = tuple[EventKind, int, int, int]
"""What happened, the session, and the first and last number of the range, inclusive."""


class Kind(Enum):
    """How a number stands to those its symbol had before."""

    FIRST = "first"
    """The symbol's first trade."""
    NEXT = "next"
    """One above the highest."""
    GAP = "gap"
    """Further above the highest: those between are missing."""
    LATE = "late"
    """Inside a gap, or not covered in an old session."""
    EARLIER = "earlier"
    """Below the session's first, and not later in venue time."""
    DUPLICATE = "duplicate"
    """Covered already."""
    NEW_SESSION = "new session"
    """The numbering started again."""


class Placement(NamedTuple):
    """What the rules say of one trade."""

    verdict: int
    """`STORED` or `DUPLICATE`, of `trades.verdicts`."""
    session: int
    """From 1."""
    kind: Kind
    events: tuple[Event, ...] = ()

    @property
    def out_of_order(self) -> bool:
        """Whether a trade that is stored came after one that follows it."""
        return self.kind is Kind.LATE or self.kind is Kind.EARLIER


class SymbolSequence:
    """The numbering of one symbol on a venue where every missing number is a missing trade.

    A session is a stretch of numbering that never repeats itself: the set of its numbers seen, and
    its latest venue time. A new one begins with a number that is covered already, or below the
    session's first, on a trade later in venue time than all of the session's. It says nothing
    missing: what a restart lost before its first trade seen can't be known. A jump of the clock
    alone begins nothing.

    A trade belongs to the newest session whose predecessor's latest time lies before its own. So a
    straggler, not later than an old session's latest, stays that session's. So does one later than
    that, but earlier than all of the next session, whose number is above the old session's highest
    and the next one's lowest: numbers and times rise together, so it is too early for its number in
    the next one. In an old session a straggler is placed by the same rules, above the highest too:
    the next number continues it, and one further on opens a gap in it. (A new session's trade that
    bears the very time of the old session's last is taken for a straggler: no clock can tell, and
    either way it is stored once.) An old session begins no other.

    Memory: 16 bytes a range of numbers seen and about 300 bytes a session, whatever the number of
    trades. Sessions are kept for good, since a number seen is a duplicate whatever its age, so a
    feed that repeats a number under ever later times costs one session a trade: that is all the
    growth that hostile input can cause beside one range for each trade that leaves a gap.
    """

    __slots__ = ("_boundaries", "_earliest", "_latest", "_sessions")

    def __init__(
        self,
        sessions: Iterable[IntervalSet] = (),
        boundaries: Iterable[int] = (),
        latest: int = _LONG_MIN,
        earliest: Iterable[int] = (),
    ) -> None:
        """Take up sessions: the latest time of each but the last, that of the last, and the earliest of each."""
        self._sessions = list(sessions)
        self._boundaries = array("q", boundaries)
        self._latest = latest
        self._earliest = array("q", earliest)

    def place(self, sequence: int, timestamp: int) -> Placement:
        """Place one trade; `timestamp` is the venue's, in microseconds. Both are within 64 bits."""
        if not self._sessions:
            return self._start(sequence, timestamp, Kind.FIRST)
        session = bisect_left(self._boundaries, timestamp)
        if self._continues_the_one_before(session, sequence, timestamp):
            session -= 1
            self._boundaries[session] = timestamp
        numbers = self._sessions[session]
        is_old = session < len(self._boundaries)
        if not is_old and timestamp > self._latest:
            if sequence < numbers.lowest or sequence in numbers:
                return self._start(sequence, timestamp, Kind.NEW_SESSION)
            self._latest = timestamp
        placement = _place(numbers, sequence, session + 1, is_old=is_old)
        if placement.verdict == STORED:
            self._earliest[session] = min(self._earliest[session], timestamp)
        return placement

    def _continues_the_one_before(self, session: int, sequence: int, timestamp: int) -> bool:
        if not session or timestamp >= self._earliest[session] or sequence <= self._sessions[session].lowest:
            return False
        before = self._sessions[session - 1]
        return len(before) > 0 and sequence > before.highest

    def _start(self, sequence: int, timestamp: int, kind: Kind) -> Placement:
        if self._sessions:
            self._boundaries.append(self._latest)
        self._sessions.append(IntervalSet([sequence], [sequence]))
        self._latest = timestamp
        self._earliest.append(timestamp)
        started = (EventKind.SESSION_STARTED, self.session, sequence, sequence)
        return Placement(STORED, self.session, kind, (started,))

    @property
    def session(self) -> int:
        """The current session, from 1; 0 before the first trade."""
        return len(self._sessions)

    @property
    def numbers(self) -> IntervalSet:
        """The numbers seen in the current session."""
        return self._sessions[-1]

    @property
    def latest(self) -> int:
        """The latest venue time of the current session, in microseconds."""
        return self._latest

    @property
    def earliest(self) -> int:
        """The earliest venue time of the current session, in microseconds."""
        return self._earliest[-1]

    @property
    def boundary(self) -> int | None:
        """The latest venue time of the session before; None where there is none."""
        return self._boundaries[-1] if self._boundaries else None

    @property
    def gap_count(self) -> int:
        """How many ranges are missing, in all sessions."""
        return sum(numbers.gap_count for numbers in self._sessions)

    def advance(self, highest: int, latest: int) -> None:
        """Take over a run of trades that only continued the current session."""
        self.numbers.extend_top(highest)
        self._latest = latest

    def absorb(self, session: int, ranges: Iterable[tuple[int, int]], latest: int, earliest: int) -> None:
        """Take numbers as seen that were stored while this state was not there to see; sessions come ascending.

        `latest` and `earliest` are venue times among them. What is seen already changes nothing. A session of which
        nothing is left in the table keeps its place, and no time belongs to it.
        """
        if session > self.session:
            self._open_sessions(session)
            self._latest = latest
        for first, last in ranges:
            self._sessions[session - 1].add_range(first, last)
        self._earliest[session - 1] = min(self._earliest[session - 1], earliest)
        if session == self.session:
            self._latest = max(self._latest, latest)
        else:
            self._boundaries[session - 1] = max(self._boundaries[session - 1], latest)

    def _open_sessions(self, session: int) -> None:
        while self.session < session:
            if self._sessions:
                self._boundaries.append(self._latest)
            self._sessions.append(IntervalSet())
            self._earliest.append(_LONG_MAX)

    def missing(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Give the ranges missing, session by session."""
        return tuple(numbers.missing() for numbers in self._sessions)

    def snapshot(self) -> dict[str, object]:
        """Give the state as builtins alone; later trades do not change what was given."""
        return {
            "sessions": [numbers.to_bytes() for numbers in self._sessions],
            "boundaries": self._boundaries.tobytes(),
            "latest": self._latest,
            "earliest": self._earliest.tobytes(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Take up what `snapshot` gave."""
        sessions = [IntervalSet.from_bytes(numbers) for numbers in state["sessions"]]
        return cls(sessions, array("q", state["boundaries"]), state["latest"], array("q", state["earliest"]))


def _place(numbers: IntervalSet, sequence: int, session: int, *, is_old: bool) -> Placement:
    lowest, highest = numbers.lowest, numbers.highest
    if not numbers.add(sequence):
        return Placement(DUPLICATE, session, Kind.DUPLICATE)
    if sequence > highest:
        events = _opened(session, highest + 1, sequence - 1)
        kind = Kind.GAP if events else Kind.NEXT
    elif sequence < lowest:
        events = _opened(session, sequence + 1, lowest - 1)
        kind = Kind.EARLIER
    else:
        events = ((EventKind.GAP_FILLED, session, sequence, sequence),)
        kind = Kind.LATE
    return Placement(STORED, session, Kind.LATE if is_old else kind, events)


def _opened(session: int, first: int, last: int) -> tuple[Event, ...]:
    """Give the events of a gap: none where it is empty, two where its size would not fit 64 bits."""
    if first > last:
        return ()
    if last - first + 1 > _LONG_MAX:
        return (*_opened(session, first, -1), *_opened(session, 0, last))
    return ((EventKind.GAP_OPENED, session, first, last),)
