"""Causes of gaps, as far as there is evidence, and incidents: gaps of one cause that were found close in time.

All times are venue times of the trades that showed the gaps, or Kafka timestamps of head numbers, so that a replay
finds the same causes. A cause is only named for evidence that would be a strange coincidence otherwise; everything else
is unknown.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from k2.model.times import SECOND_US, time_of

__all__ = [
    "BURST_US",
    "JUMP_MIN",
    "JUMP_US",
    "SYMBOLS_MIN",
    "VENUE_SYMBOLS_MIN",
    "AbandonedOffsets",
    "Explanation",
    "GapCause",
    "LostMessages",
    "Opening",
    "explain",
]

BURST_US: Final = 60 * SECOND_US
"""A burst of openings lasts from its first one on for at most this long."""
SYMBOLS_MIN: Final = 3
"""Symbols of a burst in one topic, from which it is no coincidence."""
VENUE_SYMBOLS_MIN: Final = 10
"""Symbols of a burst of one exchange in several topics, from which it is no coincidence."""
JUMP_MIN: Final = 1_000
"""A jump of fewer numbers is never taken for one of the venue's numbering."""
HUGE_JUMP_MIN: Final = 1_000_000
"""A jump of this many numbers is, also if it is not round."""
JUMP_US: Final = SECOND_US
"""Time between the trades next to a gap, up to which the numbers between them cannot all have been traded."""


class GapCause(StrEnum):
    """Why numbers are missing, by the evidence in the tables."""

    TAIL = "tail"
    """A message that is not a trade named the numbers, and no trade of them came: the newest were missing."""
    KAFKA = "kafka"
    """The messages between the trades next to the gap were abandoned, because Kafka no longer had them."""
    CONNECTION = "connection"
    """What carried several symbols was interrupted, or messages of the connection are known to be lost."""
    VENUE = "venue"
    """The venue's numbers jumped, or the venue failed for many symbols wherever they are captured."""
    UNKNOWN = "unknown"


class Opening(NamedTuple):
    """One event `gap_opened`, with what the table of trades has next to it."""

    exchange: str
    symbol: str
    session: int
    first: int
    last: int
    """Inclusive."""
    at: int
    """Time of the event: the venue time of the trade that showed the gap, microseconds since the epoch."""
    topic: str
    partition: int
    offset: int
    """Of the message that showed the gap."""
    is_tail: bool = False
    """Whether that message is known not to be a stored trade."""
    before_at: int | None = None
    """Venue time of the trade before the gap, microseconds since the epoch; None if it was not looked up."""
    before_offset: int | None = None
    """Offset of the trade before the gap in the same topic partition; None if it was not looked up."""


class LostMessages(NamedTuple):
    """Messages of a connection that were lost before Kafka."""

    exchange: str
    topic: str
    at: int
    """Kafka timestamp of the message after them, microseconds since the epoch."""


class AbandonedOffsets(NamedTuple):
    """Offsets of a topic partition that were abandoned unread: `first` to `last` inclusive."""

    topic: str
    partition: int
    first: int
    last: int


class Explanation(NamedTuple):
    """The cause of a gap, and the incident that it belongs to."""

    cause: GapCause
    incident: str
    """Cause, exchange (or topic, if several exchanges are in it) and minute (UTC) of its first gap."""


class _Burst(NamedTuple):
    """Openings of one key, from the first one on for at most a minute."""

    first_at: int
    symbols: int
    exchanges: frozenset[str]
    topics: frozenset[str]


def explain(
    openings: Sequence[Opening], messages: Iterable[LostMessages] = (), offsets: Iterable[AbandonedOffsets] = ()
) -> list[Explanation]:
    """Return the explanation of each opening, in their order, whatever that is."""
    lost, abandoned = _times_by_connection(messages), tuple(offsets)
    by_topic = _bursts(openings, lambda one: one.topic)
    by_exchange = _bursts(openings, lambda one: one.exchange)
    causes = {one: _cause(one, by_topic[one], by_exchange[one], lost, abandoned) for one in openings}
    bursts = _bursts(openings, causes.__getitem__)
    return [Explanation(causes[one][0], _name(causes[one], bursts[one])) for one in openings]


def _cause(
    one: Opening,
    of_topic: _Burst,
    of_exchange: _Burst,
    lost: Mapping[tuple[str, str], Sequence[int]],
    abandoned: Sequence[AbandonedOffsets],
) -> tuple[GapCause, str]:
    """Return the cause of an opening, and the exchange or topic in which its incident is."""
    if one.is_tail:
        return GapCause.TAIL, one.exchange
    if any(_is_between(one, offsets) for offsets in abandoned):
        return GapCause.KAFKA, one.exchange
    if _has_time_near(lost.get((one.exchange, one.topic), ()), one.at):
        return GapCause.CONNECTION, one.exchange
    if _is_jump(one):
        return GapCause.VENUE, one.exchange
    if len(of_topic.exchanges) == 1 and len(of_exchange.topics) > 1 and of_exchange.symbols >= VENUE_SYMBOLS_MIN:
        return GapCause.VENUE, one.exchange
    if of_topic.symbols >= SYMBOLS_MIN:
        return GapCause.CONNECTION, one.exchange if len(of_topic.exchanges) == 1 else one.topic
    return GapCause.UNKNOWN, one.exchange


def _is_between(one: Opening, offsets: AbandonedOffsets) -> bool:
    """Return whether offsets are between the messages of the trades before and after a gap."""
    if (one.topic, one.partition) != (offsets.topic, offsets.partition) or one.before_offset is None:
        return False
    return one.before_offset < offsets.first and offsets.last < one.offset


def _has_time_near(times: Sequence[int], at: int) -> bool:
    """Return whether one of ascending times is at most a minute from another time."""
    idx = bisect_left(times, at - BURST_US)
    return idx < len(times) and times[idx] <= at + BURST_US


def _is_jump(one: Opening) -> bool:
    """Return whether the numbers jumped: by a round or huge number, with no time in which they could be traded."""
    jump = one.last - one.first + 2
    is_sudden = one.before_at is not None and 0 <= one.at - one.before_at <= JUMP_US
    return is_sudden and (jump >= HUGE_JUMP_MIN or (jump >= JUMP_MIN and jump % JUMP_MIN == 0))


def _times_by_connection(messages: Iterable[LostMessages]) -> Mapping[tuple[str, str], Sequence[int]]:
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for one in messages:
        found[one.exchange, one.topic].append(one.at)
    return {key: sorted(times) for key, times in found.items()}


def _bursts(openings: Iterable[Opening], key: Callable[[Opening], Hashable]) -> Mapping[Opening, _Burst]:
    """Return the burst of each opening, of those with the same key."""
    found: dict[Opening, _Burst] = {}
    for burst in _split(openings, key):
        symbols = {(one.exchange, one.symbol) for one in burst}
        topics = frozenset(one.topic for one in burst)
        made = _Burst(burst[0].at, len(symbols), frozenset(exchange for exchange, _ in symbols), topics)
        found |= dict.fromkeys(burst, made)
    return found


def _split(openings: Iterable[Opening], key: Callable[[Opening], Hashable]) -> Iterator[list[Opening]]:
    groups: defaultdict[Hashable, list[Opening]] = defaultdict(list)
    for one in openings:
        groups[key(one)].append(one)
    for group in groups.values():
        burst: list[Opening] = []
        for one in sorted(group, key=lambda one: one.at):
            if burst and one.at - burst[0].at > BURST_US:
                yield burst
                burst = []
            burst.append(one)
        yield burst


def _name(cause: tuple[GapCause, str], burst: _Burst) -> str:
    kind, scope = cause
    return f"{kind}:{scope}:{time_of(burst.first_at):%Y-%m-%dT%H:%M}"
