"""The broker fails, returns, or rejects: waited for if waiting helps, named in an error otherwise."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k2.kafka.producer import TradeProducer
from k2.query.reconcile import reconcile
from tests.brokers import LOGIN, Broker, real_kafka
from tests.flows.job import Job
from tests.maven import NotToBeHadError

FIRST_TIME = 1_700_000_000_000_000


def _publish(job: Job, topic: str, first: int, count: int) -> None:
    with TradeProducer(job.settings, topic) as producer:
        for number in range(first, first + count):
            value = f'{{"exchange":"x","symbol":"S","sequence":{number},"price":"1","quantity":"1"'
            producer.send(b"x|S", f'{value},"timestamp":{FIRST_TIME + number}}}'.encode())


def _wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not reached():
        assert time.monotonic() < deadline, "it does not get there"
        time.sleep(0.1)


@pytest.fixture
def kafka(missing: Callable[[str], None]) -> Iterator[Broker]:
    """Real Kafka for one test: the embedded broker does not keep its topics over a restart."""
    try:
        with real_kafka() as broker:
            yield broker
    except NotToBeHadError as error:
        missing(f"Java and Maven: real Kafka ({error})")


def test_a_broker_restart_is_survived(kafka: Broker, tmp_path: Path) -> None:
    """Killed and started again while the job runs: the job resumes where it was, without intervention."""
    topic = kafka.topic()
    live = Job(kafka.bootstrap_servers, tmp_path, topic, {"K2_RUN_TO_END": "false"})
    _publish(live, topic, 1, 500)
    process = live.start()
    try:
        _wait(lambda: live.committed() == 500)
        kafka.kill()
        time.sleep(3)
        assert process.poll() is None
        kafka.start()
        _publish(live, topic, 501, 500)
        _wait(lambda: live.committed() == 1_000)
    finally:
        process.kill()
        said, _ = process.communicate()
    assert live.table()["sequence"].sort().to_pylist() == list(range(1, 1_001)), said
    assert all(row.holds for row in reconcile(live.settings))


def test_a_frozen_broker_is_waited_for(kafka: Broker, tmp_path: Path) -> None:
    """Frozen for a while with open connections: nothing is lost or doubled."""
    topic = kafka.topic()
    live = Job(kafka.bootstrap_servers, tmp_path, topic, {"K2_RUN_TO_END": "false"})
    _publish(live, topic, 1, 500)
    process = live.start()
    try:
        _wait(lambda: live.committed() == 500)
        kafka.pause()
        time.sleep(3)
        kafka.resume()
        _publish(live, topic, 501, 100)
        _wait(lambda: live.committed() == 600)
    finally:
        process.kill()
        process.communicate()
    assert all(row.holds for row in reconcile(live.settings))


def test_a_recreated_topic_is_rejected(shared_kafka: Broker, tmp_path: Path) -> None:
    """Deleted, created again and grown past the old end: its offsets mean other messages, and none is read."""
    topic = shared_kafka.topic()
    job = Job(shared_kafka.bootstrap_servers, tmp_path, topic)
    _publish(job, topic, 1, 5)
    job.run()
    shared_kafka.recreate(topic)
    _publish(job, topic, 1, 8)
    code, said = job.outcome()
    assert code == 1, said
    assert f"topic {topic} was deleted and recreated" in said
    assert "Traceback" not in said
    assert job.committed() == 5


@pytest.mark.parametrize(
    ("password", "code", "words"), [("wrong", 3, "uthentication failed"), (LOGIN[1], 0, "reading")]
)
def test_a_rejected_login_is_named(shared_kafka: Broker, tmp_path: Path, password: str, code: int, words: str) -> None:
    """A wrong password ends the job with exit code 3 and the broker's message; a right one runs."""
    topic = shared_kafka.topic()
    config = tmp_path / "kafka.properties"
    config.write_text(
        f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username={LOGIN[0]}\nsasl.password={password}\n"
    )
    job = Job(shared_kafka.login_servers, tmp_path, topic, {"K2_KAFKA_CONFIG": str(config)})
    found, said = job.outcome(recovery=False)
    assert (found, words in said) == (code, True), said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_canary_survives_an_outage(kafka: Broker, tmp_path: Path) -> None:
    """While the broker is away its messages wait, or are published again: every number is in the table once."""
    topic = kafka.topic()
    variables = {"K2_RUN_TO_END": "false", "K2_CANARY_TOPIC": topic, "K2_CANARY_INTERVAL_SECONDS": "0.2"}
    live = Job(kafka.bootstrap_servers, tmp_path, topic, variables)
    process = live.start()
    try:
        _wait(lambda: live.committed() >= 5)
        before = live.committed()
        kafka.kill()
        time.sleep(3)
        assert process.poll() is None
        kafka.start()
        _wait(lambda: live.committed() >= before + 40)
    finally:
        process.kill()
        said, _ = process.communicate()
    numbers = live.table()["sequence"].sort().to_pylist()
    assert numbers == [number for number in range(1, numbers[-1] + 1) if number % 100], said
    assert all(row.holds for row in reconcile(live.settings))
