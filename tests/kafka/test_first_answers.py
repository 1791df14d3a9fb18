"""The first answers of partitions arrive as soon as they are there."""

from typing import Any

import pytest

from k2.kafka import first_answers as module
from k2.kafka.first_answers import first_answers
from k2.model.progress import TopicPartition

PARTITIONS = [TopicPartition("trades", partition) for partition in range(3)]


class Message:
    """A message of a partition."""

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def topic(self) -> str:
        """Return its topic."""
        return "trades"

    def partition(self) -> int:
        """Return its partition."""
        return self._partition


class Consumer:
    """Has these messages; waits for none."""

    def __init__(self, partitions: list[int]) -> None:
        self._messages = [Message(partition) for partition in partitions]

    def poll(self, timeout: float) -> Message | None:
        """Return the next message, at once."""
        return self._messages.pop(0) if self._messages else None

    def consume(self, count: int, timeout: float) -> list[Message]:
        """Return what is there; the real one would wait for `timeout` if that is less than `count`."""
        assert timeout == 0
        messages, self._messages = self._messages[:count], self._messages[count:]
        return messages


def found(partitions: list[int], seconds_max: float = 5.0) -> list[int]:
    """Return the partitions of the answers."""
    consumer: Any = Consumer(partitions)
    return [where.partition for where, _ in first_answers(consumer, PARTITIONS, seconds_max)]


def test_each_partition_is_answered_once() -> None:
    """By its first message, whatever else the consumer has."""
    assert found([1, 1, 7, 0, 1, 2, 0]) == [1, 0, 2]


def test_partitions_without_an_answer_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time is over."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    assert found([2], 0.01) == [2]
