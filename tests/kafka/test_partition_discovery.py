"""Partitions added to a topic while the job runs: reported, and read after the next start."""

import threading
import time
from collections.abc import Callable

import pytest
import structlog

from k2.kafka import partition_discovery
from k2.kafka.partition_discovery import PartitionDiscovery
from k2.kafka.source import KafkaSource
from k2.model.errors import UnreachableError
from k2.model.progress import Progress, TopicPartition
from k2.ops.health import Health
from k2.ops.metrics import UNREAD_PARTITIONS
from k2.ops.settings import read_settings
from tests.brokers import Broker


def _unread(topic: str) -> float:
    return UNREAD_PARTITIONS.labels(topic)._value.get()


def test_unread_partitions_are_reported() -> None:
    """The gauge follows the broker, each topic is logged once, and a broker that does not answer changes nothing."""
    counts = {"a": 2, "b": 3}

    def count(topic: str) -> int:
        if topic == "c":
            raise UnreachableError("no answer")
        return counts[topic]

    read = [TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0), TopicPartition("c", 0)]
    check = PartitionDiscovery(count, read, Health()).check
    with structlog.testing.capture_logs() as logs:
        check()
        assert (_unread("a"), _unread("b"), _unread("c")) == (0, 2, 0)
        counts |= {"a": 1, "b": 4}
        check()
        assert (_unread("a"), _unread("b"), _unread("c")) == (0, 3, 0)
    warned = [(entry["topic"], entry["unread"]) for entry in logs if entry["log_level"] == "warning"]
    assert warned == [("b", 2)]


def test_a_supervised_job_is_ended_for_added_partitions() -> None:
    """What ends it is called once for each topic, with the number of its partitions that are not read."""
    added: list[tuple[str, int]] = []
    read = [TopicPartition("d", 0), TopicPartition("e", 0)]
    discovery = PartitionDiscovery({"d": 1, "e": 3}.__getitem__, read, Health(), lambda *one: added.append(one))
    discovery.check()
    discovery.check()
    assert added == [("e", 2)]


def test_the_source_discovers_partitions(
    broker: Broker, missing: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first partition opened to the last closed, in one thread, by asking the broker."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    topic = broker.topic(partitions=2)
    monkeypatch.setattr(partition_discovery, "INTERVAL_SECONDS", 0.05)
    settings = read_settings({"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "K2_TOPICS": topic})
    source = KafkaSource(settings, Progress())
    parts = [source.build_part("in", name, None) for name in source.list_parts()]
    broker.add_partitions(topic, 5)
    _wait(lambda: _unread(topic) == 3)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "partition discovery")
    for part in parts:
        part.close()
    _wait(lambda: not thread.is_alive())


def _wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, "it does not get there"
        time.sleep(0.02)
