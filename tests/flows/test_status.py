"""`k2 status` with a real job and broker: each disaster is said with its cause, and a sound job is complete."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from k2.status.findings import Cause, Verdict
from k2.status.reader import Status, StatusReader
from tests.brokers import Broker
from tests.flows.feed import SYMBOLS, Feed, now_us
from tests.flows.job import Job, wait_until
from tests.flows.rescale import running

pytestmark = pytest.mark.slow

SAY_SECONDS_MAX = 30
"""Time within which a status must say it."""
SOUND_SECONDS = 8
PATIENCE_SECONDS = 4.0
"""For tests whose commits are a second apart."""


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a commit be overdue sooner."""
    monkeypatch.setattr("k2.status.gather.PATIENCE_SECONDS_MIN", PATIENCE_SECONDS)


def _capture(broker: Broker, folder: Path, topic: str) -> tuple[Job, Feed, StatusReader]:
    """Return an endless job, the feed of its topic, and a reader of its status."""
    job = Job(broker.bootstrap_servers, folder, topic, {"K2_RUN_TO_END": "false"})
    return job, Feed(job, topic), StatusReader(job.settings)


def _causes(found: Status) -> list[Cause]:
    return [reason.cause for reason in found.reasons]


def _wait_for(reader: StatusReader, cause: Cause, says: str = "") -> Status:
    """Wait for a reason whose sentence contains a text; what was sent at once may be committed in parts."""
    deadline = time.monotonic() + SAY_SECONDS_MAX
    while True:
        found = reader.read()
        if any(reason.cause is cause and says in reason.sentence for reason in found.reasons):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def _sentence(found: Status, cause: Cause) -> str:
    return next(reason.sentence for reason in found.reasons if reason.cause is cause)


def test_each_disaster_is_said(private_broker: Broker, tmp_path: Path) -> None:
    """A sound job is complete, whether trades come or not; then one thing after the other goes wrong."""
    topic = private_broker.topic(2)
    job, feed, reader = _capture(private_broker, tmp_path, topic)
    assert _causes(reader.read()) == [Cause.NOTHING_STORED]
    with running([job]) as (process,):
        feed.send(50)
        wait_until(lambda: job.committed() == 50 * SYMBOLS, "the first trades are committed")
        deadline = time.monotonic() + SOUND_SECONDS
        while time.monotonic() < deadline:
            feed.send(1)
            for _ in range(4):
                found = reader.read()
                assert found.verdict is Verdict.COMPLETE, found
                time.sleep(0.5)

        feed.number += 100
        feed.send(1)
        found = _wait_for(reader, Cause.NUMBERS_MISSING, "400 sequence numbers of 4 symbols are missing in 4 ranges")
        assert found.verdict is Verdict.MISSING

        feed.send(20, timestamp=now_us() * 1_000)
        found = _wait_for(reader, Cause.MESSAGES_REJECTED, "80 of the last")
        assert found.verdict is Verdict.REJECTING
        assert "looks like nanoseconds" in found.reasons[0].sentence

        feed.send(1, timestamp=now_us() + 3_600_000_000)
        _wait_for(reader, Cause.DATED_AHEAD, "4 new trades of x are dated up to 60 minutes ahead of Kafka's time")
        wait_until(lambda: reader.read().unread == 0, "everything is read")
        process.kill()
    feed.send(1_000)
    found = _wait_for(reader, Cause.JOB_STOPPED)
    assert found.verdict is Verdict.STOPPED
    assert "while 4,000 messages of 2 partitions are unread" in found.reasons[0].sentence
    assert found.unread == 4_000
    code, document = _command(job)
    assert (code, document["verdict"]) == (1, "stopped")
    assert document["reasons"][0]["sentence"].startswith("nothing has been committed for")

    private_broker.kill()
    found = _wait_for(reader, Cause.BROKER_UNREACHABLE)
    assert (found.verdict, found.unread) == (Verdict.UNKNOWN, None)
    assert private_broker.bootstrap_servers in found.reasons[0].sentence


def test_messages_that_expired_unread(shared_kafka: Broker, tmp_path: Path) -> None:
    """The kafka deleted what was to be read next: the partition and the command are named."""
    topic = shared_kafka.topic()
    job, feed, reader = _capture(shared_kafka, tmp_path, topic)
    feed.send(10)
    with running([job]):
        wait_until(lambda: job.committed() == 10 * SYMBOLS, "the first trades are committed")
    feed.send(10)
    shared_kafka.delete_records(topic, 60)
    found = _wait_for(reader, Cause.OFFSET_GONE)
    assert found.verdict is Verdict.STOPPED
    assert f"{topic}:0 begins at offset 60, but 40 is to be read next" in found.reasons[0].sentence
    assert f"k2 recovery skip {topic}:0 --yes" in found.reasons[0].next_step


@pytest.mark.usefixtures("short_patience")
def test_timestamps_that_do_not_say_since_when_a_message_waits(shared_kafka: Broker, tmp_path: Path) -> None:
    """A replayed capture is no sign of a stopped job, and a producer's clock that is ahead does not hide one."""
    topic = shared_kafka.topic(config={"message.timestamp.after.max.ms": str(2**63 - 1)})
    job, feed, reader = _capture(shared_kafka, tmp_path, topic)
    with running([job]) as (process,):
        feed.send(10)
        wait_until(lambda: job.committed() == 10 * SYMBOLS, "the first trades are committed")
        time.sleep(PATIENCE_SECONDS + 1)
        for _ in range(4):
            feed.send_stamped(5, 1_690_000_000_000)
            assert reader.read().verdict is Verdict.COMPLETE
            time.sleep(1)
        wait_until(lambda: reader.read().unread == 0, "everything is read")
        process.kill()
    feed.send_stamped(5, time.time_ns() // 1_000_000 + 3_000_000)
    assert _wait_for(reader, Cause.JOB_STOPPED).unread == 5 * SYMBOLS
    feed.send_stamped(1, 9_000_000_000_000_000)
    assert reader.read().verdict is Verdict.STOPPED


@pytest.mark.usefixtures("short_patience")
def test_a_transaction_that_stays_open(shared_kafka: Broker, tmp_path: Path) -> None:
    """What it holds back is counted until it ends; then everything is read."""
    topic = shared_kafka.topic()
    job, feed, reader = _capture(shared_kafka, tmp_path, topic)
    feed.send(10)
    producer = Producer({"bootstrap.servers": shared_kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions()
    with running([job]):
        wait_until(lambda: job.committed() == 10 * SYMBOLS, "the first trades are committed")
        producer.begin_transaction()
        producer.produce(topic, b"{}")
        producer.flush()
        feed.send(10)
        found = _wait_for(reader, Cause.TRANSACTION_OPEN)
        assert found.verdict is Verdict.BEHIND
        assert f"{10 * SYMBOLS + 1} messages of {topic}:0 wait for the end" in found.reasons[0].sentence
        producer.abort_transaction()
        wait_until(lambda: job.committed() == 20 * SYMBOLS, "the others are committed")
        wait_until(lambda: reader.read().verdict is Verdict.COMPLETE, "the capture is complete")


def test_a_topic_that_was_made_again(shared_kafka: Broker, tmp_path: Path) -> None:
    """It is said although the new topic has as many messages as were read of the old one."""
    topic = shared_kafka.topic(2)
    job, feed, reader = _capture(shared_kafka, tmp_path, topic)
    feed.send(10)
    with running([job]):
        wait_until(lambda: job.committed() == 10 * SYMBOLS, "the first trades are committed")
        wait_until(lambda: reader.read().verdict is Verdict.COMPLETE, "the capture is complete")
    shared_kafka.recreate(topic, 1)
    feed.send(10)
    found = _wait_for(reader, Cause.OFFSET_GONE)
    assert f"topic {topic} was deleted and created again since it was first read" in _sentence(found, Cause.OFFSET_GONE)


def test_half_of_the_symbols_fall_silent(broker: Broker, tmp_path: Path) -> None:
    """A collector that lost half of its subscriptions is seen by the trades of the other half."""
    topic = broker.topic()
    job, feed, reader = _capture(broker, tmp_path, topic)
    start = now_us() - 200_000_000
    with running([job]):
        feed.send_at([start + second * 1_000_000 for second in range(0, 120, 2)])
        wait_until(lambda: job.committed() == 60 * SYMBOLS, "the first trades are committed")
        assert reader.read().verdict is Verdict.COMPLETE
        feed.send_at([start + second * 1_000_000 for second in range(120, 160, 2)], SYMBOLS // 2)
        found = _wait_for(reader, Cause.SYMBOLS_SILENT)
    assert found.verdict is Verdict.IN_DOUBT
    assert "2 of 4 steady symbols of x have no trade since" in found.reasons[0].sentence
    assert found.reasons[0].sentence.endswith("S2, S3")


def _command(job: Job) -> tuple[int, Any]:
    done = job.k2("status")
    return done.returncode, json.loads(done.stdout)
