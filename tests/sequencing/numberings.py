"""Numberings of one symbol on a contiguous venue, with known truth: what a feed does, seed by seed.

A script is a list of messages in the order of arrival. Each has the trade that it carries, so that
`tests.sequencing.numberings_truth` can count what the rules lost, doubled, called missing without cause, or dropped
silently. Nothing here depends on how the rules work.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from tests.sequencing.numberings_feed import HOUR, MS, SECOND, Feed, Script, Sent

__all__ = ["KINDS", "Script", "Sent", "script"]

Kind = Callable[[Feed, Random], None]
KINDS: Final[dict[str, Kind]] = {}


def _kind(function: Kind) -> Kind:
    KINDS[function.__name__.strip("_")] = function
    return function


def _some(rng: Random, least: int = 300, most: int = 1_500) -> int:
    return rng.randint(least, most)


@_kind
def _plain(feed: Feed, rng: Random) -> None:
    """Trades in order, from any number on."""
    feed.next_number = rng.choice([1, rng.randint(1, 10**9)])
    feed.live(_some(rng, 1))


@_kind
def _losses_and_late_fills(feed: Feed, rng: Random) -> None:
    """Some trades are lost, and half of those arrive late."""
    for _ in range(rng.randint(1, 4)):
        for one in feed.live(_some(rng), loss=rng.choice([0.001, 0.01, 0.2])):
            if rng.random() < 0.5:
                feed.again(one)


@_kind
def _outages(feed: Feed, rng: Random) -> None:
    """Whole stretches of numbers are lost."""
    for _ in range(rng.randint(1, 5)):
        feed.live(_some(rng))
        feed.next_number += rng.randint(1, 5_000)
        feed.venue_clock += rng.randint(0, HOUR)
    feed.live(5)


@_kind
def _old_numbers_under_new_times(feed: Feed, rng: Random) -> None:
    """Old trades are sent again with the time of sending."""
    for _ in range(rng.randint(3, 10)):
        feed.live(rng.randint(1, 300))
        for one in feed.old(rng.randint(1, 4)):
            feed.again(one, timestamp=feed.now())


@_kind
def _block_again_with_send_times(feed: Feed, rng: Random) -> None:
    """A block of about 900 numbers is sent again with the times of sending."""
    feed.live(_some(rng, 950))
    first = rng.randrange(len(feed.sent) - 900)
    for one in feed.sent[first : first + rng.randint(300, 900)]:
        feed.again(one, timestamp=feed.now())
        if rng.random() < 0.2:
            feed.live(1)
    feed.live(50)


@_kind
def _each_twice(feed: Feed, rng: Random) -> None:
    """Each trade arrives twice, its time once in milliseconds and once in microseconds, or a microsecond apart."""
    is_cut = rng.random() < 0.5
    restart_at = rng.choice([0, rng.randint(20, 400)])
    for place in range(_some(rng)):
        if restart_at and place == restart_at:
            feed.restart()
        made = feed.trade()
        other = made.timestamp // MS * MS if is_cut else made.timestamp + rng.choice([-1, 1])
        feed.sent += rng.sample([made, made._replace(timestamp=other)], 2)


@_kind
def _newest_corrected(feed: Feed, rng: Random) -> None:
    """The newest number is sent again with another price and a later time."""
    for _ in range(rng.randint(1, 20)):
        feed.live(rng.randint(2, 200))
        newest = feed.sent[-1]
        feed.again(newest, **feed.corrected(newest), timestamp=newest.timestamp + rng.randint(0, SECOND))
    feed.live(10)


@_kind
def _older_corrected(feed: Feed, rng: Random) -> None:
    """Older numbers are sent again with another price, with their own time or the time of sending."""
    feed.live(_some(rng))
    for _ in range(rng.randint(1, 20)):
        (one,) = feed.old(1)
        feed.again(one, **feed.corrected(one), timestamp=rng.choice([one.timestamp, feed.now()]))
        feed.live(rng.randint(1, 30))


@_kind
def _dated_ahead_then_restart(feed: Feed, rng: Random) -> None:
    """One trade is dated 8 hours or more ahead; an hour later numbering restarts."""
    feed.live(_some(rng))
    feed.sent[-1] = feed.sent[-1]._replace(timestamp=feed.now() + rng.choice([8, 20, 73 * 8766]) * HOUR)
    feed.live(rng.choice([0, 100]))
    feed.restart(pause=HOUR)
    feed.live(1_000)


@_kind
def _dated_ahead_in_kafka_too(feed: Feed, rng: Random) -> None:
    """As `_dated_ahead_then_restart`, with an equally wrong Kafka timestamp, as in a replay of captures."""
    feed.live(_some(rng))
    ahead = feed.now() + rng.choice([8, 20]) * HOUR
    feed.sent[-1] = feed.sent[-1]._replace(timestamp=ahead, kafka_timestamp=ahead)
    feed.live(rng.choice([0, 100]))
    feed.restart(pause=HOUR)
    feed.live(_some(rng))


@_kind
def _dated_behind(feed: Feed, rng: Random) -> None:
    """Some trades have a time in 1973, or hours ago."""
    feed.live(_some(rng))
    for _ in range(3):
        made = feed.trade()
        feed.sent.append(made._replace(timestamp=rng.choice([10**14, made.timestamp - 8 * HOUR])))
        feed.live(rng.randint(1, 100))


@_kind
def _restart_after_a_million(feed: Feed, rng: Random) -> None:
    """Numbering restarts directly after 1,000,000."""
    count = _some(rng)
    feed.next_number = 1_000_001 - count
    feed.live(count, loss=rng.choice([0, 0.01]))
    feed.restart(first=rng.choice([0, 1]))
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _restart_from_the_middle(feed: Feed, rng: Random) -> None:
    """The capture starts in the middle of a numbering, which then restarts."""
    feed.next_number = rng.randint(1_000, 10**9)
    feed.live(_some(rng, 20))
    feed.restart(pause=rng.choice([0, HOUR]))
    feed.live(_some(rng))


@_kind
def _restart_without_its_head(feed: Feed, rng: Random) -> None:
    """The first 5 to 60 numbers of the new numbering are lost."""
    feed.live(_some(rng))
    feed.restart(first=rng.randint(6, 61))
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _restart_with_a_slow_clock(feed: Feed, rng: Random) -> None:
    """The venue's clock is 50 ms to 4 s behind when numbering restarts."""
    feed.live(_some(rng))
    feed.skew = -rng.choice([50 * MS, SECOND, 4 * SECOND])
    feed.restart()
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _restart_an_hour_behind(feed: Feed, rng: Random) -> None:
    """The venue's clock is an hour behind when numbering restarts."""
    feed.live(_some(rng))
    feed.skew = -HOUR
    feed.restart()
    feed.live(_some(rng))


@_kind
def _restarts_after_few(feed: Feed, rng: Random) -> None:
    """Numbering restarts after 15 to 60 trades, several times."""
    for _ in range(rng.randint(2, 8)):
        feed.live(rng.randint(15, 60))
        feed.restart(pause=rng.choice([0, SECOND]))
    feed.live(_some(rng))


@_kind
def _six_with_holes(feed: Feed, rng: Random) -> None:
    """Six numberings with holes in each, some filled late, some after the next one started."""
    waiting: list[Sent] = []
    for number in range(6):
        if number:
            feed.restart(pause=rng.choice([0, HOUR]))
        for _ in range(5):
            waiting += feed.live(rng.randint(20, 200), loss=0.02)
            while waiting and rng.random() < 0.6:
                feed.again(waiting.pop(rng.randrange(len(waiting))))


@_kind
def _first_two_swapped(feed: Feed, rng: Random) -> None:
    """The first two trades arrive swapped, each with the time at which it arrives."""
    feed.live(2)
    one, two = feed.sent
    feed.sent = [
        two._replace(timestamp=one.timestamp, kafka_timestamp=one.kafka_timestamp),
        one._replace(timestamp=two.timestamp, kafka_timestamp=two.kafka_timestamp),
    ]
    feed.live(_some(rng, 1))


@_kind
def _swapped_at_a_restart(feed: Feed, rng: Random) -> None:
    """As `_first_two_swapped`, when numbering restarts."""
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
def _reconnects(feed: Feed, rng: Random) -> None:
    """After a reconnect the last 50 are sent again with their own times, oldest or newest first."""
    for _ in range(rng.randint(1, 6)):
        lost = feed.live(_some(rng), loss=rng.choice([0, 0.002]))
        newest = sorted({*feed.sent[-48:], *lost[-2:]}, key=lambda one: one.sequence)
        for one in newest if rng.random() < 0.5 else reversed(newest):
            feed.again(one)
    feed.live(rng.randint(1, 20))


@_kind
def _stragglers_and_copies(feed: Feed, rng: Random) -> None:
    """After the restart, missing trades of the old numbering, its end, and copies of it arrive with their own times."""
    lost = feed.live(_some(rng), loss=0.01)
    ends = [feed.trade() for _ in range(rng.randint(0, 5))]
    feed.restart(pause=rng.choice([SECOND, HOUR]))
    feed.live(rng.randint(3, 40))
    for one in rng.sample([*lost, *ends, *feed.old(20)], len(lost) + len(ends) + 20):
        feed.again(one)
        feed.live(rng.randint(0, 20))
    feed.live(_some(rng))


@_kind
def _old_numbering_again_with_send_times(feed: Feed, rng: Random) -> None:
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
def _weekend(feed: Feed, rng: Random) -> None:
    """The clock jumps by days, and numbers continue."""
    for _ in range(3):
        feed.live(_some(rng))
        feed.venue_clock += 60 * HOUR
        feed.kafka_clock = feed.venue_clock
    feed.live(10)


@_kind
def _two_ids_under_a_number(feed: Feed, rng: Random) -> None:
    """Trades have ids of their own; some numbers are used for two trades, the second of which is set aside."""
    for _ in range(_some(rng)):
        made = feed.trade()
        made = made._replace(trade_id=f"t{rng.randrange(10**9)}")
        feed.sent.append(made)
        if rng.random() < 0.02 and made.sequence > 1:
            feed.again(made, trade_id=f"t{rng.randrange(10**9)}", is_correction=True)
        if rng.random() < 0.05:
            feed.again(made, timestamp=feed.now())


@_kind
def _newest_first(feed: Feed, rng: Random) -> None:
    """Messages have several trades, the newest first."""
    count = _some(rng)
    feed.live(count)
    size = rng.randint(2, 40)
    feed.sent = [one for place in range(0, count, size) for one in reversed(feed.sent[place : place + size])]


@_kind
def _disorder(feed: Feed, rng: Random) -> None:
    """Trades overtake one another within about 20 places; numbering restarts once."""
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
def _restart_in_disorder(feed: Feed, rng: Random) -> None:
    """Numbering restarts; its first trades overtake one another, and a fifth of them is lost."""
    feed.live(_some(rng))
    before, feed.sent = feed.sent, []
    feed.restart(first=rng.randint(1, 61), pause=rng.choice([0, SECOND]))
    feed.live(_some(rng))
    head = _shaken(rng, [one for one in feed.sent[:60] if rng.random() > 0.2])
    feed.sent = [*before, *head, *feed.sent[60:]]


@_kind
def _two_collectors(feed: Feed, rng: Random) -> None:
    """Two collectors publish the same feed, one a little later, each with its own losses."""
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
def _outage_after_restart(feed: Feed, rng: Random) -> None:
    """Hundreds of numbers are lost after numbering restarted."""
    feed.live(_some(rng))
    feed.restart()
    feed.live(rng.randint(2, 200))
    feed.next_number += rng.randint(100, 3_000)
    feed.live(_some(rng))


@_kind
def _coarse_times(feed: Feed, rng: Random) -> None:
    """Times in whole seconds or milliseconds, so that many trades share one; numbering restarts."""
    feed.resolution = rng.choice([MS, SECOND])
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))
    feed.restart(pause=rng.choice([0, 2 * SECOND]))
    feed.live(_some(rng), loss=rng.choice([0, 0.01]))


@_kind
def _long_ago(feed: Feed, rng: Random) -> None:
    """Copies arrive hours later, with their own times."""
    feed.live(_some(rng))
    for _ in range(4):
        feed.venue_clock += HOUR
        feed.kafka_clock = feed.venue_clock
        feed.live(rng.randint(1, 50))
        for one in feed.old(20):
            feed.again(one)


@_kind
def _late_first(feed: Feed, rng: Random) -> None:
    """Trades from before the start of the capture arrive late, with their own times."""
    feed.next_number = rng.randint(1_000, 10**6)
    before = [feed.trade() for _ in range(rng.randint(1, 50))]
    feed.live(rng.randint(1, 400))
    for one in before if rng.random() < 0.5 else reversed(before):
        feed.again(one)
    feed.live(50)


def script(seed: int) -> Script:
    """Return one seed's messages; the same for the same seed."""
    rng = Random(f"numberings {seed}")
    kind = [*KINDS][seed % len(KINDS)]
    feed = Feed(rng, step=rng.choice([2 * MS, 20 * MS, 2 * SECOND]))
    KINDS[kind](feed, rng)
    return Script(kind, feed.sent, feed.numbering - 1)
