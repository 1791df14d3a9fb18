"""Topics that are deleted and created again while the job runs."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from k2.kafka import topic_watch
from k2.kafka.topic_watch import TopicWatch
from k2.model.errors import OffsetError
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
