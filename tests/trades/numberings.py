"""Numberings of one symbol on a contiguous venue, with known truth: what a feed does, seed by seed.

A script is a list of messages as they come. Each knows which trade it bears, so `assess` can count what the rules
lost, doubled, called missing without cause, or dropped in silence. Nothing here knows how the rules work.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Final, NamedTuple

from trades.verdicts import CONFLICT, DUPLICATE, STORED

__all__ = ["KINDS", "Assessment", "Script", "Sent", "assess", "script"]

MS: Final = 1_000
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
START: Final = 1_700_000_000 * SECOND


class Sent(NamedTuple):
    """One message; times in microseconds."""

    sequence: int
    price: int
    quantity: int
    side: int
    trade_id: str | None
    timestamp: int
    kafka_timestamp: int
    numbering: int = 1
    """Which true numbering its trade belongs to."""
    is_correction: bool = False
    """Whether it is no trade of its own: other content under the number of a trade that was sent before."""

    @property
    def trade(self) -> tuple[int, int, str | None]:
        """What the trade is in truth."""
        return self.numbering, self.sequence, self.trade_id


@dataclass
class Script:
    """What one seed's feed sends."""

    kind: str
    sent: list[Sent]
    restarts: int = 0
    """How often numbering begins again."""


@dataclass
class _Feed:
    """A venue that trades, and the wire to Kafka."""

    rng: Random
    sent: list[Sent] = field(default_factory=list)
    venue_clock: int = START
    kafka_clock: int = START + 5 * MS
    skew: int = 0
    """How far the venue's clock is ahead; behind where it is negative."""
    numbering: int = 1
    next_number: int = 1
    step: int = 20 * MS
    resolution: int = 1

    def trade(self) -> Sent:
        """Make the next trade."""
        wait = self.rng.randint(1, self.step)
        self.venue_clock += wait
        self.kafka_clock = max(self.kafka_clock + 1, self.venue_clock + self.rng.randint(MS, 40 * MS))
        at = (self.venue_clock + self.skew) // self.resolution * self.resolution
        made = Sent(
            self.next_number,
            self.rng.randint(10**6, 10**7),
            self.rng.randint(1, 10**6),
            self.rng.randint(0, 2),
            None,
            at,
            self.kafka_clock,
            self.numbering,
        )
        self.next_number += 1
        return made

    def live(self, count: int, *, loss: float = 0.0) -> list[Sent]:
        """Send trades as they happen; return those that were lost on the way."""
        lost = []
        for place in range(count):
            made = self.trade()
            if 0 < place < count - 1 and self.rng.random() < loss:
                lost.append(made)
            else:
                self.sent.append(made)
        return lost

    def again(self, one: Sent, **changes: object) -> None:
        """Send a trade again, as a message of its own, with its own time unless changed."""
        self.kafka_clock += self.rng.randint(1, MS)
        self.venue_clock = max(self.venue_clock, self.kafka_clock - 5 * MS)
        self.sent.append(one._replace(**{"kafka_timestamp": self.kafka_clock, **changes}))  # type: ignore[arg-type]

    def now(self) -> int:
        """Return the time that a message sent now would bear."""
        return self.venue_clock + self.skew

    def restart(self, first: int = 1, *, pause: int = 0) -> None:
        """Begin numbering again."""
        self.numbering += 1
        self.next_number = first
        self.venue_clock += pause
        self.kafka_clock = max(self.kafka_clock, self.venue_clock)

    def corrected(self, one: Sent) -> dict[str, object]:
        """Return the fields of a correction."""
        return {"price": one.price + self.rng.randint(1, 1_000), "is_correction": True}

    def old(self, count: int) -> list[Sent]:
        """Choose some true trades sent before."""
        true = [one for one in self.sent if not one.is_correction]
        return [true[self.rng.randrange(len(true))] for _ in range(count)]


Kind = Callable[[_Feed, Random], None]
KINDS: Final[dict[str, Kind]] = {}


def _kind(function: Kind) -> Kind:
    KINDS[function.__name__.strip("_")] = function
    return function


def _some(rng: Random, least: int = 300, most: int = 1_500) -> int:
    return rng.randint(least, most)


@_kind
def _plain(feed: _Feed, rng: Random) -> None:
    """Trades in order, from any number on."""
    feed.next_number = rng.choice([1, rng.randint(1, 10**9)])
    feed.live(_some(rng, 1))


@_kind
def _losses_and_late_fills(feed: _Feed, rng: Random) -> None:
    """Some trades are lost, and half of those come late."""
    for _ in range(rng.randint(1, 4)):
        for one in feed.live(_some(rng), loss=rng.choice([0.001, 0.01, 0.2])):
            if rng.random() < 0.5:
                feed.again(one)


@_kind
def _outages(feed: _Feed, rng: Random) -> None:
    """Whole stretches of numbers are lost."""
    for _ in range(rng.randint(1, 5)):
        feed.live(_some(rng))
        feed.next_number += rng.randint(1, 5_000)
        feed.venue_clock += rng.randint(0, HOUR)
    feed.live(5)


@_kind
def _old_numbers_under_new_times(feed: _Feed, rng: Random) -> None:
    """Old trades are sent again with the time of sending."""
    for _ in range(rng.randint(3, 10)):
        feed.live(rng.randint(1, 300))
        for one in feed.old(rng.randint(1, 4)):
            feed.again(one, timestamp=feed.now())


@_kind
def _block_again_with_send_times(feed: _Feed, rng: Random) -> None:
    """A block of some 900 numbers is sent again with the times of sending."""
    feed.live(_some(rng, 950))
    first = rng.randrange(len(feed.sent) - 900)
    for one in feed.sent[first : first + rng.randint(300, 900)]:
        feed.again(one, timestamp=feed.now())
        if rng.random() < 0.2:
            feed.live(1)
    feed.live(50)


@_kind
def _each_twice(feed: _Feed, rng: Random) -> None:
    """Each trade comes twice, its time once in milliseconds and once in microseconds, or a microsecond apart."""
    is_cut = rng.random() < 0.5
    restart_at = rng.choice([0, rng.randint(20, 400)])
    for place in range(_some(rng)):
        if restart_at and place == restart_at:
            feed.restart()
        made = feed.trade()
        other = made.timestamp // MS * MS if is_cut else made.timestamp + rng.choice([-1, 1])
        feed.sent += rng.sample([made, made._replace(timestamp=other)], 2)


@_kind
def _newest_corrected(feed: _Feed, rng: Random) -> None:
    """The newest number comes again with another price and a later time."""
    for _ in range(rng.randint(1, 20)):
        feed.live(rng.randint(2, 200))
        newest = feed.sent[-1]
        feed.again(newest, **feed.corrected(newest), timestamp=newest.timestamp + rng.randint(0, SECOND))
    feed.live(10)


@_kind
def _older_corrected(feed: _Feed, rng: Random) -> None:
    """Older numbers come again with another price, with their own time or the time of sending."""
    feed.live(_some(rng))
    for _ in range(rng.randint(1, 20)):
        (one,) = feed.old(1)
        feed.again(one, **feed.corrected(one), timestamp=rng.choice([one.timestamp, feed.now()]))
        feed.live(rng.randint(1, 30))


@_kind
def _dated_ahead_then_restart(feed: _Feed, rng: Random) -> None:
    """One trade is dated 8 hours or more ahead; an hour later numbering begins again."""
    feed.live(_some(rng))
    feed.sent[-1] = feed.sent[-1]._replace(timestamp=feed.now() + rng.choice([8, 20, 73 * 8766]) * HOUR)
    feed.live(rng.choice([0, 100]))
    feed.restart(pause=HOUR)
    feed.live(1_000)


@_kind
def _dated_ahead_in_kafka_too(feed: _Feed, rng: Random) -> None:
    """As before, with a Kafka timestamp as wrong, as a replay of captures has it."""
    feed.live(_some(rng))
    ahead = feed.now() + rng.choice([8, 20]) * HOUR
    feed.sent[-1] = feed.sent[-1]._replace(timestamp=ahead, kafka_timestamp=ahead)
    feed.live(rng.choice([0, 100]))
    feed.restart(pause=HOUR)
    feed.live(_some(rng))


@_kind
def _dated_behind(feed: _Feed, rng: Random) -> None:
    """Some trades bear a time in 1973, or hours ago."""
    feed.live(_some(rng))
    for _ in range(3):
        made = feed.trade()
        feed.sent.append(made._replace(timestamp=rng.choice([10**14, made.timestamp - 8 * HOUR])))
        feed.live(rng.randint(1, 100))


@_kind
def _restart_after_a_million(feed: _Feed, rng: Random) -> None:
    """Numbering begins again straight after 1,000,000."""
    count = _some(rng)
    feed.next_number = 1_000_001 - count
    feed.live(count, loss=rng.choice([0, 0.01]))
    feed.restart(first=rng.choice([0, 1]))
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _restart_from_the_middle(feed: _Feed, rng: Random) -> None:
    """The capture began amid a numbering, which then begins again."""
    feed.next_number = rng.randint(1_000, 10**9)
    feed.live(_some(rng, 20))
    feed.restart(pause=rng.choice([0, HOUR]))
    feed.live(_some(rng))


@_kind
def _restart_without_its_head(feed: _Feed, rng: Random) -> None:
    """The first 5 to 60 numbers of the new numbering are lost."""
    feed.live(_some(rng))
    feed.restart(first=rng.randint(6, 61))
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _restart_with_a_slow_clock(feed: _Feed, rng: Random) -> None:
    """The venue's clock is 50 ms to 4 s behind when numbering begins again."""
    feed.live(_some(rng))
    feed.skew = -rng.choice([50 * MS, SECOND, 4 * SECOND])
    feed.restart()
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _restart_an_hour_behind(feed: _Feed, rng: Random) -> None:
    """The venue's clock is an hour behind when numbering begins again."""
    feed.live(_some(rng))
    feed.skew = -HOUR
    feed.restart()
    feed.live(_some(rng))


@_kind
def _restarts_after_few(feed: _Feed, rng: Random) -> None:
    """Numbering begins again after 15 to 60 trades, several times."""
    for _ in range(rng.randint(2, 8)):
        feed.live(rng.randint(15, 60))
        feed.restart(pause=rng.choice([0, SECOND]))
    feed.live(_some(rng))


@_kind
def _six_with_holes(feed: _Feed, rng: Random) -> None:
    """Six numberings with holes in each, some filled late, some after the next one began."""
    waiting: list[Sent] = []
    for number in range(6):
        if number:
            feed.restart(pause=rng.choice([0, HOUR]))
        for _ in range(5):
            waiting += feed.live(rng.randint(20, 200), loss=0.02)
            while waiting and rng.random() < 0.6:
                feed.again(waiting.pop(rng.randrange(len(waiting))))


@_kind
def _first_two_swapped(feed: _Feed, rng: Random) -> None:
    """The first two trades arrive swapped, each with the time at which it arrives."""
    feed.live(2)
    one, two = feed.sent
    feed.sent = [
        two._replace(timestamp=one.timestamp, kafka_timestamp=one.kafka_timestamp),
        one._replace(timestamp=two.timestamp, kafka_timestamp=two.kafka_timestamp),
    ]
    feed.live(_some(rng, 1))


@_kind
def _swapped_at_a_restart(feed: _Feed, rng: Random) -> None:
    """As before, when numbering begins again."""
    feed.live(_some(rng))
    feed.restart()
    feed.live(2)
    one, two = feed.sent[-2:]
    feed.sent[-2:] = (
        [two, one]
        if rng.random() < 0.5
        else [
            two._replace(timestamp=one.timestamp),
            one._replace(timestamp=two.timestamp),
        ]
    )
    feed.live(_some(rng))


@_kind
def _reconnects(feed: _Feed, rng: Random) -> None:
    """After a reconnect the last 50 come again with their own times, oldest or newest first."""
    for _ in range(rng.randint(1, 6)):
        lost = feed.live(_some(rng), loss=rng.choice([0, 0.002]))
        newest = sorted({*feed.sent[-48:], *lost[-2:]}, key=lambda one: one.sequence)
        for one in newest if rng.random() < 0.5 else reversed(newest):
            feed.again(one)
    feed.live(rng.randint(1, 20))


@_kind
def _stragglers_and_copies(feed: _Feed, rng: Random) -> None:
    """After the restart come trades missing in the old numbering, its end, and copies of it, with their own times."""
    lost = feed.live(_some(rng), loss=0.01)
    ends = [feed.trade() for _ in range(rng.randint(0, 5))]
    feed.restart(pause=rng.choice([SECOND, HOUR]))
    feed.live(rng.randint(3, 40))
    for one in rng.sample([*lost, *ends, *feed.old(20)], len(lost) + len(ends) + 20):
        feed.again(one)
        feed.live(rng.randint(0, 20))
    feed.live(_some(rng))


@_kind
def _old_numbering_again_with_send_times(feed: _Feed, rng: Random) -> None:
    """After the restart, trades of the old numbering come again with the times of sending: single ones or a block."""
    feed.live(_some(rng))
    old = list(feed.sent)
    feed.restart(pause=rng.choice([0, HOUR]))
    feed.live(rng.randint(1, 300))
    first, count = rng.randrange(len(old)), rng.choice([1, 5, 900])
    for one in old[first : first + count] if rng.random() < 0.5 else rng.choices(old, k=min(count, 20)):
        feed.again(one, timestamp=feed.now())
        if rng.random() < 0.1:
            feed.live(1)
    feed.live(_some(rng))


@_kind
def _weekend(feed: _Feed, rng: Random) -> None:
    """The clock jumps by days, and numbers go on."""
    for _ in range(3):
        feed.live(_some(rng))
        feed.venue_clock += 60 * HOUR
        feed.kafka_clock = feed.venue_clock
    feed.live(10)


@_kind
def _two_ids_under_a_number(feed: _Feed, rng: Random) -> None:
    """Trades name ids of their own; some numbers are used for two trades, of which the second is set aside."""
    for _ in range(_some(rng)):
        made = feed.trade()
        made = made._replace(trade_id=f"t{rng.randrange(10**9)}")
        feed.sent.append(made)
        if rng.random() < 0.02 and made.sequence > 1:
            feed.again(made, trade_id=f"t{rng.randrange(10**9)}", is_correction=True)
        if rng.random() < 0.05:
            feed.again(made, timestamp=feed.now())


@_kind
def _newest_first(feed: _Feed, rng: Random) -> None:
    """Messages bear several trades, the newest first."""
    count = _some(rng)
    feed.live(count)
    size = rng.randint(2, 40)
    feed.sent = [one for place in range(0, count, size) for one in reversed(feed.sent[place : place + size])]


@_kind
def _disorder(feed: _Feed, rng: Random) -> None:
    """Trades overtake one another within some 20 places; numbering begins again once."""
    feed.live(_some(rng))
    feed.sent = _shaken(rng, feed.sent)
    if rng.random() < 0.5:
        before, feed.sent = feed.sent, []
        feed.restart(pause=SECOND)
        feed.live(_some(rng))
        feed.sent = [*before, feed.sent[0], *_shaken(rng, feed.sent[1:])]


def _shaken(rng: Random, sent: list[Sent]) -> list[Sent]:
    keys = [place + rng.randint(0, 20) for place in range(len(sent))]
    return [sent[place] for place in sorted(range(len(sent)), key=keys.__getitem__)]


@_kind
def _two_collectors(feed: _Feed, rng: Random) -> None:
    """Two collectors publish the same feed, one a little later, each with losses of its own."""
    feed.live(_some(rng))
    if rng.random() < 0.5:
        feed.restart(pause=SECOND)
        feed.live(_some(rng))
    lag = rng.randint(1, 60)
    both = [(place, one) for place, one in enumerate(feed.sent) if place < 2 or rng.random() > 0.01]
    both += [(place + lag, one) for place, one in enumerate(feed.sent) if rng.random() > 0.01]
    heads = {min((p for p, one in both if one.numbering == number), default=0) for number in (1, 2)}
    feed.sent = [one for place, one in sorted(both, key=lambda item: (item[0], item[0] not in heads))]


@_kind
def _outage_after_restart(feed: _Feed, rng: Random) -> None:
    """Hundreds of numbers are lost after numbering began again."""
    feed.live(_some(rng))
    feed.restart()
    feed.live(rng.randint(2, 200))
    feed.next_number += rng.randint(100, 3_000)
    feed.live(_some(rng))


@_kind
def _coarse_times(feed: _Feed, rng: Random) -> None:
    """Times in whole seconds or milliseconds, so that many trades share one; numbering begins again."""
    feed.resolution = rng.choice([MS, SECOND])
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))
    feed.restart(pause=rng.choice([0, 2 * SECOND]))
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _long_ago(feed: _Feed, rng: Random) -> None:
    """Copies come hours later, with their own times."""
    feed.live(_some(rng))
    for _ in range(4):
        feed.venue_clock += HOUR
        feed.kafka_clock = feed.venue_clock
        feed.live(rng.randint(1, 50))
        for one in feed.old(20):
            feed.again(one)


@_kind
def _late_first(feed: _Feed, rng: Random) -> None:
    """What was traded before the capture began comes late, with its own times."""
    feed.next_number = rng.randint(1_000, 10**6)
    before = [feed.trade() for _ in range(rng.randint(1, 50))]
    feed.live(rng.randint(1, 400))
    for one in before if rng.random() < 0.5 else reversed(before):
        feed.again(one)
    feed.live(50)


def script(seed: int) -> Script:
    """Make one seed's messages; the same for the same seed."""
    rng = Random(f"numberings {seed}")
    kind = [*KINDS][seed % len(KINDS)]
    feed = _Feed(rng, step=rng.choice([2 * MS, 20 * MS, 2 * SECOND]))
    KINDS[kind](feed, rng)
    return Script(kind, feed.sent, feed.numbering - 1)


@dataclass
class Assessment:
    """What the rules made of a script, against the truth."""

    lost: int = 0
    """Trades of which no copy is stored or set aside."""
    doubled: int = 0
    """Rows beyond one a trade, and corrections that are stored."""
    dropped_silently: int = 0
    """Messages judged duplicates though nothing with their content was stored."""
    falsely_missing: int = 0
    """Numbers that the ledger misses though their trade is stored, or that no numbering ever had."""
    gaps_unseen: int = 0
    """Numbers between stored ones of a numbering that were not stored and that the ledger does not miss."""
    set_aside: int = 0
    """Conflicts that are no correction."""

    @property
    def is_right(self) -> bool:
        """Whether nothing but setting aside happened."""
        wrong = self.lost, self.doubled, self.dropped_silently, self.falsely_missing, self.gaps_unseen
        return not any(wrong)


def assess(
    made: Script, verdicts: Sequence[int], sessions: Sequence[int], missing: Iterable[tuple[int, int, int]]
) -> Assessment:
    """Compare verdicts and sessions a message, and what the ledger misses (session, first, last), with the truth."""
    found = Assessment()
    stored, aside, rows = Counter[object](), set[object](), list[tuple[int, Sent]]()
    contents = set[object]()
    for one, verdict, session in zip(made.sent, verdicts, sessions, strict=True):
        content = *one.trade, one.price, one.quantity, one.side
        if verdict == STORED:
            found.doubled += one.is_correction
            stored[one.trade] += 1
            rows.append((session, one))
            contents.add(content)
        elif verdict == CONFLICT:
            aside.add(one.trade)
            found.set_aside += not one.is_correction
        elif verdict == DUPLICATE:
            found.dropped_silently += content not in contents and one.trade not in aside
    true = {one.trade for one in made.sent if not one.is_correction}
    found.lost = len(true - stored.keys() - aside)
    found.doubled += sum(count - 1 for count in stored.values())
    _assess_ledger(found, rows, missing)
    return found


def _assess_ledger(found: Assessment, rows: list[tuple[int, Sent]], missing: Iterable[tuple[int, int, int]]) -> None:
    """Hold the ledger against what is stored, each session as the numbering that most of its rows are of."""
    votes, numbers = defaultdict[int, Counter[int]](Counter), defaultdict[int, set[int]](set)
    for session, one in rows:
        votes[session][one.numbering] += 1
        numbers[one.numbering].add(one.sequence)
    numbering_of = {session: count.most_common(1)[0][0] for session, count in votes.items()}
    missed = defaultdict[int, list[tuple[int, int]]](list)
    for session, first, last in missing:
        missed[numbering_of[session]].append((first, last))
    for numbering, stored in numbers.items():
        ranges = sorted(missed[numbering])
        gaps = [(low + 1, high - 1) for low, high in pairwise(sorted(stored)) if high - low > 1]
        found.falsely_missing += _beyond(ranges, gaps)
        found.gaps_unseen += _beyond(gaps, ranges)


def _beyond(ranges: list[tuple[int, int]], covering: list[tuple[int, int]]) -> int:
    """Count the numbers of some ranges that others do not cover."""
    total = 0
    for first, last in ranges:
        inside = (min(last, high) - max(first, low) + 1 for low, high in covering)
        total += last - first + 1 - sum(count for count in inside if count > 0)
    return total
