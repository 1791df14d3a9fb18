"""Topics and partitions added or removed between two runs: read, left out with a log line, or rejected by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import assert_reconciled, publish, trade
from tests.flows.rescale import running


def _stored(job: Job) -> list[tuple[str, int, int]]:
    """Return topic, partition and sequence of each row, sorted."""
    rows = job.table().select(["topic", "partition", "sequence"]).to_pylist()
    return sorted((row["topic"], row["partition"], row["sequence"]) for row in rows)


def test_added_partitions_are_read_from_their_first_offset(
    broker: Broker, tmp_path: Path, missing: Callable[[str], None]
) -> None:
    """Messages published into them before the next start are stored, next to later ones of the old partition."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    topic = broker.topic(partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    publish(broker.bootstrap_servers, topic, [trade(1, "A"), trade(2, "A")], 0)
    job.run()
    broker.add_partitions(topic, 3)
    publish(broker.bootstrap_servers, topic, [trade(3, "A")], 0)
    publish(broker.bootstrap_servers, topic, [trade(4, "A"), trade(5, "B")], 2)
    said = job.run(workers=2)
    for partition in (1, 2):
        begun = f'"partition": "{topic}:{partition}", "offset": 0, "origin": "beginning of the partition"'
        assert begun in said
    assert _stored(job) == [(topic, 0, 1), (topic, 0, 2), (topic, 0, 3), (topic, 2, 4), (topic, 2, 5)]
    assert_reconciled(job)


def test_a_removed_topic_resumes_when_it_is_added_again(broker: Broker, tmp_path: Path) -> None:
    """Nothing of it is read in two runs, by two processes and by one; once listed again it resumes at its offset."""
    kept, taken = broker.topic(partitions=2, name="kept"), broker.topic(partitions=2, name="taken")
    both = Job(broker.bootstrap_servers, tmp_path, f"{kept},{taken}")
    one = replace(both, topics=kept)
    for number, (job, processes) in enumerate([(both, 1), (one, 2), (one, 1), (both, 1)], start=1):
        for topic in (kept, taken):
            publish(broker.bootstrap_servers, topic, [trade(number, topic)], number % 2)
        with running([job] * processes) as started:
            said = "".join(process.communicate(timeout=60)[0] for process in started)
        assert [process.returncode for process in started] == [0] * processes, said
        assert ("topic_not_configured" in said) is (job is one)
        if number == 3:
            assert _stored(both) == [(kept, 0, 2), (kept, 1, 1), (kept, 1, 3), (taken, 1, 1)]
    assert f'"partition": "{taken}:1", "offset": 1, "origin": "recovery store"' in said
    assert _stored(both) == sorted((topic, number % 2, number) for topic in (kept, taken) for number in (1, 2, 3, 4))
    assert_reconciled(both)


def test_a_lost_partition_stops_the_job(broker: Broker, tmp_path: Path) -> None:
    """Its topic was recreated with fewer partitions: one sentence names it, whether the store or the table had it."""
    topic = broker.topic(partitions=2)
    publish(broker.bootstrap_servers, topic, [trade(1)], 0)
    publish(broker.bootstrap_servers, topic, [trade(2)], 1)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    job.run()
    broker.recreate(topic)
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(3, 9)], 0)
    for recovery in (True, False):
        code, said = job.outcome(recovery=recovery)
        assert code == 1, said
        assert f"{topic}:1 was read before, but its topic ends at partition 0 now" in said
        assert "Traceback" not in said
    assert len(_stored(job)) == 2
