"""Feeds: what each did not bring is exactly what it lost, however it is read and wherever the job crashes."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2.model.feeds import FeedKey, lag_seconds
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind
from k2.model.symbols import Symbols
from k2.model.verdicts import CONFLICT, DUPLICATE, SKIPPED, STORED
from k2.sequencing import feeds
from k2.sequencing.feed_states import COMMITS_KEPT, FeedStates
from k2.sequencing.feeds import FeedTracker
from k2.sequencing.feeds_kernel import bucket_of
from tests.model.trade_slices import Row, slice_of
from tests.sequencing.two_feeds import SYMBOLS, TOPICS, Job, missing_numbers

GAP, FILLED = EventKind.FEED_GAP, EventKind.FEED_GAP_FILLED
COUNT = 14


@st.composite
def markets(draw: st.DrawFn) -> dict[str, list[Row]]:
    """Two feeds of up to two sessions of up to two symbols, each of which loses trades, and may delay some.

    Trades of a later session come after the first, and each feed brings first and last number of each session.
    """
    logs: dict[str, list[Row]] = {one.topic: [] for one in TOPICS}
    symbols = SYMBOLS[: draw(st.integers(1, 2))]
    sessions = draw(st.integers(1, 2))
    for log in logs.values():
        delay = draw(st.integers(-3_000, 3_000))
        for session in range(1, sessions + 1):
            for number in range(1, COUNT + 1):
                at = session * 3_600_000_000 + number * 1_000_000
                log += [
                    Row(number, at, symbol, kafka_timestamp=at + delay + 5_000, price=session) for symbol in symbols
                ]
        lost = draw(st.sets(st.tuples(st.integers(1, sessions), st.sampled_from(symbols), st.integers(2, COUNT - 1))))
        log[:] = [row for row in log if (row.price, row.symbol, row.sequence) not in lost]
        for place in draw(st.lists(st.integers(0, len(log) - 2), max_size=3)):
            one, other = log[place : place + 2]
            if one.price == other.price:
                log[place : place + 2] = [other, one]
    return logs


def lost(job: Job) -> dict[FeedKey, set[int]]:
    """Return the numbers between the first and the last of a session that a feed did not bring.

    The first trades of a session may be taken for the session before, or be set aside, so the rules say what they are.
    """
    seen: dict[FeedKey, set[int]] = {}
    for (topic, _), (symbol, session, number) in job.judged.items():
        seen.setdefault(FeedKey("kraken", symbol, session, topic), set()).add(number)
    found = {key: {*range(min(numbers), max(numbers))} - numbers for key, numbers in seen.items()}
    return {key: numbers for key, numbers in found.items() if numbers}


def read_all(job: Job, random: Random, count_max: int = 20) -> None:
    """Read what is left in batches, and close the epoch."""
    while unread := [one for one, log in job.logs.items() if job.places[one] < len(log)]:
        job.read(random.choice(unread), random.randint(1, count_max))
    job.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ta", "tb"]), st.integers(1, 40)),
        st.just(("close",)),
        # A crash before any commit of the epoch, between its two in either order, and after both.
        st.sampled_from([("start",), ("write_events", "start"), ("commit", "start"), ("close", "start")]),
    ),
    max_size=20,
)


@given(markets(), STEPS, st.randoms(use_true_random=False))
def test_what_a_feed_misses_is_what_it_lost(
    logs: dict[str, list[Row]], steps: list[tuple[object, ...]], random: Random
) -> None:
    """However the topics are cut and read, and whatever commit a crash comes after, without a recovery store."""
    job = Job(logs)
    for step in steps:
        match step:
            case (str(topic), int(count)):
                job.read(topic, count)
            case names:
                for name in names:
                    getattr(job, str(name))()
    read_all(job, random)
    judged = {one.key for one in job.states.ranges()}
    assert {key: one for key, one in missing_numbers(job.ledger).items() if key in judged} == {
        key: one for key, one in lost(job).items() if key in judged
    }
    if all(row.price == 1 for log in logs.values() for row in log):
        for topic, log in logs.items():
            for symbol in {row.symbol for row in log}:
                numbers = {row.sequence for row in log if row.symbol == symbol}
                key = FeedKey("kraken", symbol, 1, topic)
                assert missing_numbers(job.ledger).get(key, set()) == {*range(1, COUNT + 1)} - numbers


@settings(max_examples=20)
@given(markets(), st.randoms(use_true_random=False))
def test_no_number_is_reported_twice(logs: dict[str, list[Row]], random: Random) -> None:
    """Each that is passed over is opened once and, if it comes after all, filled once."""
    job = Job(logs)
    read_all(job, random)
    for kind in (GAP, FILLED):
        numbers = [
            (one.topic, one.symbol, one.session, number)
            for one in job.ledger
            if one.event is kind
            for number in range(one.first_sequence, one.last_sequence + 1)
        ]
        assert len(numbers) == len({*numbers})


@settings(max_examples=20)
@given(markets(), st.randoms(use_true_random=False))
def test_trades_of_all_feeds_are_compared_once(logs: dict[str, list[Row]], random: Random) -> None:
    """By Kafka timestamps, so the order of reading is the same to them; starts compare no trade again."""
    job = Job(logs)
    read_all(job, random)
    brought = {topic: {one for (other, _), one in job.judged.items() if other == topic} for topic in logs}
    both = brought["ta"] & brought["tb"]
    sums = job.states.sums()
    assert {sum(int(one.lags.sum()) for key, one in sums.items() if key[2] == topic) for topic in logs} == {len(both)}
    delay = {topic: log[0].kafka_timestamp - log[0].timestamp for topic, log in logs.items()}
    for topic, other in (("ta", "tb"), ("tb", "ta")):
        is_first, lag = delay[topic] < delay[other], max(0, delay[topic] - delay[other])
        of_topic = [one for key, one in sums.items() if key[2] == topic]
        assert sum(one.first for one in of_topic) == len(both) * is_first
        assert all(one.lags[bucket_of(lag)] == one.lags.sum() for one in of_topic)


def tracker(**given: object) -> FeedTracker:
    """Return a tracker of two feeds."""
    return FeedTracker(0, TOPICS, Symbols(), **given)  # type: ignore[arg-type]


def changes(found: FeedTracker, rows: list[Row], topic: str = "ta") -> list[tuple[EventKind, int, int]]:
    """Return the events of some rows of session 1."""
    events = found.add(slice_of(rows, topic=topic, session=1))
    return [(one.event, one.first_sequence, one.last_sequence) for one in events]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([7, 8, 9], []),
        ([1, 2, 5], [(GAP, 3, 4)]),
        ([1, 5, 3], [(GAP, 2, 4), (FILLED, 3, 3)]),
        ([1, 5, 5, 1], [(GAP, 2, 4)]),
        # The first numbers come in any order.
        ([5, 3, 4], [(GAP, 4, 4), (FILLED, 4, 4)]),
        ([5, 4], []),
        # What is far below the first is not the feed's.
        ([1_000, 3, 1_001], []),
        ([-(2**63), 2**63 - 1], [(GAP, -(2**63) + 1, 2**63 - 2)]),
    ],
)
def test_what_is_passed_over(numbers: list[int], expected: list[tuple[EventKind, int, int]]) -> None:
    """And what comes late."""
    assert changes(tracker(), [Row(number) for number in numbers]) == expected


def test_ranges_count_with_all_their_numbers() -> None:
    """A trade of several numbers brings each of them."""
    rows = [Row(4, first_sequence=1), Row(9, first_sequence=7), Row(6, first_sequence=5)]
    assert changes(tracker(), rows) == [(GAP, 5, 6), (FILLED, 5, 6)]


def test_what_counts_as_brought() -> None:
    """A stored trade, a copy and a non-market trade; not a conflict, nor what has no number or is of no feed."""
    rows = [Row(1, verdict=STORED), Row(2, verdict=DUPLICATE), Row(3, verdict=SKIPPED), Row(4, verdict=CONFLICT), Row()]
    found = tracker()
    assert changes(found, [*rows, Row(5)]) == [(GAP, 4, 4)]
    assert changes(found, [Row(9)], topic="other") == []
    # A copy of a non-market trade has no session of its own.
    piece = slice_of([Row(3, verdict=SKIPPED)], topic="tb")
    assert found.add(piece) == []
    assert changes(found, [Row(5)], topic="tb") == [(GAP, 4, 4)]


@pytest.mark.parametrize("commits", [1, 2])
def test_events_that_a_crash_kept_out_of_the_ledger_are_written(commits: int) -> None:
    """The next start knows them from the commit of their trades, or the one after, and has their coordinates."""
    one = SYMBOLS[0]
    job = Job({"ta": [Row(1, symbol=one), Row(4, symbol=one), Row(3, symbol=one)], "tb": [Row(1, symbol=one)]})
    for _ in range(commits):
        job.read("ta", 3)
        job.commit()
    job.start()
    assert job.ledger == []
    job.read("tb", 1)
    job.close()
    assert missing_numbers(job.ledger) == {FeedKey("kraken", one, 1, "ta"): {2}}
    assert [(event.offset, event.is_owed) for event in job.ledger] == [(1, True)]


def test_events_are_written_in_the_first_epoch_of_a_start() -> None:
    """No message need come: after some commits without any, the state has them no more."""
    one = SYMBOLS[0]
    job = Job({"ta": [Row(1, symbol=one), Row(4, symbol=one)], "tb": []})
    job.read("ta", 2)
    job.commit()
    job.start()
    for _ in range(COMMITS_KEPT + 1):
        job.close()
    job.start()
    assert missing_numbers(job.ledger) == {FeedKey("kraken", one, 1, "ta"): {2, 3}}


def test_what_is_committed_is_ignored_on_replay() -> None:
    """Its numbers are in the state, and its trades have been compared."""
    found = tracker(committed={TopicPartition("ta", 0): 2})
    assert changes(found, [Row(1), Row(5), Row(9), Row(11)]) == [(GAP, 10, 10)]
    assert [(one.first, one.last) for one in _states(found).ranges()] == [(9, 11)]


def test_a_fill_is_of_no_feed() -> None:
    """Nor is a replayed dead letter: the feed has not brought it."""
    found = tracker()
    assert changes(found, [Row(1), Row(4)]) == [(GAP, 2, 3)]
    live = slice_of([Row(2)], topic="ta", session=1)
    source = replace(live.batch.source, marks={0: MessageMarks("person ada")})
    assert found.add(replace(live, batch=replace(live.batch, source=source))) == []
    assert changes(found, [Row(3)]) == [(FILLED, 3, 3)]


def test_stragglers_of_the_session_before_are_its_own() -> None:
    """Those of older ones are not judged."""
    found = tracker()

    def add(session: int, *numbers: int) -> list[tuple[int, int, int]]:
        events = found.add(slice_of([Row(one) for one in numbers], topic="ta", session=session))
        return [(one.session, one.first_sequence, one.last_sequence) for one in events]

    assert add(1, 1, 2, 5) == [(1, 3, 4)]
    assert add(2, 1, 2) == []
    assert add(1, 3, 9) == [(1, 3, 3), (1, 6, 8)]
    assert add(3, 1, 2) == []
    assert add(1, 7) == []
    assert {(one.key.session, one.first, one.last) for one in _states(found).ranges()} == {(2, 1, 2), (3, 1, 2)}


def test_too_many_gaps_are_judged_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower half of them: what fills them later is no event; a start knows the floor."""
    monkeypatch.setattr(feeds, "GAPS_MAX", 4)
    found = tracker()
    changes(found, [Row(number) for number in (1, 3, 5, 7, 9, 11)])
    [one] = _states(found).ranges()
    assert (one.first, one.floor, one.last) == (1, 7, 11)
    assert changes(found, [Row(4), Row(8)]) == [(FILLED, 8, 8)]
    recorded = {one.key: ((2, 2), (4, 4), (6, 6), (10, 10))}
    again = tracker(ranges=[one], recorded=recorded)
    assert changes(again, [Row(4), Row(10), Row(12), Row(14)]) == [(FILLED, 10, 10), (GAP, 13, 13)]


def test_symbols_beyond_the_first_have_slots() -> None:
    """Their feeds are apart, and their days are summed by exchange."""
    found = tracker()
    for topic, late in (("ta", 0), ("tb", 2_000)):
        rows = [Row(n, 5, f"S{one}", f"x{one % 40}", kafka_timestamp=5 + late) for one in range(200) for n in (1, 2)]
        assert changes(found, rows, topic) == []
    state = found.state()
    assert {(one.exchange, one.topic, one.first, int(one.lags[5])) for one in state.days} == {
        (f"x{one}", topic, 10 * (topic == "ta"), 10 * (topic == "tb")) for one in range(40) for topic in ("ta", "tb")
    }
    assert found.state().days == ()


def test_a_job_without_feeds_in_between_begins_again() -> None:
    """It has read messages that the feeds are not known of, so nothing is missing before the next one."""
    job = Job({"ta": [Row(1, symbol=SYMBOLS[0]), Row(2, symbol=SYMBOLS[0])], "tb": [Row(1, symbol=SYMBOLS[0])]})
    read_all(job, Random(0))
    assert len(FeedStates(job.table[0]).ranges(0, job.committed)) == 2
    one = TopicPartition("ta", 0)
    later = FeedStates(job.table[0]).ranges(0, {**job.committed, one: 4})
    assert [one.key.topic for one in later] == ["tb"]


def test_an_unknown_state_is_refused() -> None:
    """In the sentence of table properties."""
    with pytest.raises(ValueError, match="base64"):
        FeedStates("no state")


def test_lags_are_found_within_ten_percent() -> None:
    """From a millisecond to an hour."""
    for lag_us in (1_000, 7_000, 1_500_000, 3_600_000_000):
        assert abs(lag_seconds(bucket_of(lag_us)) * 1e6 / lag_us - 1) < 0.1
    assert lag_seconds(bucket_of(0)) == 0
    assert bucket_of(2**62) == 95


def _states(found: FeedTracker) -> FeedStates:
    states = FeedStates()
    states.begin(TOPICS)
    states.update(found.state())
    states.advance({})
    return FeedStates(states.text())
