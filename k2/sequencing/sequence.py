"""Where a number belongs in the numbering of its symbol: the rules, one trade at a time.

This is the specification; `k2.sequencing.tracker` applies it to whole batches. Evidence decides in this order: content,
place in the numbering, time.

- **Content.** The same number with the same content (price, quantity, side, and the trade id where the message names
  one) is a copy, whatever its time says: a feed sends a trade again with its time cut to milliseconds, or with the
  time of sending in its place.
- **Place.** A number never seen is stored: it continues its session, fills a gap, or opens one. A number seen with
  other content contradicts what is stored; it is set aside as a conflict unless numbering has begun again.
- **Time.** It tells only what content and place leave open: whose straggler a trade is, and whether a number at or
  below the session's first begins a new session.

Numbering has begun again when a number at or below the session's first comes with other content on a trade that is
later than the session's newest, or when two numbers near each other contradict what is stored, in succession: the
session does not go on between them. The first of those two is set aside: alone it may be a correction.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol, Self

from k2.model.content import NON_MARKET, UNKNOWN
from k2.model.sequence_events import EventKind
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.intervals import IntervalSet

__all__ = [
    "CLOCK_TOLERANCE_US",
    "Contents",
    "Doubt",
    "Event",
    "Kind",
    "Placement",
    "PlainContents",
    "Session",
    "SymbolSequence",
]

YOUNG: Final = 256
"""A session with fewer numbers is young: its first trades may still arrive swapped."""
CLOCK_TOLERANCE_US: Final = 5_000_000
"""How far a venue's clock may be behind after its numbering began again."""
SESSIONS_SEARCHED: Final = 64
"""A trade is compared with the content of so many sessions, the newest ones. A feed that repeats one number under ever
new content makes a session of each trade: without a limit, each would be compared with all before it."""
FAR: Final = 256
"""A session is that many times farther from a number than another one: then the number is the other one's."""
FAR_FROM_ONE: Final = 16
"""The same for a session of a single trade, which is weak evidence that numbering began again."""
NEAR: Final = 64
"""Two numbers that contradict what is stored are at most so far apart where the first trades of a session are lost or
come in disorder."""
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
    """Inside a gap, or not seen yet in an old session."""
    EARLIER = "earlier"
    """Below the session's first."""
    DUPLICATE = "duplicate"
    """A copy of what is stored."""
    CONFLICT = "conflict"
    """Contradicts what is stored, or cannot be told apart from it."""
    NEW_SESSION = "new session"
    """Numbering began again."""


class Placement(NamedTuple):
    """What the rules say of one trade."""

    verdict: int
    """`STORED`, `DUPLICATE` or `CONFLICT`, of `k2.model.verdicts`."""
    session: int
    """From 1: where it is stored, or what it copies or contradicts."""
    kind: Kind
    events: tuple[Event, ...] = ()

    @property
    def out_of_order(self) -> bool:
        """Whether a trade that is stored came after one that follows it."""
        return self.kind is Kind.LATE or self.kind is Kind.EARLIER


class Contents(Protocol):
    """The content of the numbers of one symbol, by session (from 1)."""

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` where nobody knows it."""

    def put(self, session: int, sequence: int, content: int) -> None:
        """Keep the content of a number that is stored."""


class PlainContents:
    """A dictionary of all contents: what `k2.sequencing.fingerprints` does in a few bytes a number."""

    def __init__(self) -> None:
        self._contents: dict[tuple[int, int], int] = {}

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number; `UNKNOWN` where nobody knows it."""
        return self._contents.get((session, sequence), UNKNOWN)

    def put(self, session: int, sequence: int, content: int) -> None:
        """Keep the content of a number that is stored."""
        self._contents[session, sequence] = content


class Session:
    """A stretch of numbering that never repeats itself: the numbers seen, and the span of their times."""

    __slots__ = ("earliest", "latest", "numbers")

    def __init__(self, numbers: IntervalSet, earliest: int, latest: int) -> None:
        self.numbers = numbers
        self.earliest = earliest
        """The earliest time of a trade in it, microseconds; `k2.sequencing.tracker_kernel.effective_time`."""
        self.latest = latest

    @property
    def is_young(self) -> bool:
        """Whether it has fewer than 256 numbers."""
        return self.numbers.has_fewer_than(YOUNG)

    def lacks(self, sequence: int) -> bool:
        """Whether a number lies in one of its gaps; it must have a number."""
        numbers = self.numbers
        return numbers.lowest < sequence < numbers.highest and sequence not in numbers

    def is_later(self, at: int) -> bool:
        """Whether a trade is later than its newest; from 256 numbers on, a clock may be behind by 5 seconds."""
        return at > self.latest if self.is_young else at >= self.latest - CLOCK_TOLERANCE_US

    def takes_early(self, sequence: int, at: int, before: "Session") -> bool:
        """Whether a trade that is earlier than all of the session is its own, and not of the session `before`.

        Its number is near, and it is later than the session before. Or it is so little earlier that clocks explain it:
        of a number that was set aside when the session began, or where the two sessions overlap in time.
        """
        numbers = self.numbers
        if not numbers.lowest - YOUNG <= sequence <= numbers.highest + YOUNG or sequence in numbers:
            return False
        is_below = sequence < numbers.lowest
        if at >= self.earliest - CLOCK_TOLERANCE_US and (is_below or self.earliest <= before.latest):
            return True
        # The first trade of a restart may bear the very time of the last one before it.
        return at >= before.latest if is_below else at > before.latest


class Doubt(NamedTuple):
    """The newest trade that was set aside, until a later one is stored or the newest session goes on."""

    sequence: int
    at: int

    def is_confirmed_by(self, sequence: int, at: int) -> bool:
        """Whether another number that contradicts what is stored is the second in succession.

        It is a neighbour; or it is near, and comes before or after the first in number as in time.
        """
        (lower, lower_at), (higher, higher_at) = sorted([(self.sequence, self.at), (sequence, at)])
        distance = higher - lower
        return 0 < distance <= NEAR and (distance == 1 or lower_at < higher_at)


class SymbolSequence:
    """The numbering of one symbol on a venue where every missing number is a missing trade.

    It holds the sessions, ascending, and the trade in doubt, if any. Content is any integer but `UNKNOWN`, kept by
    `contents`. A time is a trade's effective time (`k2.sequencing.tracker_kernel.effective_time`) in microseconds.

    Memory: 16 bytes a range of numbers seen and about 300 bytes a session, whatever the number of trades, beside what
    `contents` takes. Sessions are kept for good.
    """

    __slots__ = ("contents", "doubt", "sessions")

    def __init__(
        self, contents: Contents | None = None, sessions: Iterable[Session] = (), doubt: Doubt | None = None
    ) -> None:
        self.contents = PlainContents() if contents is None else contents
        self.sessions = list(sessions)
        self.doubt = doubt

    def place(self, sequence: int, at: int, content: int, *, is_named: bool = False) -> Placement:
        """Place one trade; `is_named` tells whether its message names a trade id beside the number."""
        if not self.sessions:
            return self._begin(sequence, at, content, Kind.FIRST)
        copied = self._copied(sequence, content)
        if copied is not None and not self._fills_newest(sequence, at, is_named=is_named):
            if self._may_be_next(sequence, at, is_named=is_named):
                return self._set_aside(copied, sequence, at)
            return Placement(DUPLICATE, copied + 1, Kind.DUPLICATE)
        home = self._home(sequence, at)
        if sequence in self.sessions[home].numbers:
            return self._place_seen(home, sequence, at, content)
        if home == self._newest and self._is_below(sequence, at):
            return self._place_below(sequence, at, content)
        if home == self._newest and self._follows_doubt(sequence, at):
            return self._begin(sequence, at, content, Kind.NEW_SESSION)
        return self._store(home, sequence, at, content)

    @property
    def _newest(self) -> int:
        return len(self.sessions) - 1

    def _copied(self, sequence: int, content: int) -> int | None:
        """Return the index of the newest session that stores this content under this number."""
        # All that is no market trade is alike: under the same number it is no copy of an old session's.
        searched = 1 if content == NON_MARKET else SESSIONS_SEARCHED
        for index in range(self._newest, max(self._newest - searched, -1), -1):
            if sequence in self.sessions[index].numbers and self.contents.get(index + 1, sequence) == content:
                return index
        return None

    def _fills_newest(self, sequence: int, at: int, *, is_named: bool) -> bool:
        """Whether a copy fills a gap of the newest session, at its time.

        Two trades of one number may be alike by chance where their messages name no ids. One that is sent again is
        either as old as the old session, or as new as its sending.
        """
        new = self.sessions[-1]
        return not is_named and new.lacks(sequence) and new.earliest <= at < new.latest

    def _may_be_next(self, sequence: int, at: int, *, is_named: bool) -> bool:
        """Whether a copy may as well be the next trade of the newest session."""
        new = self.sessions[-1]
        return not is_named and sequence - 1 == new.numbers.highest and at >= new.earliest

    def _home(self, sequence: int, at: int) -> int:
        """Return the index of the session to which a trade belongs by its place and time."""
        home = self._newest
        while home and at < self.sessions[home].earliest:
            home -= 1
        if home < self._newest:
            return self._home_of_early(home, sequence, at)
        new = self.sessions[-1].numbers
        if new.lowest <= sequence <= new.highest or sequence - 1 == new.highest:
            return home
        distance = max(new.lowest - sequence, sequence - new.highest)
        for index in range(self._newest - 1, max(self._newest - SESSIONS_SEARCHED, -1), -1):
            if self._continues(index, sequence, at, distance):
                return index
        return home

    def _home_of_early(self, old: int, sequence: int, at: int) -> int:
        """Return the home of a trade that is earlier than all of the session after `old`."""
        numbers = self.sessions[old].numbers
        is_seen = sequence in numbers
        if not is_seen and len(numbers) and sequence > numbers.lowest:
            return old
        if is_seen and at <= self.sessions[old].latest and self.contents.get(old + 1, sequence) == UNKNOWN:
            return old
        for index in range(old + 1, self._newest + 1):
            session = self.sessions[index]
            if len(session.numbers) and session.takes_early(sequence, at, self.sessions[index - 1]):
                return index
        return old if len(numbers) else self._newest

    def _continues(self, index: int, sequence: int, at: int, distance: int) -> bool:
        """Whether a trade fills or continues an old session, where the newest one would need a large gap.

        `distance` is how far the number lies from the newest session's numbers.
        """
        old = self.sessions[index]
        if not len(old.numbers):
            return False
        if old.lacks(sequence):
            return at < old.latest
        far = FAR_FROM_ONE if self.sessions[-1].numbers.has_fewer_than(2) else FAR
        return sequence > old.numbers.highest and (sequence - old.numbers.highest) * far <= distance

    def _place_seen(self, home: int, sequence: int, at: int, content: int) -> Placement:
        """Place a number that its session has with other content, or with content that nobody knows any longer."""
        session = self.sessions[home]
        is_later = session.is_later(at)
        if not is_later and self.contents.get(home + 1, sequence) in {UNKNOWN, content}:
            return Placement(DUPLICATE, home + 1, Kind.DUPLICATE)
        if home == self._newest and sequence == session.numbers.lowest and is_later:
            return self._begin(sequence, at, content, Kind.NEW_SESSION)
        if self.doubt is not None and self.doubt.is_confirmed_by(sequence, at):
            return self._begin(sequence, at, content, Kind.NEW_SESSION)
        return self._set_aside(home, sequence, at)

    def _is_below(self, sequence: int, at: int) -> bool:
        """Whether a number lies so far below the newest session's first that it cannot simply extend it."""
        session = self.sessions[-1]
        distance = session.numbers.lowest - sequence
        if distance <= 0 or (distance <= YOUNG and (session.is_young or at < session.earliest)):
            return False
        return at >= session.latest - CLOCK_TOLERANCE_US

    def _place_below(self, sequence: int, at: int, content: int) -> Placement:
        is_doubled = self.doubt is not None and self.doubt.is_confirmed_by(sequence, at)
        if is_doubled or self.sessions[-1].is_later(at):
            return self._begin(sequence, at, content, Kind.NEW_SESSION)
        return self._set_aside(self._newest, sequence, at)

    def _follows_doubt(self, sequence: int, at: int) -> bool:
        """Whether a number in a gap comes right behind one that contradicts: the second in succession."""
        session, doubt = self.sessions[-1], self.doubt
        if doubt is None or doubt.sequence != sequence - 1 or at < doubt.at:
            return False
        return session.lacks(sequence) and session.is_later(at)

    def _begin(self, sequence: int, at: int, content: int, kind: Kind) -> Placement:
        self.sessions.append(Session(IntervalSet([sequence], [sequence]), at, at))
        self.doubt = None
        session = len(self.sessions)
        self.contents.put(session, sequence, content)
        return Placement(STORED, session, kind, ((EventKind.SESSION_STARTED, session, sequence, sequence),))

    def _set_aside(self, index: int, sequence: int, at: int) -> Placement:
        self.doubt = Doubt(sequence, at)
        return Placement(CONFLICT, index + 1, Kind.CONFLICT)

    def _store(self, index: int, sequence: int, at: int, content: int) -> Placement:
        """Store a number never seen: the next one, in a gap, above or below."""
        session, number = self.sessions[index], index + 1
        numbers = session.numbers
        lowest, highest = numbers.lowest, numbers.highest
        numbers.add(sequence)
        self.contents.put(number, sequence, content)
        session.earliest = min(session.earliest, at)
        session.latest = max(session.latest, at)
        goes_on = index == self._newest and sequence - 1 == highest
        if self.doubt is not None and (goes_on or at >= self.doubt.at):
            self.doubt = None
        if sequence > highest:
            events = _opened(number, highest + 1, sequence - 1)
            kind = Kind.GAP if events else Kind.NEXT
        elif sequence < lowest:
            events = _opened(number, sequence + 1, lowest - 1)
            kind = Kind.EARLIER
        else:
            events = ((EventKind.GAP_FILLED, number, sequence, sequence),)
            kind = Kind.LATE
        return Placement(STORED, number, Kind.LATE if index < self._newest else kind, events)

    @property
    def gap_count(self) -> int:
        """How many ranges are missing, in all sessions."""
        return sum(session.numbers.gap_count for session in self.sessions)

    def absorb(self, session: int, ranges: Iterable[tuple[int, int]], latest: int, earliest: int) -> None:
        """Take numbers as seen that were stored while this state was not there to see; sessions come ascending.

        `latest` and `earliest` are effective times among them. What is seen already changes nothing. A session of
        which nothing is left in the table keeps its place, and no time belongs to it.
        """
        while len(self.sessions) < session:
            self.sessions.append(Session(IntervalSet(), _LONG_MAX, _LONG_MIN))
        mine = self.sessions[session - 1]
        for first, last in ranges:
            mine.numbers.add_range(first, last)
        mine.earliest = min(mine.earliest, earliest)
        mine.latest = max(mine.latest, latest)

    def missing(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Return the ranges missing, session by session."""
        return tuple(session.numbers.missing() for session in self.sessions)

    def snapshot(self) -> dict[str, object]:
        """Return the state without contents as builtins; later trades do not change what was returned."""
        return {
            "sessions": [[one.numbers.to_bytes(), one.earliest, one.latest] for one in self.sessions],
            "doubt": None if self.doubt is None else [*self.doubt],
        }

    @classmethod
    def restore(cls, state: dict[str, Any], contents: Contents | None = None) -> Self:
        """Restore what `snapshot` returned."""
        sessions = [Session(IntervalSet.from_bytes(data), *times) for data, *times in state["sessions"]]
        return cls(contents, sessions, None if state["doubt"] is None else Doubt(*state["doubt"]))


def _opened(session: int, first: int, last: int) -> tuple[Event, ...]:
    """Return the events of a gap: none where it is empty, two where its size would not fit 64 bits."""
    if first > last:
        return ()
    if last - first + 1 > _LONG_MAX:
        return (*_opened(session, first, -1), *_opened(session, 0, last))
    return ((EventKind.GAP_OPENED, session, first, last),)
