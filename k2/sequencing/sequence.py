"""Sequence tracking: the rules that place a number in the numbering of its symbol, one trade at a time.

This is the specification; `k2.sequencing.tracker` applies it to whole batches. Evidence decides in this order: content,
place in the numbering, time.

- **Content.** The same number with the same content (price, quantity, side, and the trade id if the message names one)
  is a copy, whatever its time: feeds resend trades with the time truncated to milliseconds, or replaced by the send
  time.
- **Place.** A number never seen is stored: it continues its session, fills a gap, or opens one. A number seen with
  other content contradicts the stored trade. It becomes a conflict unless numbering has begun again.
- **Time.** It decides only what content and place leave open: which session a late trade belongs to, and whether a
  number at or below the first number of the session begins a new session.

Numbering has begun again if a number at or below the first number of the session comes with other content on a trade
that is later than the session's newest, or if two numbers near each other contradict stored trades in succession. The
first of these two becomes a conflict, because alone it may be a correction. A fill from an archive and a replayed
conflict never begin a session, and are not counted in that succession: whoever publishes them chooses their place.

A trade may stand for a range of numbers, of which it is known by the last: its content is that of the last number, and
the others are covered. A venue either names the range, which then must not overlap a stored one, or the last number and
how many there are. In the latter case the ranges of trades may interleave, so the trade takes as many missing numbers
as it stands for, the highest first.
"""

from collections.abc import Iterable
from typing import Any, Final, Self

from k2.model.content import COVERED, NON_MARKET_CONTENT, UNKNOWN
from k2.model.sequence_events import EventKind
from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from k2.sequencing.contents import Contents, PlainContents
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.placement import Event, Kind, Placement
from k2.sequencing.session import CLOCK_TOLERANCE_US, NEAR, YOUNG, Doubt, Session

__all__ = ["INTERLEAVED_MAX", "SESSIONS_SEARCHED", "SymbolSequence"]

SESSIONS_SEARCHED: Final = 64
"""Number of newest sessions with whose content a trade is compared; bounds the work if every trade starts a session."""
FAR_FROM_ONE, FAR, FAR_FROM_MANY = 16, 256, 2_048
"""If a session is this many times farther from a number than another one, the number belongs to the other: a session
of one trade, which is weak evidence that numbering began again, of fewer than 64, and of more."""
INTERLEAVED_MAX: Final = 256
"""How far below its range a trade may take missing numbers, if it names only how many it stands for."""
_LONG_MIN: Final = -(2**63)
_LONG_MAX: Final = 2**63 - 1


class SymbolSequence:
    """The numbering of one symbol on a venue where every missing number is a missing trade.

    The state is the sessions, ascending, the doubt, if any, and by session the highest number above all trades that the
    venue has announced and that is missing. A content is any integer except `UNKNOWN`, stored in
    `contents`. A time is the effective time of a trade (`k2.sequencing.effective_time`) in microseconds.

    Memory: 16 bytes per range of numbers seen and about 300 bytes per session, regardless of the number of trades, in
    addition to `contents`. Sessions are never dropped.
    """

    __slots__ = ("announced", "contents", "doubt", "sessions")

    def __init__(
        self, contents: Contents | None = None, sessions: Iterable[Session] = (), doubt: Doubt | None = None
    ) -> None:
        self.contents = PlainContents() if contents is None else contents
        self.sessions = list(sessions)
        self.doubt = doubt
        self.announced: dict[int, int] = {}
        """By session, from 1."""

    def announce(self, number: int) -> tuple[Event, ...]:
        """Note that the numbers up to `number` of the newest session exist, and return the gap above its trades.

        There must be a session. The gap begins above the numbers that were announced before.
        """
        session = len(self.sessions)
        highest = self._highest_known(session)
        if number <= highest:
            return ()
        self.announced[session] = number
        return _opened(session, highest + 1, number)

    def set_announced(self, session: int, number: int | None) -> None:
        """Set the announced number of a session, as of the trades that were absorbed; nothing if they reach it."""
        if number is not None and session <= len(self.sessions):
            numbers = self.sessions[session - 1].numbers
            if len(numbers) and number > numbers.highest:
                self.announced[session] = number

    def _highest_known(self, session: int) -> int:
        """Return the highest number of a session, from 1, that has arrived or was announced."""
        highest = self.sessions[session - 1].numbers.highest
        return max(highest, self.announced.get(session, highest))

    def place(
        self,
        sequence: int,
        at: int,
        content: int,
        *,
        is_named: bool = False,
        first: int | None = None,
        is_counted: bool = False,
        is_in_stream: bool = True,
    ) -> Placement:
        """Place one trade.

        `is_named`: whether its message names a trade id other than the number. `first`: the first number of the range
        of which `sequence` is the last; by default the trade stands for one. `is_counted`: whether the message says
        only how many numbers there are, so that ranges may interleave. `is_in_stream`: whether its place among the
        other trades is evidence that numbering began again; it is none for a fill or a replayed conflict.
        """
        first = sequence if first is None else first
        if is_in_stream or not self.sessions:
            return self._place(first, sequence, at, content, is_named=is_named, is_counted=is_counted)
        doubt = self.doubt
        placement = self._place(first, sequence, at, content, is_named=is_named, is_counted=is_counted, may_begin=False)
        self.doubt = doubt
        return placement

    def _place(
        self,
        first: int,
        sequence: int,
        at: int,
        content: int,
        *,
        is_named: bool,
        is_counted: bool,
        may_begin: bool = True,
    ) -> Placement:
        if not self.sessions:
            return self._begin(first, sequence, at, content, Kind.FIRST)
        copied = self._copied(sequence, content)
        if copied is not None and not self._fills_newest(sequence, at, is_named=is_named):
            if self._may_be_next(first, at, is_named=is_named):
                return self._set_aside(copied, sequence, at)
            return Placement(DUPLICATE, copied + 1, Kind.DUPLICATE)
        home = self._home(first, sequence, at)
        if sequence in self.sessions[home].numbers:
            if is_counted and self.contents.get(home + 1, sequence) == COVERED:
                return self._store(home, first, sequence, at, content)
            return self._place_seen(home, first, sequence, at, content, may_begin=may_begin)
        if home == self._newest and self._is_below(sequence, at):
            return self._place_below(first, sequence, at, content, may_begin=may_begin)
        if may_begin and home == self._newest and self._follows_doubt(first, sequence, at):
            return self._begin(first, sequence, at, content, Kind.NEW_SESSION)
        if first < sequence and not is_counted and self.sessions[home].numbers.has_any(first, sequence):
            return self._contradict(home, first, sequence, at, content, may_begin=may_begin)
        return self._store(home, first, sequence, at, content)

    @property
    def _newest(self) -> int:
        return len(self.sessions) - 1

    def _copied(self, sequence: int, content: int) -> int | None:
        """Return the index of the newest session that stores this content under this number; None if there is none."""
        # All non-market trades have the same content, so one is not taken for a copy from an old session.
        searched = 1 if content == NON_MARKET_CONTENT else SESSIONS_SEARCHED
        session = self.contents.find_session(len(self.sessions), searched, sequence, content)
        return None if session is None else session - 1

    def _fills_newest(self, sequence: int, at: int, *, is_named: bool) -> bool:
        """Return whether an apparent copy of an old session's trade fills a gap of the newest session, by its time.

        Two trades with one number may have the same content by chance if their messages name no ids. The time of a
        resent trade is either in the old session, or the send time.
        """
        new = self.sessions[-1]
        return not is_named and new.lacks(sequence) and new.earliest <= at < new.latest

    def _may_be_next(self, first: int, at: int, *, is_named: bool) -> bool:
        """Return whether an apparent copy of an old session's trade may be the next trade of the newest session."""
        new = self.sessions[-1]
        return not is_named and first - 1 == new.numbers.highest and at >= new.earliest

    def session_at(self, at: int) -> int:
        """Return the index of the newest session that had begun at a time; 0 if none had."""
        index = max(self._newest, 0)
        while index and at < self.sessions[index].earliest:
            index -= 1
        return index

    def _home(self, first: int, sequence: int, at: int) -> int:
        """Return the index of the session to which a trade belongs by number and time."""
        home = self.session_at(at)
        if home < self._newest:
            return self._home_of_early(home, sequence, at)
        new = self.sessions[-1].numbers
        if new.lowest <= sequence <= new.highest or first - 1 == new.highest:
            return home
        distance = max(new.lowest - sequence, first - new.highest)
        for index in range(self._newest - 1, max(self._newest - SESSIONS_SEARCHED, -1), -1):
            if self._continues(index, sequence, at, distance):
                return index
        return home

    def _home_of_early(self, old: int, sequence: int, at: int) -> int:
        """Return the session index of a trade that is earlier than the whole session after `old`."""
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
        """Return whether a trade fills or continues an old session, if it would open a large gap in the newest one.

        `distance` is the distance of the number from the numbers of the newest session.
        """
        old = self.sessions[index]
        if not len(old.numbers):
            return False
        if old.lacks(sequence):
            return at < old.latest
        new = self.sessions[-1].numbers
        far = FAR_FROM_ONE if new.has_fewer_than(2) else FAR if new.has_fewer_than(NEAR) else FAR_FROM_MANY
        return sequence > old.numbers.highest and (sequence - old.numbers.highest) * far <= distance

    def _place_seen(self, home: int, first: int, sequence: int, at: int, content: int, *, may_begin: bool) -> Placement:
        """Place a number that its session has with other content, or with content that is no longer known."""
        session = self.sessions[home]
        if not session.is_later(at) and self.contents.get(home + 1, sequence) in {UNKNOWN, content}:
            return Placement(DUPLICATE, home + 1, Kind.DUPLICATE)
        return self._contradict(home, first, sequence, at, content, may_begin=may_begin)

    def _contradict(self, home: int, first: int, sequence: int, at: int, content: int, *, may_begin: bool) -> Placement:
        """Place a number, or a range of numbers, that its session has with other content."""
        session = self.sessions[home]
        is_lowest = home == self._newest and first <= session.numbers.lowest
        if may_begin and ((is_lowest and session.is_later(at)) or self._confirms_doubt(home, first, sequence, at)):
            return self._begin(first, sequence, at, content, Kind.NEW_SESSION)
        return self._set_aside(home, sequence, at)

    def _confirms_doubt(self, home: int, first: int, sequence: int, at: int) -> bool:
        """Return whether a number, or a range, is the second in succession that contradicts the session `home`."""
        doubt = self.doubt
        return (
            doubt is not None
            and doubt.is_confirmed_by(first, sequence, at)
            and self._home(doubt.sequence, *doubt) == home
        )

    def _is_below(self, sequence: int, at: int) -> bool:
        """Return whether a number is too far below the first one of the newest session to extend that session."""
        session = self.sessions[-1]
        distance = session.numbers.lowest - sequence
        if distance <= 0 or (distance <= YOUNG and (session.is_young or at < session.earliest)):
            return False
        return at >= session.latest - CLOCK_TOLERANCE_US

    def _place_below(self, first: int, sequence: int, at: int, content: int, *, may_begin: bool) -> Placement:
        is_confirmed = self._confirms_doubt(self._newest, first, sequence, at)
        if may_begin and (is_confirmed or self.sessions[-1].is_later(at)):
            return self._begin(first, sequence, at, content, Kind.NEW_SESSION)
        return self._set_aside(self._newest, sequence, at)

    def _follows_doubt(self, first: int, sequence: int, at: int) -> bool:
        """Return whether a number in a gap directly follows the doubt: the second contradiction in succession."""
        session, doubt = self.sessions[-1], self.doubt
        if doubt is None or doubt.sequence != first - 1 or at < doubt.at:
            return False
        return session.lacks(sequence) and session.is_later(at)

    def _begin(self, first: int, sequence: int, at: int, content: int, kind: Kind) -> Placement:
        self.sessions.append(Session(IntervalSet([first], [sequence]), at, at))
        self.doubt = None
        session = len(self.sessions)
        self._put_contents(session, ((first, sequence),), sequence, content)
        return Placement(STORED, session, kind, ((EventKind.SESSION_STARTED, session, first, sequence),))

    def _put_contents(self, session: int, taken: Iterable[tuple[int, int]], sequence: int, content: int) -> None:
        """Record the content of a stored trade, and that its other numbers are covered.

        All numbers of a non-market trade have its content: no row says after a start which of them was the last.
        """
        covered = NON_MARKET_CONTENT if content == NON_MARKET_CONTENT else COVERED
        for low, high in taken:
            for number in range(low, high + 1):
                if number != sequence:
                    self.contents.put(session, number, covered)
        self.contents.put(session, sequence, content)

    def _set_aside(self, index: int, sequence: int, at: int) -> Placement:
        self.doubt = Doubt(sequence, at)
        return Placement(CONFLICT, index + 1, Kind.CONFLICT)

    def _store(self, index: int, first: int, sequence: int, at: int, content: int) -> Placement:
        """Store a trade whose number was never seen, or covered: the next one, in a gap, above, or below."""
        session, number = self.sessions[index], index + 1
        numbers = session.numbers
        lowest, highest, range_count = numbers.lowest, numbers.highest, numbers.gap_count + len(self.announced)
        taken = numbers.highest_missing(first, sequence, INTERLEAVED_MAX)
        for low, high in taken:
            numbers.add_range(low, high)
        self._put_contents(number, taken, sequence, content)
        session.earliest = min(session.earliest, at)
        session.latest = max(session.latest, at)
        goes_on = index == self._newest and first - 1 <= highest < sequence
        if self.doubt is not None and (goes_on or at >= self.doubt.at):
            self.doubt = None
        known = self.announced.get(number, highest)
        # Of the numbers above all that arrived, those that were announced are known to be missing.
        filled = tuple(
            (EventKind.GAP_FILLED, number, low, min(high, known)) for low, high in taken if lowest < low <= known
        )
        if sequence > highest:
            events = _opened(number, known + 1, first - 1)
            kind = Kind.GAP if first - 1 > highest else Kind.NEXT
            if sequence >= known:
                self.announced.pop(number, None)
        elif sequence < lowest:
            events = _opened(number, sequence + 1, lowest - 1)
            kind = Kind.EARLIER
        else:
            events = ()
            kind = Kind.LATE
        lower = min((low for low, _ in taken), default=first)
        return Placement(
            STORED,
            number,
            Kind.LATE if index < self._newest else kind,
            filled + events,
            lower if lower < first else None,
            numbers.gap_count + len(self.announced) - range_count,
        )

    @property
    def is_certain(self) -> bool:
        """Whether it has no doubt, and no number is only announced."""
        return self.doubt is None and not self.announced

    @property
    def gap_count(self) -> int:
        """Number of missing ranges in all sessions, those of announced numbers included."""
        return sum(session.numbers.gap_count for session in self.sessions) + len(self.announced)

    @property
    def missing_count(self) -> int:
        """Number of missing numbers in all sessions, announced ones included."""
        announced = sum(number - self.sessions[one - 1].numbers.highest for one, number in self.announced.items())
        return sum(session.numbers.missing_count for session in self.sessions) + announced

    def absorb(self, session: int, ranges: Iterable[tuple[int, int]], latest: int, earliest: int) -> None:
        """Add numbers that were stored without this state; sessions are passed in ascending order.

        `latest` and `earliest` are effective times among them. Numbers seen already change nothing. A session without
        rows left in the table keeps its number, and has no time range.
        """
        while len(self.sessions) < session:
            self.sessions.append(Session(IntervalSet(), _LONG_MAX, _LONG_MIN))
        absorbed = self.sessions[session - 1]
        for first, last in ranges:
            absorbed.numbers.add_range(first, last)
        absorbed.earliest = min(absorbed.earliest, earliest)
        absorbed.latest = max(absorbed.latest, latest)

    def missing(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Return the missing ranges, one element per session; a session's last may be announced numbers."""
        return tuple(
            (*session.numbers.missing(), *self._announced_range(number))
            for number, session in enumerate(self.sessions, start=1)
        )

    def _announced_range(self, session: int) -> tuple[tuple[int, int], ...]:
        if session not in self.announced:
            return ()
        return ((self.sessions[session - 1].numbers.highest + 1, self.announced[session]),)

    def snapshot(self) -> dict[str, object]:
        """Return the state without contents as builtins; later trades do not change the returned value."""
        return {
            "sessions": [[one.numbers.to_bytes(), one.earliest, one.latest] for one in self.sessions],
            "doubt": None if self.doubt is None else [*self.doubt],
            **({"announced": dict(self.announced)} if self.announced else {}),
        }

    @classmethod
    def restore(cls, state: dict[str, Any], contents: Contents | None = None) -> Self:
        """Restore a state returned by `snapshot`."""
        sessions = [Session(IntervalSet.from_bytes(data), *times) for data, *times in state["sessions"]]
        sequence = cls(contents, sessions, None if state["doubt"] is None else Doubt(*state["doubt"]))
        sequence.announced.update(state.get("announced", {}))
        return sequence


def _opened(session: int, first: int, last: int) -> tuple[Event, ...]:
    """Return the events of a gap: none if it is empty, two or three if its size does not fit 64 bits."""
    if first > last:
        return ()
    if last - first + 1 > _LONG_MAX:
        middle = -1 if first < 0 else last - 1
        return (*_opened(session, first, middle), *_opened(session, middle + 1, last))
    return ((EventKind.GAP_OPENED, session, first, last),)
