"""The condition of a symbol's day: one pure rule, for certificates and for the view `quality`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Final

from k2.model.wording import format_count

__all__ = [
    "COUNTS",
    "MEANINGS",
    "Condition",
    "DayFacts",
    "OffsetRange",
    "SessionNumbers",
    "condition",
    "reasons",
]


class Condition(StrEnum):
    """What is known of a symbol's trades of one day (UTC); `MEANINGS` says it in words."""

    COMPLETE = "complete"
    ACCEPTED = "accepted"
    OPEN = "open"
    DEGRADED = "degraded"
    AMENDED = "amended"


MEANINGS: Final = {
    Condition.COMPLETE: "Every number from the first to the last of the day is stored.",
    Condition.ACCEPTED: "No number is missing but those that were accepted.",
    Condition.OPEN: "Numbers are missing, or the day is not over.",
    Condition.DEGRADED: "It is not certain whether every trade is stored.",
    Condition.AMENDED: "The rows are not those of the earlier certificate of this day.",
}


@dataclass(frozen=True, slots=True)
class SessionNumbers:
    """Numbers of one session on the day."""

    session: int
    first_sequence: int
    last_sequence: int
    trades: int
    """Rows."""
    follows_stored: bool
    """Whether the number before the first is stored too, on the day before or this one. False: trades before the
    first one are unknown, as where a capture or a session begins."""
    is_followed: bool
    """Whether the number after the last is stored too, on this day or the next."""


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets of the messages whose trades are the day's rows, in one topic partition."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    trades: int


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What tables, ledger and dead letters say about a symbol's day."""

    trades: int = 0
    """Rows."""
    stored: int = 0
    """Trades, each number of a range counted, as in `k2 completeness`."""
    expected: int | None = 0
    """None if the day is not numbered, as `missing`."""
    missing: int | None = 0
    """Missing numbers, without those that were accepted."""
    accepted: int = 0
    not_numbered: int = 0
    """Stored rows without a gapless number."""
    conflicts: int = 0
    """Dead letters with reason `conflict`."""
    dead_letters: int = 0
    """The others that name the symbol."""
    unnamed_dead_letters: int = 0
    """Dead letters of the symbol's topic partitions that name no symbol."""
    connection_gaps: int = 0
    """Messages of the exchange's connections that were lost before Kafka."""
    sessions_started: int = 0
    corrections: int = 0
    sessions: tuple[SessionNumbers, ...] = ()
    offsets: tuple[OffsetRange, ...] = ()
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    last_modified: datetime | None = field(default=None, compare=False)
    """Newest Kafka timestamp of the rows."""


COUNTS: Final = tuple(one.name for one in fields(DayFacts) if one.type in {int, int | None})
"""The counts of `DayFacts`, in their order, as the page of a certificate and the view `quality` show them."""


def condition(facts: DayFacts, *, is_over: bool) -> Condition:
    """Return the condition of a day, which is over or not.

    >>> condition(DayFacts(trades=9, stored=9, expected=9), is_over=True).value
    'complete'
    >>> condition(DayFacts(trades=9, stored=9, expected=10, missing=1, conflicts=1), is_over=True).value
    'open'
    """
    if facts.missing or not is_over:
        return Condition.OPEN
    if any(_doubts(facts)):
        return Condition.DEGRADED
    return Condition.ACCEPTED if facts.accepted else Condition.COMPLETE


def reasons(facts: DayFacts, *, is_over: bool) -> list[str]:
    """Return why a day is not complete, in words; none if it is.

    >>> reasons(DayFacts(trades=9, stored=9, expected=10, missing=1, conflicts=2), is_over=True)
    ['1 number is missing', '2 trades conflict with stored ones']
    """
    found = [] if is_over else ["the day is not over"]
    if facts.missing:
        found.append(f"{format_count(facts.missing, 'number')} {'is' if facts.missing == 1 else 'are'} missing")
    found += _doubts(facts)
    if facts.accepted:
        found.append(f"{format_count(facts.accepted, 'missing number')} accepted")
    return found


def _doubts(facts: DayFacts) -> Iterator[str]:
    """Yield why trades may be missing that no number shows."""
    if facts.missing is None:
        yield "the venue gives no gapless numbers"
    elif facts.not_numbered:
        yield f"{format_count(facts.not_numbered, 'trade')} without a gapless number"
    if (sessions := max(facts.sessions_started, len(facts.sessions))) > 1:
        yield f"{sessions:,} sessions on one day"
    if facts.conflicts:
        verb = "conflicts with a stored one" if facts.conflicts == 1 else "conflict with stored ones"
        yield f"{format_count(facts.conflicts, 'trade')} {verb}"
    if facts.dead_letters:
        yield format_count(facts.dead_letters, "dead letter")
    if facts.unnamed_dead_letters:
        yield f"{format_count(facts.unnamed_dead_letters, 'dead letter')} of its partitions without a symbol"
    if facts.connection_gaps:
        yield f"{format_count(facts.connection_gaps, 'message')} lost between venue and Kafka"
