"""The producer delivers each message once, or reports how many it did not deliver."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import pytest
from structlog.testing import capture_logs

from k2.kafka.producer import TradeProducer
from k2.model.errors import NotDeliveredError, SettingsError, UnreachableError
from k2.ops.child_process import free_port
from k2.ops.settings import Settings, read_settings
from tests.brokers import Broker, read_topic

ROOT: Final = Path(__file__).parents[2]


def _settings(broker: Broker) -> Settings:
    return read_settings({"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers})


def test_messages_are_delivered_once_in_order(broker: Broker) -> None:
    """Keys and values arrive byte for byte, each once, and each key's messages in the order sent."""
    topic = broker.topic(partitions=3)
    sent = [(b"key %d" % (number % 5), b"%d \xff\x00\r" % number) for number in range(5000)]
    with TradeProducer(_settings(broker), topic) as producer:
        for key, value in sent:
            producer.send(key, value)
    found = [(message.key(), message.value()) for message in read_topic(broker, topic)]
    assert (producer.delivered, producer.failed, len(found)) == (5000, 0, 5000)
    for key in {key for key, _ in sent}:
        assert [value for name, value in found if name == key] == [value for name, value in sent if name == key]


def test_keys_are_partitioned_as_in_java(broker: Broker) -> None:
    """A keyed message goes to the partition that Java's default partitioner chooses (murmur2)."""
    topic = broker.topic(partitions=12)
    with TradeProducer(_settings(broker), topic) as producer:
        producer.send(b"21", b"")
    # From Kafka's UtilsTest: murmur2("21") is -973932308.
    assert [message.partition() for message in read_topic(broker, topic)] == [(-973932308 & 0x7FFFFFFF) % 12]


def test_a_full_queue_makes_the_producer_wait(broker: Broker) -> None:
    """With room for ten messages in the queue, a thousand are still delivered."""
    topic = broker.topic()
    with TradeProducer(_settings(broker), topic, **{"queue.buffering.max.messages": 10}) as producer:
        for number in range(1000):
            producer.send(None, b"%d" % number)
    assert [message.value() for message in read_topic(broker, topic)] == [b"%d" % number for number in range(1000)]


def test_a_message_too_large_is_counted_with_its_line(broker: Broker) -> None:
    """The messages before and after one that no broker accepts are delivered."""
    topic = broker.topic()
    with (  # noqa: PT012  what is raised at the block's end is of all that it sends
        pytest.raises(NotDeliveredError, match=r"^1 of 3 messages for topic .* line 2: .*too large"),
        TradeProducer(_settings(broker), topic) as producer,
    ):
        producer.send(None, b"before", line=1)
        producer.send(None, b"x" * 2_000_000, line=2)
        producer.send(None, b"after", line=3)
    assert [message.value() for message in read_topic(broker, topic)] == [b"before", b"after"]


def test_a_dead_broker_is_reported_with_the_count(embedded_broker: Broker) -> None:
    """Acknowledged messages count as delivered; those sent after the broker died do not."""
    topic = embedded_broker.topic()
    with (  # noqa: PT012  as above
        pytest.raises(NotDeliveredError, match=r"^20 of 30 messages .*timed out"),
        TradeProducer(_settings(embedded_broker), topic, **{"message.timeout.ms": 3_000}) as producer,
    ):
        for _ in range(10):
            producer.send(None, b"in time")
        assert producer._producer.flush(30) == 0
        embedded_broker.kill()
        for _ in range(20):
            producer.send(None, b"too late")
    assert (producer.delivered, producer.failed) == (10, 20)


def test_an_error_of_the_body_is_not_masked(embedded_broker: Broker) -> None:
    """The body's own exception propagates, with a note of what was not delivered."""
    topic = embedded_broker.topic()
    with (  # noqa: PT012  as above
        pytest.raises(KeyError, match="mine") as caught,
        TradeProducer(_settings(embedded_broker), topic, **{"message.timeout.ms": 3_000}) as producer,
    ):
        embedded_broker.kill()
        producer.send(None, b"too late")
        raise KeyError("mine")
    assert caught.value.__notes__[0].startswith("1 of 1 messages")


def test_an_absent_broker_is_named() -> None:
    """If nothing listens at the address, entering raises within ten seconds and names it."""
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(UnreachableError, match=address),
        TradeProducer(read_settings({"K2_BOOTSTRAP_SERVERS": address}), "trades"),
    ):
        pass


def test_a_missing_topic_is_created(broker: Broker) -> None:
    """It gets the partitions requested; an existing topic keeps its own, with a warning."""
    topic = f"made-{uuid.uuid4().hex}"
    with TradeProducer(_settings(broker), topic) as producer:
        assert producer.ensure_topic(partitions=3) == 3
        with capture_logs() as logs:
            assert producer.ensure_topic(partitions=3) == 3
            assert producer.ensure_topic(partitions=5) == 3
    assert [(log["log_level"], log["wanted"], log["found"]) for log in logs] == [("warning", 5, 3)]


def test_a_topic_that_cannot_be_created_is_named(broker: Broker, missing: Callable[[str], NoReturn]) -> None:
    """The error contains the broker's reason."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    with TradeProducer(_settings(broker), "x") as producer, pytest.raises(SettingsError, match=r"topic 'a b'"):
        producer.ensure_topic("a b")


SENDER = """
import sys, time
from k2.kafka.producer import TradeProducer
from k2.ops.logs import set_up_logs
from k2.ops.settings import read_settings
set_up_logs()
with TradeProducer(read_settings(), sys.argv[1], **{"linger.ms": 30_000}) as producer:
    for number in range(100):
        producer.send(None, b"%d" % number)
    print("sent", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_flushes_the_queue(broker: Broker, number: signal.Signals) -> None:
    """Messages still in the queue when a signal ends the process are delivered; its code is 128 + the signal."""
    topic = broker.topic()
    with subprocess.Popen(
        [sys.executable, "-c", SENDER, topic],
        cwd=ROOT,
        env={"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"sent\n"
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b'"delivered": 100, ' in log
    assert b'"not_delivered": 0' in log
    assert [message.value() for message in read_topic(broker, topic)] == [b"%d" % number for number in range(100)]


def test_former_signal_handlers_are_restored(broker: Broker) -> None:
    """After the producer is closed a signal has its former effect."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with TradeProducer(_settings(broker), broker.topic()):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
