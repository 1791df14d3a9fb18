"""One hard case of numbering, a line a trade: the form of `tests.sequencing.test_sequence`."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from k2.model.content import UNKNOWN
from k2.model.sequence_events import EventKind
from k2.model.verdicts import CONFLICT, DUPLICATE
from k2.sequencing.contents import PlainContents
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.placement import Event, Kind
from k2.sequencing.session import Session

MIN, MAX = -(2**63), 2**63 - 1
MILLISECOND, SECOND, DAY = 1_000, 1_000_000, 86_400_000_000
STARTED, OPENED, FILLED = EventKind.SESSION_STARTED, EventKind.GAP_OPENED, EventKind.GAP_FILLED
FIRST, NEXT, GAP, LATE, EARLIER = Kind.FIRST, Kind.NEXT, Kind.GAP, Kind.LATE, Kind.EARLIER
COPY, SET_ASIDE, RESTART = Kind.DUPLICATE, Kind.CONFLICT, Kind.NEW_SESSION
VERDICTS: Final = {COPY: DUPLICATE, SET_ASIDE: CONFLICT}


class Trade(NamedTuple):
    """A trade, and what the rules say of it."""

    number: int
    at: int
    kind: Kind
    session: int
    events: Sequence[Event] = ()
    price: int | None = None
    """The price of the session expected, unless another is given."""
    is_named: bool = False


class Span(NamedTuple):
    """A session as it was before the first trade of a case."""

    ranges: Sequence[tuple[int, int]]
    earliest: int
    latest: int


class SpanContents(PlainContents):
    """Contents where all numbers of some sessions were stored at the session's own price."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        super().__init__()
        self._sessions = [session.numbers.to_bytes() for session in sessions]

    def get(self, session: int, sequence: int) -> int:
        """Return the content stored under a number."""
        found = super().get(session, sequence)
        is_old = session <= len(self._sessions) and sequence in IntervalSet.from_bytes(self._sessions[session - 1])
        return content(sequence, session) if found == UNKNOWN and is_old else found


class Case(NamedTuple):
    """What a symbol had, and what comes."""

    before: Sequence[Span]
    trades: Sequence[Trade]
    is_known: bool = True
    """Whether the contents of what it had are known."""


def content(number: int, price: int) -> int:
    """Return a content that is a function of the number and the price."""
    return 1 + 2 * abs(number) * 1_000 + (number < 0) * 1_000 + price


def live(first: int, last: int, at: int, session: int = 1) -> list[Trade]:
    """Return trades that continue a session, one each microsecond from `at` on."""
    return [Trade(number, at + place, NEXT, session) for place, number in enumerate(range(first, last + 1))]


def copies(first: int, last: int, at: int, session: int = 1) -> list[Trade]:
    """Return trades of a session that are sent again, one each microsecond from `at` on."""
    return [trade._replace(kind=COPY) for trade in live(first, last, at, session)]


def restart(first: int, at: int, session: int = 2, price: int | None = None) -> Trade:
    """Return a trade that begins a session."""
    return Trade(first, at, RESTART, session, [(STARTED, session, first, first)], price)


def opened(number: int, at: int, session: int, first: int, last: int) -> Trade:
    """Return a trade that opens a gap above the highest number."""
    return Trade(number, at, GAP, session, [(OPENED, session, first, last)])


def filled(number: int, at: int, session: int = 1) -> Trade:
    """Return a trade that fills a gap."""
    return Trade(number, at, LATE, session, [(FILLED, session, number, number)])


MILLION = Span([(1, 1_000_000)], 1, 100)
THOUSAND = Span([(1, 1_000)], 1, 1_000)
YOUNG = Span([(1, 20)], 1, 100)
RESTARTED = [MILLION, Span([(1, 20)], 101, 120)]
WITH_HOLE = [MILLION, Span([(1, 9), (11, 20)], 101, 120)]
BEGUN_LATE = [MILLION, Span([(500, 520)], DAY, DAY + 20)]


def six_sessions() -> list[Trade]:
    """Return six sessions of 20 numbers without the tenth, then the tenth of each."""
    trades = list[Trade]()
    for session in range(1, 7):
        at = 1_000 * session
        first = Trade(1, at + 1, FIRST, 1, [(STARTED, 1, 1, 1)]) if session == 1 else restart(1, at + 1, session)
        trades += [first, *live(2, 9, at + 2, session), opened(11, at + 11, session, 10, 10)]
        trades += live(12, 20, at + 12, session)
    return [*trades, *(filled(10, 1_000 * session + 10, session) for session in (3, 6, 1, 5, 2, 4))]


COPIES: Final = {
    "an old number sent again under a newer time": Case(
        [THOUSAND], [Trade(500, 5_000, COPY, 1), *live(1_001, 1_002, 1_001)]
    ),
    "each trade twice, 1 us apart": Case(
        [],
        [
            Trade(1, 10, FIRST, 1, [(STARTED, 1, 1, 1)]),
            Trade(1, 11, COPY, 1),
            *(Trade(2 + place // 2, 20 + place, COPY if place % 2 else NEXT, 1) for place in range(20)),
        ],
    ),
    "the only trade sent again later": Case(
        [], [Trade(7, 5, FIRST, 1, [(STARTED, 1, 7, 7)]), Trade(7, 9 * DAY, COPY, 1), Trade(7, 4, COPY, 1)]
    ),
    "a block of 900 sent again with the times of sending": Case(
        [THOUSAND], [*copies(101, 1_000, 5_000), *live(1_001, 1_002, 6_000)]
    ),
    "a snapshot of the last 50 with their own times after a reconnect": Case(
        [THOUSAND], [*copies(951, 1_000, 951), *live(1_001, 1_003, 1_001)]
    ),
    "a snapshot of the last 50 that goes beyond the newest": Case(
        [THOUSAND], [*copies(971, 1_000, 971), *live(1_001, 1_020, 1_001)]
    ),
    "an equal explicit id": Case(
        [], [Trade(5, 5, FIRST, 1, [(STARTED, 1, 5, 5)], 1, is_named=True), Trade(5, 9, COPY, 1, (), 1, is_named=True)]
    ),
    "a number whose content nobody knows, as old as the session": Case(
        [Span([(1, 1_000)], 1, DAY)], [Trade(500, 500, COPY, 1, (), 2), Trade(1, 1, COPY, 1, (), 2)], is_known=False
    ),
    "a late copy of a gap's fill": Case(
        [Span([(1, 9), (11, 20)], 1, 20)], [filled(10, 10), Trade(10, 10, COPY, 1), Trade(10, 99, COPY, 1)]
    ),
}
