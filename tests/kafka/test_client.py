"""The Kafka client while a partition has no leader, and while no broker answers."""

import math
import time
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException

from k2.kafka.client import KafkaClient
from k2.kafka.reader import MessageReader
from k2.model.errors import UnreachableError
from k2.model.progress import TopicPartition
from k2.ops import retry
from k2.ops.settings import read_settings
from tests.brokers import Broker

PARTITION = TopicPartition("trades", 0)


class Consumer:
    """Answers with these error codes first, then with the offsets 7 and 9, or a cluster without topics."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes

    def get_watermark_offsets(self, _part: confluent_kafka.TopicPartition, **_: Any) -> tuple[int, int]:
        """Raise the next error, or return the low and the high watermark."""
        if self.codes:
            raise KafkaException(KafkaError(self.codes.pop(0)))
        return 7, 9

    def list_topics(self, _topic: str, **_: Any) -> Any:
        """Raise the next error, or return a cluster without topics."""
        self.get_watermark_offsets(confluent_kafka.TopicPartition("trades", 0))
        return SimpleNamespace(topics={})


def client_of(codes: list[int], monkeypatch: pytest.MonkeyPatch) -> KafkaClient:
    """Return a client whose consumer is this one; it does not wait between attempts."""
    monkeypatch.setattr(retry.RetryPolicy, "wait_seconds", lambda *_: 0.0)
    client = KafkaClient(read_settings({"K2_BOOTSTRAP_SERVERS": "localhost:1", "K2_TOPICS": "trades"}))
    monkeypatch.setattr(client, "_consumer", Consumer(codes))
    return client


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
def test_low_watermarks_wait_for_a_leader(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two answers without a leader, then one with it."""
    assert client_of([code, code], monkeypatch).low_watermarks([PARTITION]) == {PARTITION: 7}


def test_high_watermarks_do_not_wait_for_librdkafka_to_ask_again(broker: Broker) -> None:
    """It asks again after half a second if a leader is unknown; the first leaders are known before it asks."""
    topic = broker.topic(partitions=3)
    settings = read_settings({"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "K2_TOPICS": topic})
    partitions = [TopicPartition(topic, partition) for partition in range(3)]
    client = KafkaClient(settings)
    seconds = []
    # The best of some, as the machine may be busy.
    for _ in range(5):
        started = time.monotonic()
        assert client.high_watermarks(partitions) == dict.fromkeys(partitions, 0)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.4


def test_low_watermarks_name_the_partition_that_gets_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt of the policy is made."""
    codes = [int(KafkaError.NOT_LEADER_FOR_PARTITION)] * retry.ELECTION.attempts_max
    client = client_of(codes, monkeypatch)
    with pytest.raises(UnreachableError, match=r"offsets of trades:0: .*Not leader"):
        client.low_watermarks([PARTITION])
    assert not codes


def test_low_watermarks_report_another_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing permission does not come by waiting."""
    codes = [int(KafkaError.TOPIC_AUTHORIZATION_FAILED)] * 2
    with pytest.raises(UnreachableError, match="Topic authorization failed"):
        client_of(codes, monkeypatch).low_watermarks([PARTITION])
    assert len(codes) == 1


def test_a_request_without_an_answer_means_that_the_broker_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the next answer: then the lag is known again, too."""
    codes: list[int] = []
    client = client_of(codes, monkeypatch)
    reader = MessageReader(client._consumer, PARTITION)
    assert client.lag(reader, 4) == 5
    codes.append(KafkaError._TRANSPORT)
    with pytest.raises(UnreachableError, match="partitions of trades"):
        client.partition_count("trades")
    assert client.connection.is_lost
    assert math.isnan(client.lag(reader, 4))
    assert client.partition_count("trades") == 0
    assert not client.connection.is_lost
    assert client.lag(reader, 4) == 5
