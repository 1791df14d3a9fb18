"""Rules about topics: what their configuration and newest messages mean."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from k2.doctor import topics
from k2.doctor.broker import offset_problem
from k2.doctor.findings import Finding, State
from k2.kafka.topic_facts import NewestMessages
from k2.kafka.unread import PartitionEnd
from k2.model.progress import PartitionProgress, Progress, TopicPartition

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DAY_MS = 86_400_000
WHERE = TopicPartition("t", 0)
GOOD = (
    b'{"exchange":"x","symbol":"A-B","sequence":1,"price":"1","quantity":"1","side":"buy","timestamp":1723161255342000}'
)


def only(found: "topics.Iterator[Finding]") -> tuple[State, str]:
    """Return the state and text of the only finding."""
    (finding,) = found
    return finding.state, finding.text


@pytest.mark.parametrize(
    ("retention_ms", "age_days", "state", "words"),
    [
        (-1, 900, State.OK, "do not expire"),
        (7 * DAY_MS, None, State.OK, "kept for 7 days"),
        (7 * DAY_MS, 3.4, State.OK, "kept for 7 days"),
        (7 * DAY_MS, 3.6, State.WARNING, "start the job, or raise retention.ms"),
        (7 * DAY_MS, 7.1, State.FAILED, "the oldest uncommitted message of t:0 is 7 days old"),
        (2 * DAY_MS, 0.1, State.WARNING, "raise retention.ms to 259200000"),
    ],
)
def test_retention_is_compared_with_what_is_uncommitted(
    retention_ms: int, age_days: float | None, state: State, words: str
) -> None:
    """With half of it used up, beyond it, and with an outage of three days."""
    oldest = None if age_days is None else NOW - timedelta(days=age_days)
    ends = {WHERE: PartitionEnd(10, 0 if oldest is None else 5, oldest)}
    found = only(topics.retention("t", {"retention.ms": str(retention_ms)}, ends, NOW))
    assert found[0] is state
    assert words in found[1]


@pytest.mark.parametrize(
    ("limit", "state"), [(4 * 100 * 1_000, State.OK), (2 * 100 * 1_000, State.WARNING), (-1, None), (0, State.WARNING)]
)
def test_a_limit_of_bytes_is_compared_with_the_mean_rate(limit: int, state: State | None) -> None:
    """A thousand messages of 100 bytes in a day: a limit of as many bytes of four days lasts long enough."""
    logs = {WHERE: PartitionEnd(1_000, 1_000, NOW - timedelta(days=1))}
    newest = {WHERE: NewestMessages(2, kafka_timestamp_ms=int(NOW.timestamp() * 1_000), size_bytes=200)}
    found = [*topics.retention_bytes("t", {"retention.bytes": str(limit)}, logs, newest)]
    assert [one.state for one in found] == ([] if state is None else [state])


def test_a_rate_is_not_guessed() -> None:
    """Without messages, how long a limit lasts is unknown."""
    logs = {WHERE: PartitionEnd(0, 0, None)}
    assert only(topics.retention_bytes("t", {"retention.bytes": "1"}, logs, {}))[0] is State.UNKNOWN


@pytest.mark.parametrize(
    ("config", "replicas", "state", "words"),
    [
        ({"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}, [3, 3], State.OK, "3 replicas"),
        ({"min.insync.replicas": "1"}, [3, 3], State.WARNING, "set it to 2"),
        ({"min.insync.replicas": "2"}, [3, 1], State.WARNING, "has 1 replica"),
        (
            {"min.insync.replicas": "2", "unclean.leader.election.enable": "true"},
            [3],
            State.WARNING,
            "unclean.leader.election.enable is true",
        ),
        ({}, [1], State.UNKNOWN, "does not return"),
    ],
)
def test_what_loses_acknowledged_messages_is_a_warning(
    config: Mapping[str, str], replicas: list[int], state: State, words: str
) -> None:
    """Too few replicas in sync, and leaders that lack messages."""
    found = only(topics.replicas("t", config, replicas))
    assert found[0] is state
    assert words in found[1]


def test_compaction_is_a_warning() -> None:
    """Also next to deletion."""
    policies = {"delete": State.OK, "compact": State.WARNING, "compact,delete": State.WARNING}
    for policy, state in policies.items():
        assert only(topics.cleanup("t", {"cleanup.policy": policy}))[0] is state
    assert only(topics.cleanup("t", {}))[0] is State.UNKNOWN


def test_keys_are_counted() -> None:
    """Absent ones are a warning, and no messages are said to be none."""
    assert only(topics.keys("t", {WHERE: NewestMessages(3)}))[0] is State.OK
    state, text = only(topics.keys("t", {WHERE: NewestMessages(3, without_key=2)}))
    assert (state, "2 of the newest 3 messages have no key" in text) == (State.WARNING, True)
    assert only(topics.keys("t", {WHERE: NewestMessages()}))[0] is State.UNKNOWN


def test_epochs_and_ids_that_the_broker_lacks_are_named() -> None:
    """Without them a log that was cut, or a topic made again, is noticed later or not at all."""
    assert only(topics.epochs("t", "id", {WHERE: NewestMessages(1)}))[0] is State.OK
    state, text = only(topics.epochs("t", None, {WHERE: NewestMessages(1, without_leader_epoch=1)}))
    assert state is State.WARNING
    assert "no topic ids" in text
    assert "no leader epochs" in text


def test_the_venue_is_tried_on_the_newest_messages() -> None:
    """The venue that fits is named if the configured one rejects most; some rejects are a warning."""
    assert only(topics.venue_fits("t", "k2", [GOOD], 60))[0] is State.OK
    assert only(topics.venue_fits("t", "k2", [GOOD, b"x"], 60))[0] is State.WARNING
    state, text = only(topics.venue_fits("t", "okx", [GOOD, b"x", GOOD], 60))
    assert state is State.FAILED
    assert "rejects 3 of the newest 3 messages" in text
    assert "set t=k2" in text
    assert [*topics.venue_fits("t", "k2", [], 60)] == []


def test_a_clock_that_is_behind_kafka_is_noticed() -> None:
    """Kafka gives no time of its own, so a newest timestamp that is not ahead is all that can be seen."""
    for ahead, state in ((4, State.OK), (60, State.WARNING), (-9_000, State.OK)):
        newest = NewestMessages(1, kafka_timestamp_ms=int((NOW.timestamp() + ahead) * 1_000))
        assert only(topics.clock("t", [newest], NOW))[0] is state
    assert only(topics.clock("t", [NewestMessages()], NOW))[0] is State.UNKNOWN


def test_a_partition_without_a_leader_cannot_be_read() -> None:
    """It is named; others are counted."""
    assert topics.topic_exists("t", "k2", {0: 1, 1: 2}).text == "2 partitions, read as venue k2"
    found = topics.topic_exists("t", "k2", {0: 1, 1: -1})
    assert (found.state, "t:1" in found.text) == (State.FAILED, True)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (PartitionEnd(100, 50, None), None),
        (PartitionEnd(100, 50, None, first_offset=57), "7 messages lost: t:0 begins at offset 57"),
        (PartitionEnd(40, 0, None, first_offset=0), "20 messages lost: t:0 ends at offset 40"),
        (PartitionEnd(55, 5, None), "5 messages lost: t:0 ends at offset 55, but was read to 60"),
    ],
    ids=["continued", "expired", "ahead of the end", "one writer ahead of the end"],
)
def test_progress_outside_the_log_is_a_number_of_lost_messages(end: PartitionEnd, words: str | None) -> None:
    """Below the first offset, or above the end, with what to do."""
    progress = Progress({"0": {WHERE: PartitionProgress(50)}, "1": {WHERE: PartitionProgress(60)}})
    text = offset_problem(WHERE, progress, end)
    assert (text is None) == (words is None)
    assert words is None or words in (text or "")


def test_drift_of_the_newest_messages_is_a_warning() -> None:
    """With the first changes; a venue without a table has none, and without messages there is nothing to say."""
    trade = b'{"e":"trade","E":1,"s":"B","t":%d,"p":"1","q":"1","T":1723161255342,"m":true%s}'
    plain = trade % (1, b"")
    assert only(topics.drift("t", "binance-spot", [plain]))[0] is State.OK
    state, text = only(topics.drift("t", "binance-spot", [plain, trade % (2, b',"z":5'), trade % (3, b',"z":6')]))
    assert state is State.WARNING
    assert "binance-spot does not know: new key z '6'; compare" in text
    many = b"".join(b',"z%d":5' % number for number in range(5))
    assert "z2 '5' and 2 more;" in only(topics.drift("t", "binance-spot", [trade % (1, many)]))[1]
    assert [*topics.drift("t", "binance-spot", [])] == [*topics.drift("t", "k2", [GOOD])] == []
