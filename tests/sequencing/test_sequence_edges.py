"""The edges of the specification's rules: the last number, or the last microsecond, at which each still applies."""

import pytest

from k2.model.verdicts import CONFLICT, STORED
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.placement import Kind
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.session import CLOCK_TOLERANCE_US, Doubt, Session


def session(*ranges: tuple[int, int], earliest: int, latest: int) -> Session:
    """Return a session that has seen these ranges."""
    return Session(IntervalSet([first for first, _ in ranges], [last for _, last in ranges]), earliest, latest)


def test_an_apparent_copy_of_the_next_number_is_the_doubt() -> None:
    """It is set aside, and its number and time are remembered; a message that names an id is a copy."""
    sessions = [session((1, 20), earliest=1, latest=20), session((1, 10), earliest=30, latest=40)]
    sequence = SymbolSequence(sessions=sessions)
    sequence.contents.put(1, 11, 7)
    assert sequence.place(11, 50, 7, is_named=True).kind is Kind.DUPLICATE
    assert sequence.doubt is None
    assert sequence.place(11, 50, 7).verdict == CONFLICT
    assert sequence.doubt == Doubt(11, 50)


def test_the_number_after_the_doubt_begins_a_session_with_its_content() -> None:
    """A copy of that trade is known as one."""
    sequence = in_doubt()
    assert sequence.place(11, 101, 5).kind is Kind.NEW_SESSION
    assert sequence.contents.get(2, 11) == 5
    assert sequence.place(11, 101, 5).kind is Kind.DUPLICATE


def in_doubt() -> SymbolSequence:
    """Return numbers 1 to 10 and 14 to 20, of times up to 20, and a contradiction of number 10 at time 100."""
    sequence = SymbolSequence(sessions=[session((1, 10), (14, 20), earliest=1, latest=20)])
    sequence.contents.put(1, 10, 1)
    assert sequence.place(10, 100, 2).verdict == CONFLICT
    return sequence


@pytest.mark.parametrize(
    ("number", "at", "kind"),
    [(11, 100, Kind.NEW_SESSION), (11, 99, Kind.LATE), (12, 100, Kind.LATE), (13, 101, Kind.LATE)],
)
def test_a_number_in_a_gap_that_follows_the_doubt(number: int, at: int, kind: Kind) -> None:
    """It begins a session if it directly follows the doubt, in number and not earlier in time."""
    assert in_doubt().place(number, at, 5).kind is kind


@pytest.mark.parametrize(
    ("number", "verdict", "home"),
    [(50, STORED, 3), (55, STORED, 2), (60, CONFLICT, 2), (61, STORED, 2), (62, STORED, 1)],
)
def test_a_number_among_those_of_the_newest_session_is_its_own(number: int, verdict: int, home: int) -> None:
    """Also if an older session that lasted longer has a gap there; so is its next number, but not the one after.

    Its first number under a later time begins a session.
    """
    old = session((1, 49), (100, 200), earliest=1, latest=1_000)
    new = session((50, 54), (56, 60), earliest=500, latest=510)
    found = SymbolSequence(sessions=[old, new]).place(number, 600, 3)
    assert (found.verdict, found.session) == (verdict, home)


def test_each_older_session_is_asked() -> None:
    """A number that continues the session before the one before the newest is stored there."""
    sessions = [
        session((1, 1_000_000), earliest=1, latest=10),
        session((1, 100), earliest=20, latest=30),
        session((1, 50), earliest=40, latest=50),
    ]
    assert SymbolSequence(sessions=sessions).place(1_000_001, 60, 3).session == 1


@pytest.mark.parametrize(("numbers", "home"), [(63, 1), (64, 2)])
def test_a_session_of_64_numbers_keeps_what_is_far_from_it(numbers: int, home: int) -> None:
    """A number just above the old session's highest is 256 times nearer to that one, but not 2,048 times."""
    sessions = [session((1, 1_000), earliest=1, latest=10), session((1, numbers), earliest=20, latest=30)]
    assert SymbolSequence(sessions=sessions).place(1_001, 40, 3).session == home


@pytest.mark.parametrize(("early", "kind"), [(0, Kind.NEW_SESSION), (-1, Kind.NEW_SESSION), (1, Kind.EARLIER)])
def test_a_number_below_a_session_of_many(early: int, kind: Kind) -> None:
    """It begins a session unless it is earlier than the first, and than the tolerance for the venue's clock."""
    latest = 2 * CLOCK_TOLERANCE_US
    sequence = SymbolSequence(sessions=[session((1_000, 2_000), earliest=latest - CLOCK_TOLERANCE_US, latest=latest)])
    assert sequence.place(900, latest - CLOCK_TOLERANCE_US - early, 3).kind is kind
