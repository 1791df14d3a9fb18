"""An idle process waits for messages in place of polling, and messages end every wait at once."""

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from k2.kafka import idle_wait
from k2.kafka.client import KafkaClient
from k2.kafka.idle_wait import EMPTY_POLLS, IdleWait
from k2.kafka.reader import ColumnReader
from k2.model.progress import TopicPartition
from k2.ops.settings import read_settings
from tests.brokers import Broker

WAIT_SECONDS = 0.5
"""Long enough for a busy machine to tell a wait from none."""


@pytest.fixture(autouse=True)
def _longer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_wait, "WAIT_MS", WAIT_SECONDS * 1000)


class _Queue:
    """A reader that says when messages arrive, if it can."""

    def __init__(self, *, can_wake: bool = True) -> None:
        self._can_wake = can_wake
        self.descriptor = -1

    def wake(self, descriptor: int) -> bool:
        self.descriptor = descriptor
        return self._can_wake


def _joined(queues: list[_Queue], **options: bool) -> IdleWait:
    waits = IdleWait(**options)
    for queue in queues:
        waits.join(queue)
    return waits


def _poll_until_idle(waits: IdleWait, queues: list[_Queue]) -> None:
    for _ in range(EMPTY_POLLS):
        for queue in reversed(queues):
            if waits.is_waiting():
                return
            waits.sleep(queue)


def test_one_partition_waits_for_all_once_all_were_empty_long_enough() -> None:
    """Before that, and after the next messages, every poll returns at once."""
    queues = [_Queue() for _ in range(3)]
    waits = _joined(queues)
    started = time.monotonic()
    assert not any(waits.sleep(queue) for _ in range(EMPTY_POLLS - 1) for queue in queues)
    assert not waits.is_waiting()
    assert time.monotonic() - started < WAIT_SECONDS
    _poll_until_idle(waits, queues)
    assert waits.is_waiting()
    started = time.monotonic()
    assert [waits.sleep(queue) for queue in queues] == [True, False, False]
    assert time.monotonic() - started >= WAIT_SECONDS * 0.9
    waits.end()
    assert not waits.is_waiting()
    assert not waits.sleep(queues[0])


def test_messages_of_any_partition_end_the_wait() -> None:
    """Also those that arrived between the last poll and the wait."""
    queues = [_Queue(), _Queue()]
    waits = _joined(queues)
    assert queues[0].descriptor == queues[1].descriptor
    _poll_until_idle(waits, queues)
    os.write(queues[1].descriptor, b"\0")
    started = time.monotonic()
    assert waits.sleep(queues[0])
    assert time.monotonic() - started < WAIT_SECONDS
    assert not waits.sleep(queues[0]), "it waits before the others are polled"
    started = time.monotonic()
    assert waits.sleep(queues[0])
    assert time.monotonic() - started >= WAIT_SECONDS * 0.9, "the byte was not taken"


def test_messages_of_one_worker_end_the_waits_of_others() -> None:
    """A worker that waits may have to work on what another has read."""
    own, other = _Queue(), _Queue()
    waits = _joined([own])
    waited: list[float] = []
    joined, is_idle = threading.Event(), threading.Event()

    def work() -> None:
        waits.join(other)
        joined.set()
        is_idle.wait()
        started = time.monotonic()
        waits.sleep(other)
        waited.append(time.monotonic() - started)

    worker = threading.Thread(target=work)
    worker.start()
    joined.wait()
    assert own.descriptor != other.descriptor
    for _ in range(2 * EMPTY_POLLS):
        waits.sleep(_Queue())
    assert waits.is_waiting()
    waits.end()
    for _ in range(2 * EMPTY_POLLS):
        waits.sleep(_Queue())
    is_idle.set()
    worker.join()
    assert waited[0] < WAIT_SECONDS


@pytest.mark.parametrize(
    ("queues", "is_enabled"),
    [([_Queue(can_wake=False)], True), ([_Queue(), _Queue(can_wake=False)], True), ([_Queue()], False)],
)
def test_nothing_waits_that_could_not_be_woken(queues: list[_Queue], *, is_enabled: bool) -> None:
    """Readers without librdkafka's queue, and processes that work for others, poll as before."""
    waits = _joined(queues, is_enabled=is_enabled)
    assert not any(waits.sleep(queue) for _ in range(2 * EMPTY_POLLS) for queue in queues)
    assert not waits.is_waiting()


def test_partitions_pause_when_the_one_that_waits_is_finished() -> None:
    """Otherwise they would be polled without any pause."""
    queues = [_Queue(), _Queue()]
    waits = _joined(queues)
    _poll_until_idle(waits, queues)
    waits.leave(queues[0])
    assert not waits.is_waiting()
    assert not waits.sleep(queues[1])


@pytest.fixture
def reader(broker: Broker) -> Iterator[tuple[ColumnReader, str]]:
    """A reader of an empty topic, and the topic."""
    topic = broker.topic(1)
    client = KafkaClient(read_settings({}, bootstrap_servers=broker.bootstrap_servers))
    reader = client.open(TopicPartition(topic, 0), 0)
    assert isinstance(reader, ColumnReader)
    yield reader, topic
    reader.close()


def test_librdkafka_wakes_for_each_message_that_follows_an_empty_poll(
    broker: Broker, reader: tuple[ColumnReader, str]
) -> None:
    """A message that arrives while nobody polls is announced, again and again."""
    queue, topic = reader
    read_end, write_end = os.pipe()
    assert queue.wake(write_end)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
    for number in range(3):
        _poll_until_empty(queue, read_end)
        producer.produce(topic, value=b"%d" % number)
        producer.flush(10)
        assert _is_written(read_end, 10), f"message {number} was not announced"
    os.close(read_end)
    os.close(write_end)


def _poll_until_empty(queue: ColumnReader, read_end: int) -> None:
    """Poll until nothing has arrived for half a second, each time after what was announced is taken."""
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        if _is_written(read_end, 0.02):
            os.read(read_end, 100)
        if queue.poll() is not None:
            deadline = time.monotonic() + 0.5


def _is_written(read_end: int, seconds: float) -> bool:
    """Return whether a pipe has something to read within some seconds, whatever the number of its descriptor."""
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
