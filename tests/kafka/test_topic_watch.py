"""Topics that are deleted and created again while the job runs."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from k2.kafka import topic_watch
from k2.kafka.topic_watch import TopicWatch
from k2.model.errors import K2Error, OffsetError, SettingsError, UnreachableError
from k2.ops.health import Health


def test_a_recreated_topic_is_noticed() -> None:
    """An id that does not arrive, or a topic that is gone, changes nothing; the sentence is that of a start."""
    ids = {"a": "1", "b": "2"}

    def find(topic: str) -> str:
        if topic not in ids:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        if ids[topic] == "none":
            raise TimeoutError
        return ids[topic]

    watch = TopicWatch(find, {"a": "1", "b": "2", "c": "3"}, Health())
    for answer in ("1", "none"):
        ids["a"] = answer
        watch.check()
        watch.raise_error()
    ids["b"] = "4"
    watch.check()
    with pytest.raises(OffsetError, match="topic b was deleted and recreated"):
        watch.raise_error()


def test_an_unreadable_partition_waits_for_the_new_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its end and its beginning the topic does not exist; a topic that stays away is no error of the watch."""
    monkeypatch.setattr(topic_watch, "SETTLE_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(topic_watch, "SETTLE_SECONDS", 0.05)
    answers: list[str] = []

    def find(_topic: str) -> str:
        if not answers:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return answers.pop(0)

    watch = TopicWatch(find, {"a": "1"}, Health())
    watch.settle()
    answers += ["1", "1", "2"]
    with pytest.raises(OffsetError, match="topic a was deleted and recreated"):
        watch.settle()
    TopicWatch(find, {}, Health()).settle()


@pytest.mark.parametrize(
    "fault", [SettingsError("the file cannot be read"), UnreachableError("no token"), RuntimeError("unexpected")]
)
def test_no_error_ends_the_watch(fault: K2Error | RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is made by the thread: what prevents it passes, and a topic that is created again is still noticed."""
    monkeypatch.setattr(topic_watch, "INTERVAL_SECONDS", 0.01)
    answers: list[Exception | str] = [fault, "1", fault, "2"]

    def find(_topic: str) -> str:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    health = Health()
    health.opened("a:0")
    watch = TopicWatch(find, {"a": "1"}, health)
    watch.start()
    try:
        deadline = time.monotonic() + 10
        while watch._error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(OffsetError, match="topic a was deleted and recreated"):
            watch.raise_error()
    finally:
        health.finished("a:0")
