"""What a partition has beyond an offset: messages, nothing, markers of transactions, or no such offset."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from k2.kafka.unread import find_ends, partitions_of_topics
from k2.model.errors import UnreachableError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import publish, trade


def _settings(broker: Broker, topic: str) -> Settings:
    return Job(broker.bootstrap_servers, Path(), topic).settings


def test_ends_as_seen_from_an_offset(broker: Broker) -> None:
    """Unread messages with the time of the next one; none at the end; all of a partition from its beginning."""
    topic = broker.topic(3)
    settings = _settings(broker, topic)
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(10)], partition=0)
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(4)], partition=1)
    first, second, third = (TopicPartition(topic, one) for one in range(3))
    found = find_ends(settings, {first: 7, second: 4, third: None})
    assert (found[first].end_offset, found[first].unread) == (10, 3)
    assert found[first].oldest_unread is not None
    assert abs(datetime.now(UTC) - found[first].oldest_unread) < timedelta(minutes=1)
    assert (found[second].end_offset, found[second].unread, found[second].oldest_unread) == (4, 0, None)
    assert (found[third].end_offset, found[third].unread) == (0, 0)
    assert find_ends(settings, {second: None})[second].unread == 4
    assert find_ends(settings, {}) == {}


def test_partitions_of_topics(broker: Broker) -> None:
    """A topic that does not exist has none, and is not created by the question."""
    topic = broker.topic(2)
    settings = _settings(broker, topic)
    for _ in range(2):
        found = partitions_of_topics(settings, [topic, f"{topic}-absent"])
        assert found == {topic: [TopicPartition(topic, 0), TopicPartition(topic, 1)], f"{topic}-absent": []}


def test_markers_of_transactions_are_not_unread(broker: Broker, missing: Any) -> None:
    """The last offset of a transaction is a marker, which the job never passes by itself."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    topic = broker.topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(3):
        producer.produce(topic, trade(number)[1])
    producer.commit_transaction(30)
    where = TopicPartition(topic, 0)
    settings = _settings(broker, topic)
    assert find_ends(settings, {where: 3})[where].unread == 0
    assert find_ends(settings, {where: 2})[where].unread == 2


def test_an_offset_that_does_not_exist(broker: Broker, missing: Any) -> None:
    """The first offset that the broker has is returned instead."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    topic = broker.topic()
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(10)])
    where, settings = TopicPartition(topic, 0), _settings(broker, topic)
    broker.delete_records(topic, 6)
    assert find_ends(settings, {where: 6})[where].first_offset is None
    assert find_ends(settings, {where: None})[where].unread == 4
    found = find_ends(settings, {where: 2})[where]
    assert (found.first_offset, found.end_offset, found.unread) == (6, 10, 8)
    found = find_ends(settings, {where: 40})[where]
    assert (found.first_offset, found.end_offset, found.unread) == (6, 10, 0)


def test_an_offset_that_the_broker_of_the_demo_does_not_answer(
    embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a fetch beyond the end, as of a topic that was created again with fewer messages."""
    monkeypatch.setattr("k2.kafka.unread.ANSWER_SECONDS_MAX", 1)
    topic = embedded_broker.topic()
    publish(embedded_broker.bootstrap_servers, topic, [trade(number) for number in range(10)])
    where, settings = TopicPartition(topic, 0), _settings(embedded_broker, topic)
    assert find_ends(settings, {where: 10})[where].first_offset is None
    found = find_ends(settings, {where: 11})[where]
    assert (found.first_offset, found.end_offset, found.unread) == (0, 10, 0)


def test_no_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is named, with the cause."""
    monkeypatch.setattr("k2.kafka.unread.ANSWER_SECONDS_MAX", 0.5)
    with pytest.raises(UnreachableError, match=r"no Kafka broker at 127.0.0.1:1 returns the end of t:0: "):
        find_ends(Job("127.0.0.1:1", Path(), "t").settings, {TopicPartition("t", 0): 0})
