"""A log that was cut and grew again, a corrupt batch, a topic created again: the job stops, and names the way on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from k2.cli.main import app
from k2.query.audit import audit
from k2.query.reconcile import reconcile
from tests.brokers import Broker, real_kafka
from tests.flows.job import Job, wait_until
from tests.kafka_log import corrupt, truncate
from tests.maven import NotToBeHadError

FIRST_TIME = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def kafka() -> Iterator[Broker]:
    """Real Kafka that the tests of this file may restart."""
    try:
        with real_kafka() as broker:
            yield broker
    except NotToBeHadError as error:
        pytest.skip(f"needs Java and Maven: real Kafka ({error})")


def publish(broker: Broker, topic: str, numbers: range, symbol: str = "S") -> None:
    """Publish trades with these numbers of one symbol, each in a batch of its own."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0, "log_level": 0})
    for number in numbers:
        trade = {"exchange": "x", "symbol": symbol, "sequence": number, "price": "1", "quantity": "1"}
        value = json.dumps({**trade, "timestamp": FIRST_TIME + number})
        producer.produce(topic, value, f"x|{symbol}", timestamp=FIRST_TIME // 1_000 + number)
        assert producer.flush(30) == 0


def skip(job: Job, offset: int) -> None:
    """Give up what is before an offset, as the job's sentence says."""
    arguments = ["recovery", "skip", f"{job.topics}:0", "--to", str(offset), "--yes"]
    result = CliRunner().invoke(app, arguments, env=job.variables)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("recovery", [True, False])
def test_a_log_that_was_cut_and_grew_again_is_noticed(kafka: Broker, tmp_path: Path, *, recovery: bool) -> None:
    """The job stops, with a recovery store and without; it goes on where the operator accepts the log."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic())
    publish(kafka, job.topics, range(1, 11))
    job.run(recovery=recovery)
    truncate(kafka, job.topics, 6)
    publish(kafka, job.topics, range(101, 110))
    code, said = job.outcome(recovery=recovery)
    assert code == 1, said
    assert f"{job.topics}:0: " in said
    assert "the log was cut below offset 10 and has grown again" in said
    assert f"k2 recovery skip {job.topics}:0 --to 10 --yes" in said
    assert "Traceback" not in said
    assert job.committed() == 10
    skip(job, 10)
    job.run(recovery=recovery)
    assert sorted(job.table()["sequence"].to_pylist()) == [*range(1, 11), *range(105, 110)]
    assert all(row.holds for row in reconcile(job.settings))


def test_a_short_log_is_noticed(kafka: Broker, tmp_path: Path) -> None:
    """Cut and not grown beyond the old end: the job refuses to go on."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic())
    publish(kafka, job.topics, range(1, 11))
    job.run()
    truncate(kafka, job.topics, 6)
    code, said = job.outcome()
    assert (code, "ends at offset 6, but was read to 10 before" in said) == (1, True), said


def test_an_expired_last_message_leaves_the_decision_to_the_leader_epoch(kafka: Broker, tmp_path: Path) -> None:
    """Retention removed it, but nothing unread: the job goes on, and logs what was compared."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic())
    publish(kafka, job.topics, range(1, 11))
    job.run()
    publish(kafka, job.topics, range(11, 16))
    kafka.delete_records(job.topics, 10)
    said = job.run()
    assert '"compared": "its leader epoch"' in said
    assert '"event": "last_message_gone"' in said
    assert job.committed() == 15


def test_progress_of_an_earlier_version_is_continued(kafka: Broker, tmp_path: Path) -> None:
    """A table without last messages, with and without its recovery store: nothing is compared until one was read."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic())
    publish(kafka, job.topics, range(1, 11))
    job.run()
    table = job.iceberg()
    progress = json.loads(table.properties["k2.progress"])
    assert progress["writers"]["0"][f"{job.topics}:0"].pop("last_message")["offset"] == 9
    with table.transaction() as transaction:
        transaction.set_properties({"k2.progress": json.dumps(progress)})
    publish(kafka, job.topics, range(11, 13))
    job.run()
    publish(kafka, job.topics, range(13, 15))
    job.run(recovery=False)
    assert sorted(job.table()["sequence"].to_pylist()) == list(range(1, 15))
    truncate(kafka, job.topics, 13)
    publish(kafka, job.topics, range(101, 104))
    assert job.outcome(recovery=False)[0] == 1


def test_a_topic_created_again_stops_the_running_job(kafka: Broker, tmp_path: Path) -> None:
    """The client may read on in the new topic; the job stops, and the next start refuses as well."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic(), {"K2_RUN_TO_END": "false"})
    publish(kafka, job.topics, range(1, 11))
    process = job.start()
    try:
        wait_until(lambda: job.committed() == 10, "the trades are not committed")
        kafka.recreate(job.topics)
        publish(kafka, job.topics, range(1, 21))
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, said
    # The client may ask for the next offset while the new topic has fewer messages.
    sentences = (f"topic {job.topics} was deleted and recreated", "does not exist on the broker (expired, or the topic")
    assert any(sentence in said for sentence in sentences), said
    assert "Traceback" not in said
    code, said = job.outcome()
    assert (code, f"topic {job.topics} was deleted and recreated" in said) == (1, True), said


@pytest.mark.parametrize("writers", [1, 2])
def test_a_corrupt_batch_is_given_up_on_command(kafka: Broker, tmp_path: Path, writers: int) -> None:
    """All before it is committed when the job stops; what is given up is on record, and the sums hold."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic(), {"K2_WRITERS": str(writers)})
    publish(kafka, job.topics, range(1, 11))
    corrupt(kafka, job.topics, 5)
    code, said = job.outcome()
    assert code == 1, said
    assert f"{job.topics}:0: the batch at offset 5 is corrupt" in said
    assert f"`k2 recovery skip {job.topics}:0 --to OFFSET --yes`" in said
    assert "Traceback" not in said
    assert job.committed() == 5
    skip(job, 6)
    job.run()
    assert sorted(job.table()["sequence"].to_pylist()) == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    (row,) = reconcile(job.settings)
    assert (row.received, row.stored, row.holds) == (9, 9, True)
    remarks = [commit.remark for commit in audit(job.settings).commits]
    assert remarks.count(f"given_up {job.topics}:0 5-5") == writers


def test_a_log_that_is_cut_while_the_job_runs_stops_it(kafka: Broker, tmp_path: Path) -> None:
    """The broker compares the leader epoch when the partition has a new leader; the next start refuses as well."""
    job = Job(kafka.bootstrap_servers, tmp_path, kafka.topic(), {"K2_RUN_TO_END": "false"})
    publish(kafka, job.topics, range(1, 11))
    process = job.start()
    try:
        wait_until(lambda: job.committed() == 10, "the trades are not committed")
        truncate(kafka, job.topics, 6)
        publish(kafka, job.topics, range(101, 110))
        said, _ = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 1, said
    assert f"{job.topics}:0: the log was cut below offset 10 while the job read it" in said
    assert "Traceback" not in said
    assert job.committed() == 10
    code, said = job.outcome()
    assert (code, "has grown again" in said) == (1, True), said
