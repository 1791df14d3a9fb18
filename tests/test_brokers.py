"""The brokers that tests and demo run on behave as the job needs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from k2.ops.child_process import ChildProcess
from tests.brokers import Broker, embedded, kafka_version


@pytest.fixture(params=["shared", "embedded"])
def either(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Yield the shared broker, and the embedded one."""
    if request.param == "shared":
        yield request.getfixturevalue("broker")
    else:
        with embedded() as broker:
            yield broker


def _produce(broker: Broker, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True})
    for number in range(count):
        producer.produce(topic, b"value %d" % number, b"key %d" % (number % 7))
    assert producer.flush(30) == 0


def _consumer(broker: Broker) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"test-{os.urandom(4).hex()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )


def test_a_topic_returns_what_was_published(either: Broker) -> None:
    """Every message of every partition is read once, and fetching reports the right end of each partition."""
    topic = either.topic(partitions=3)
    _produce(either, topic, 1000)
    parts = [TopicPartition(topic, number, 0) for number in range(3)]
    consumer = _consumer(either)
    consumer.assign(parts)
    seen: list[tuple[int | None, int | None]] = []
    while len(seen) < 1000:
        messages = consumer.consume(1000, 30)
        assert messages
        seen += [(message.partition(), message.offset()) for message in messages]
    ends = [-1]
    for _ in range(100):
        consumer.poll(0.1)
        ends = [consumer.get_watermark_offsets(part, cached=True)[1] for part in parts]
        if min(ends) >= 0:
            break
    consumer.close()
    assert len(set(seen)) == len(seen) == 1000
    assert sum(ends) == 1000


def test_group_offsets_are_stored(either: Broker) -> None:
    """A committed group offset is read back, and a partition without one has none."""
    topic = either.topic(partitions=2)
    consumer = _consumer(either)
    consumer.commit(offsets=[TopicPartition(topic, 0, 77)], asynchronous=False)
    found = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=30)
    consumer.close()
    assert [part.offset for part in found] == [77, -1001]


def test_topic_names_are_unique(broker: Broker) -> None:
    """Two topics requested in the same way get different names."""
    assert broker.topic() != broker.topic()


def test_the_embedded_broker_starts_again_at_its_address(embedded_broker: Broker) -> None:
    """Killed and started, it answers at the same address, and has lost its topics."""
    topic = embedded_broker.topic()
    embedded_broker.kill()
    embedded_broker.start()
    assert topic not in embedded_broker.admin().list_topics(timeout=10).topics


def test_a_paused_broker_answers_when_it_is_resumed(embedded_broker: Broker) -> None:
    """A frozen broker loses nothing."""
    topic = embedded_broker.topic()
    embedded_broker.pause()
    embedded_broker.resume()
    assert topic in embedded_broker.admin().list_topics(timeout=10).topics


def test_kafka_keeps_its_topics_across_a_crash(private_broker: Broker, missing: Callable[[str], NoReturn]) -> None:
    """A real broker that is killed and started again still has its messages."""
    if not private_broker.is_kafka:
        missing("Java and Maven: real Kafka")
    topic = private_broker.topic()
    _produce(private_broker, topic, 10)
    private_broker.kill()
    private_broker.start()
    consumer = _consumer(private_broker)
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30) == (0, 10)
    consumer.close()


def test_the_version_is_the_one_in_the_pom() -> None:
    """The name of the real broker contains the pom's version."""
    assert kafka_version() == "4.3.1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent killed without a chance to clean up leaves no process behind."""
    parent = (
        "import sys; from pathlib import Path; from k2.ops.child_process import ChildProcess; "
        "child = ChildProcess(['sleep', '600'], Path(sys.argv[1])); child.start(); "
        "child.wait_until(lambda: b'sleep' in Path(f'/proc/{child.pid}/cmdline').read_bytes()[:5], 10); "
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    assert _is_gone(pid)


def _is_gone(pid: int) -> bool:
    """Wait until a process has ended (its parent may not have reaped it yet)."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        os.sched_yield()
        subprocess.run(["sleep", "0.01"], check=True)
    return False


def test_a_child_that_exits_at_once_is_not_waited_for(tmp_path: Path) -> None:
    """A command that fails is distinguished from one that is not ready yet, and its output is kept."""
    child = ChildProcess([sys.executable, "-c", "print('no luck'); raise SystemExit(3)"], tmp_path / "log")
    child.start()
    assert not child.wait_until(lambda: False, 30)
    child.stop()
    assert child.log_end() == "no luck"
