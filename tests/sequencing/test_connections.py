"""Gaps in the numbers of connections: what is missing in the end, when it is reported, and what a start knows of it."""

from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.connections import ConnectionKey
from k2.model.key_groups import GROUPS
from k2.model.progress import TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.sequencing import connections
from k2.sequencing.connection_states import ConnectionStates
from k2.sequencing.connections import CONNECTIONS_MAX, RESTART_MAX, SETTLE_SECONDS, ConnectionTracker
from tests.sequencing.connection_feed import connection_slice, missing_numbers, missing_ranges

GAP, FILLED = EventKind.CONNECTION_GAP, EventKind.CONNECTION_GAP_FILLED
NO_NUMBERS = '{"exchange":"x","topic":"t","name":"n","session":1,"partition":0,"offset":0,"timestamp":0,"edges":[]}'
Log = list[tuple[str, int]]
"""The messages of one partition: name and number."""


def described(events: list[SequenceEvent]) -> list[tuple[EventKind, int, int, int, int]]:
    """Return kind, numbers and coordinates of events."""
    return [(one.event, one.first_sequence, one.last_sequence, one.partition, one.offset) for one in events]


@st.composite
def logs(draw: st.DrawFn, names_max: int = 3) -> dict[int, Log]:
    """Partitions with the messages of up to three connections, each with holes, in the order of the numbers."""
    found: dict[int, Log] = {partition: [] for partition in range(draw(st.integers(1, 3)))}
    for name in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=names_max, unique=True)):
        numbers = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=25)))
        for number in numbers:
            found[draw(st.sampled_from(sorted(found)))].append((name, number))
    for partition, log in found.items():
        # Connections mix, and each keeps its order.
        order = draw(st.permutations([name for name, _ in log]))
        numbers_of = {name: iter([number for other, number in log if other == name]) for name in {*order}}
        found[partition] = [(name, next(numbers_of[name])) for name in order]
    return found


def expected(logs: dict[int, Log]) -> dict[str, set[int]]:
    """Return the numbers missing between the first and the last of each connection."""
    seen: dict[str, set[int]] = {}
    for log in logs.values():
        for name, number in log:
            seen.setdefault(name, set()).add(number)
    missing = {name: {*range(min(numbers), max(numbers))} - numbers for name, numbers in seen.items()}
    return {name: numbers for name, numbers in missing.items() if numbers}


class Job:
    """One key group's tracker over logs, with a table and a ledger that survive crashes."""

    def __init__(self, logs: dict[int, Log]) -> None:
        self.logs = logs
        self.table: tuple[str | None, dict[TopicPartition, int]] = (None, {})
        self.ledger: list[SequenceEvent] = []
        self.unwritten: list[SequenceEvent] = []
        self.now = 0.0
        self.start()

    def start(self) -> None:
        """Start from the table; the ledger is rolled back to it, and loses what was not written."""
        text, committed = self.table
        self.unwritten = []
        self.ledger = [
            one for one in self.ledger if one.offset < committed.get(TopicPartition("topic", one.partition), 0)
        ]
        self.states = ConnectionStates(text)
        seen = [one for group in range(GROUPS) for one in self.states.seen(group, committed)]
        self.tracker = ConnectionTracker(0, seen, missing_ranges(self.ledger), committed)
        self.places = {one: committed.get(TopicPartition("topic", one), 0) for one in self.logs}

    def read(self, partition: int, count: int) -> None:
        """Read some messages of a partition as one batch."""
        first = self.places[partition]
        part = self.logs[partition][first : first + count]
        self.places[partition] += len(part)
        for name in sorted({name for name, _ in part}):
            rows = [(first + idx, number) for idx, (other, number) in enumerate(part) if other == name]
            one = connection_slice([number for _, number in rows], [offset for offset, _ in rows], partition, name)
            self.unwritten += self.tracker.add(one, self.now)

    def report(self, *, is_end: bool = False) -> None:
        """Report what is due."""
        self.unwritten += self.tracker.report(self.now, is_end=is_end)

    def write_events(self) -> None:
        """Commit the events; the commit of the messages may follow, or not."""
        self.ledger += self.unwritten
        self.unwritten = []

    def commit(self) -> None:
        """Commit the messages; the commit of the events may follow, or not."""
        committed = {TopicPartition("topic", partition): place for partition, place in self.places.items()}
        # One tracker has all names here, whatever their groups.
        state = self.tracker.state()
        for group in range(GROUPS):
            own = tuple(one for one in state.connections if one.key.group == group)
            self.states.update(state._replace(group=group, connections=own))
        self.states.advance(committed)
        self.table = self.states.text(), committed


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 10)),
        st.tuples(st.sampled_from(["report", "commit", "write_events", "start"])),
        st.tuples(st.just("wait"), st.sampled_from([1.0, SETTLE_SECONDS])),
    ),
    max_size=40,
)


@given(logs(), STEPS, st.randoms(use_true_random=False))
def test_what_is_missing_in_the_end_is_missing_between_first_and_last(
    logs: dict[int, Log], steps: list[tuple[object, ...]], random: Random
) -> None:
    """However partitions are read, whenever gaps are reported, whatever commit a crash comes after."""
    job = Job(logs)
    for step in steps:
        match step:
            case ("read", int(partition), int(count)):
                job.read(partition % len(logs), count)
            case ("wait", float(seconds)):
                job.now += seconds
            case (str(name),):
                getattr(job, name)()
    while unread := [one for one, log in logs.items() if job.places[one] < len(log)]:
        job.read(random.choice(unread), random.randint(1, 5))
    job.report(is_end=True)
    job.write_events()
    assert missing_numbers(job.ledger) == expected(logs)


@given(logs(names_max=1), st.randoms(use_true_random=False))
def test_nothing_is_reported_that_a_partition_being_read_still_has(logs: dict[int, Log], random: Random) -> None:
    """Once all partitions of a connection have been heard, a gap that is reported is final."""
    job = Job(logs)
    for partition in logs:
        job.read(partition, 1)
    while unread := [one for one, log in logs.items() if job.places[one] < len(log)]:
        job.read(random.choice(unread), random.randint(1, 5))
        job.report()
    assert not [one for one in job.unwritten if one.event is FILLED]


@given(st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=5), st.lists(st.integers(1, 60)))
def test_connections_without_an_id_are_told_apart_by_their_beginning(
    connections: list[set[int]], cuts: list[int]
) -> None:
    """Each has a session, if it begins near 0 and below the last number of the one before."""
    numbers, expected, last = list[int](), dict[int, set[int]](), -1
    for found in connections:
        first = min(found)
        if last >= 0 and (first >= last or first > RESTART_MAX):
            continue
        expected[len(expected) + 1] = {*range(first, max(found))} - found
        numbers += sorted(found)
        last = max(found)
    tracker, events, at = ConnectionTracker(0), list[SequenceEvent](), 0
    for size in [*cuts, len(numbers)]:
        events += tracker.add(connection_slice(numbers[at : at + size], at, name=None), 0.0)
        at += size
    events += tracker.report(0.0, is_end=True)
    assert {key.session: ranges for key, ranges in missing_ranges(events).items()} == {
        session: tuple(runs(missing)) for session, missing in expected.items() if missing
    }
    assert {one.symbol for one in events} <= {"topic:0"}


def runs(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a set of numbers."""
    for first in sorted(one for one in numbers if one - 1 not in numbers):
        last = first
        while last + 1 in numbers:
            last += 1
        yield first, last


def test_a_gap_has_the_coordinates_of_the_message_after_it() -> None:
    """And is reported once."""
    tracker = ConnectionTracker(0)
    assert tracker.add(connection_slice([5, 6, 9, 10, 12], 100), 0.0) == []
    assert tracker.has_unreported
    found = tracker.report(1.0)
    assert described(found) == [(GAP, 7, 8, 0, 102), (GAP, 11, 11, 0, 104)]
    assert [(one.timestamp, one.exchange, one.symbol, one.session) for one in found] == [
        (102_000, "venue", "a", 1),
        (104_000, "venue", "a", 1),
    ]
    assert (tracker.has_unreported, tracker.report(9.0)) == (False, [])


def test_a_number_that_comes_late_is_reported_as_filled() -> None:
    """With its own coordinates; the rest stays missing, and one that comes again changes nothing."""
    tracker = ConnectionTracker(0)
    tracker.add(connection_slice([1, 2, 9]), 0.0)
    tracker.report(0.0)
    assert described(tracker.add(connection_slice([5, 6, 2, 5], 40, partition=1), 0.0)) == [(FILLED, 5, 6, 1, 41)]
    assert described(tracker.report(0.0, is_end=True)) == []
    assert described(tracker.add(connection_slice([5], 50), 0.0)) == []


def test_a_partition_that_is_behind_delays_the_report() -> None:
    """Until it has passed the gap, or has had no message of the connection for a while."""
    tracker = ConnectionTracker(0)
    tracker.add(connection_slice([1, 5, 9], partition=0), 0.0)
    tracker.add(connection_slice([2, 3], partition=1), 0.0)
    assert described(tracker.report(1.0)) == []
    tracker.add(connection_slice([6], 2, partition=1), 1.0)
    assert described(tracker.report(1.0)) == [(GAP, 4, 4, 0, 1)]
    tracker.add(connection_slice([10], 3, partition=0), SETTLE_SECONDS + 1.0)
    assert described(tracker.report(SETTLE_SECONDS + 1.0)) == [(GAP, 7, 8, 0, 2)]


def test_another_connection_is_no_gap() -> None:
    """By its id, or without ids by a low number; one that is lower but not low is a message that came late."""
    tracker = ConnectionTracker(0)
    tracker.add(connection_slice([100, 101], name="a"), 0.0)
    tracker.add(connection_slice([7, 8], name="b"), 0.0)
    tracker.add(connection_slice([500, 501, 0, 1, 2, 900, 899], name=None), 0.0)
    found = tracker.report(0.0, is_end=True)
    assert [(one.symbol, one.session, *one[4:6]) for one in found] == [("topic:0", 2, 3, 898)]
    keys = [one.key for one in tracker.state().connections]
    assert keys[2:] == [ConnectionKey("venue", "topic", "topic:0", session) for session in (1, 2)]


def test_old_connections_are_forgotten() -> None:
    """Those with the oldest messages; what they lack is reported, and the newest session of a partition stays."""
    tracker = ConnectionTracker(0)
    events = tracker.add(connection_slice([1, 3], 0, name="first"), 0.0)
    for idx in range(CONNECTIONS_MAX):
        events += tracker.add(connection_slice([1], 10 + idx, name=f"{idx}"), 0.0)
    assert described(events) == [(GAP, 2, 2, 0, 1)]
    assert len(tracker.state().connections) == CONNECTIONS_MAX
    assert not tracker.has_unreported


def test_too_many_gaps_are_no_longer_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower half of the runs is dropped; its numbers may come, and are no gap and fill none."""
    monkeypatch.setattr(connections, "RUNS_MAX", 4)
    tracker = ConnectionTracker(0)
    tracker.add(connection_slice([1, 3, 5]), 0.0)
    tracker.report(0.0)
    tracker.add(connection_slice([7, 9, 11]), 0.0)
    [seen] = tracker.state().connections
    assert (seen.ranges.tolist(), seen.floor) == ([[7, 7], [9, 9], [11, 11]], 7)
    assert tracker.add(connection_slice([2, 4]), 0.0) == []
    assert [one[1:3] for one in described(tracker.report(0.0))] == [(8, 8), (10, 10)]


def test_states_survive_as_text() -> None:
    """With the offsets up to which they are complete; those of other offsets are not continued."""
    tracker = ConnectionTracker(ConnectionKey("venue", "topic", "a", 1).group)
    tracker.add(connection_slice([3, 4, 9], 7), 0.0)
    states = ConnectionStates()
    states.update(tracker.state())
    here, other = TopicPartition("topic", 0), TopicPartition("other", 0)
    assert states.advance({here: 10, other: 5})
    assert not states.advance({here: 10, other: 6})
    read = ConnectionStates(states.text())
    group = tracker.state().group
    [one] = read.seen(group, {here: 10, other: 99})
    [was] = tracker.state().connections
    assert one[2:] == was[2:] == (0, 9, 9_000, None)
    assert np.array_equal(one.ranges, was.ranges)
    assert read.seen(group, {here: 11}) == read.seen(group, {here: 10, TopicPartition("topic", 1): 0}) == []
    assert read.text() == states.text()


def test_states_have_a_size() -> None:
    """Of the connection with the most ranges, the lower ones are left out, and a start does not judge them."""
    tracker = ConnectionTracker(ConnectionKey("venue", "topic", "a", 1).group)
    tracker.add(connection_slice([*range(0, 20, 2)]), 0.0)
    states = ConnectionStates(ranges_max=6)
    states.update(tracker.state())
    [one] = ConnectionStates(states.text()).seen(tracker.state().group, {})
    assert (one.floor, one.ranges[:, 0].tolist()) == (10, [10, 12, 14, 16, 18])
    started = ConnectionTracker(0, [one], {one.key: ((1, 1), (11, 11))})
    assert started.add(connection_slice([9]), 0.0) == []
    assert [one[1:3] for one in described(started.report(0.0))] == [(13, 13), (15, 15), (17, 17)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"format":2,"positions":{},"connections":[]}', "has format 2; this version reads 1"),
        (
            f'{{"format":1,"positions":{{}},"connections":[{NO_NUMBERS}]}}',
            "connection 'n' has no numbers",
        ),
    ],
)
def test_other_texts_are_refused(text: str, error: str) -> None:
    """In one sentence that says what is wrong."""
    with pytest.raises(ValueError, match=error):
        ConnectionStates(text)
