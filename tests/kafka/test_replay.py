"""Batches of dead letters are published once: after a stop at any step, and next to another replay."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from k2.kafka.config import consumer_config, producer_config
from k2.kafka.replay import Replayer
from k2.model.dead_letter import Coordinates
from k2.model.errors import FencedError, NotDeliveredError, SettingsError, StateError, UnreachableError
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.model.replay import LetterMessage, ReplayOf, replay_of
from k2.ops.failpoints import Name, arm
from k2.ops.settings import Settings, read_settings
from k2.storage.dead_letters.folders import replay_journal
from k2.storage.dead_letters.replay_journal import replayed_letters
from tests.brokers import Broker
from tests.model.dead_letters import dead_letter

Published = tuple[int, bytes | None, bytes | None, ReplayOf | None]
"""Offset, key, value, and the letter that the message replays."""


class StoppedError(Exception):
    """The process ends here."""


def letter(topic: str, offset: int, value: str = "v", **values: Any) -> LetterMessage:
    """Return the message of a letter of partition 0."""
    found = dead_letter(offset, topic=topic, key="k", value=value, **values)
    return LetterMessage.of(found, found.value_bytes(), {})


@pytest.fixture
def kafka(broker: Broker, tmp_path: Path, missing: Callable[[str], object]) -> Settings:
    """Return settings for a broker with transactions, and an empty folder of dead letters."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka")
    (tmp_path / "dlq").mkdir()
    return read_settings({"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "K2_DLQ_DIR": str(tmp_path / "dlq")})


def replaying(settings: Settings) -> Replayer:
    """Return a replay of these settings' namespace."""
    return Replayer(settings, replay_journal(settings))


def published(settings: Settings, topic: str) -> list[Published]:
    """Read all committed messages of partition 0."""
    consumer = confluent_kafka.Consumer(consumer_config(settings))
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    found: list[Published] = []
    try:
        while True:
            for message in consumer.consume(1_000, timeout=0.2):
                if message.error() is not None:
                    return found
                at = int(message.offset() or 0)
                found.append((at, message.key(), message.value(), replay_of(dict(message.headers() or ()).items())))
    finally:
        consumer.close()


@contextmanager
def stopping_at(name: Name) -> Iterator[None]:
    """Stop the replay at a failpoint, as a kill does: nothing that follows is done."""

    def stop(passed: Name) -> None:
        if passed == name:
            raise StoppedError

    arm(stop)
    try:
        with pytest.raises(StoppedError):
            yield
    finally:
        arm(None)


@pytest.mark.slow
def test_a_batch_is_published_once_wherever_a_replay_stops(kafka: Settings, broker: Broker) -> None:
    """At each step of the second batch: the next replay finds out what the topic has, and sends only the rest."""
    for step in ("replay.intended", "replay.produced", "replay.committed", "replay.recorded"):
        topic = broker.topic()
        first, second = (
            [letter(topic, 1), letter(topic, 2, index=1, reason=Reason.CONFLICT)],
            [letter(topic, 3), letter(topic, 4)],
        )
        with replaying(kafka) as replayer:
            replayer.publish(first)
        with stopping_at(step), replaying(kafka) as replayer:
            replayer.publish(second)
        with replaying(kafka) as replayer:
            done = replayed_letters(replayer.entries)
            assert replayer.looked_up == (2 if step == "replay.committed" else 0)
            rest = [one for one in second if one.letter not in done]
            assert len(rest) == (2 if step in {"replay.intended", "replay.produced"} else 0)
            if rest:
                replayer.publish(rest)
        found = published(kafka, topic)
        assert [one[1:] for one in found] == [(b"k", b"v", one.replay_of) for one in [*first, *second]]
        offsets = replayed_letters(replay_journal(kafka).entries())
        assert [at for where, at in offsets.items() if where.topic == topic] == [one[0] for one in found]


@pytest.mark.slow
def test_a_second_replay_ends_the_first(kafka: Settings, broker: Broker) -> None:
    """Nothing of the first is published from then on, and its error says why; other namespaces do not matter."""
    topic = broker.topic()
    other = kafka.model_copy(update={"namespace": "other"})
    with replaying(kafka) as first, replaying(other):
        first.publish([letter(topic, 1)])
        with replaying(kafka) as second:
            with pytest.raises(FencedError, match="another `k2 dlq replay` of namespace 'market_data' has begun"):
                first.publish([letter(topic, 2)])
            assert set(replayed_letters(second.entries)) == {Coordinates(topic, 0, 1)}
            second.publish([letter(topic, 2)])
    with replaying(kafka) as third:
        # What the first meant to publish is there, by the second.
        assert third.looked_up == 1
        assert set(replayed_letters(third.entries)) == {Coordinates(topic, 0, 1), Coordinates(topic, 0, 2)}
    assert [one[3] for one in published(kafka, topic)] == [letter(topic, 1).replay_of, letter(topic, 2).replay_of]


@pytest.mark.slow
def test_a_refused_message_publishes_nothing_of_its_batch(kafka: Settings, broker: Broker) -> None:
    """The error names the letter; nothing is left to look up, and what is no topic is named before."""
    topic = broker.topic(config={"max.message.bytes": "1000"})
    with (
        pytest.raises(NotDeliveredError, match=rf"{topic}:0:\d: .*nothing of the batch is published"),
        replaying(kafka) as replayer,
    ):
        replayer.publish([letter(topic, 1), letter(topic, 2, os.urandom(5_000).hex())])
    assert replay_journal(kafka).entries() == []
    with replaying(kafka) as replayer:
        replayer.publish([letter(topic, 1)])
        replayer.check_partitions({TopicPartition(topic, 0): 1})
        with pytest.raises(SettingsError, match=r"partition .*:7, from which 3 of the chosen dead letters came"):
            replayer.check_partitions({TopicPartition(topic, 7): 3})
        with pytest.raises(SettingsError, match="topic 'absent', from which 1 of the chosen"):
            replayer.check_partitions({TopicPartition("absent", 0): 1})
    assert [one[3] for one in published(kafka, topic)] == [letter(topic, 1).replay_of]


@pytest.mark.slow
def test_a_log_that_was_deleted_is_not_guessed_at(kafka: Settings, broker: Broker) -> None:
    """If the messages may have been in a part of the log that is gone, the error names the file to remove."""
    topic = broker.topic()
    with stopping_at("replay.produced"), replaying(kafka) as replayer:
        replayer.publish([letter(topic, 1)])
    producer = confluent_kafka.Producer(producer_config(kafka))
    producer.produce(topic, b"live")
    producer.flush()
    broker.delete_records(topic, 3)
    with pytest.raises(StateError, match=r"cannot be found out: .* remove .*\.intent\.jsonl"), replaying(kafka):
        pass
    (intent,) = Path(kafka.dead_letter_folder).glob("*.intent.jsonl")
    intent.unlink()
    with replaying(kafka) as replayer:
        assert replayer.entries == []


@pytest.mark.slow
def test_an_open_transaction_of_others_hides_no_message(
    kafka: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed messages after its first one cannot be read yet: a lookup that cannot see them decides nothing."""
    topic = broker.topic()
    other = confluent_kafka.Producer(producer_config(kafka, **{"transactional.id": f"other-{topic}"}))
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(topic, b"of others")
    other.flush()
    with stopping_at("replay.committed"), replaying(kafka) as replayer:
        replayer.publish([letter(topic, 1)])
    monkeypatch.setattr("k2.kafka.replay_lookup.STALLED_SECONDS_MAX", 1.0)
    with pytest.raises(UnreachableError, match=rf"{topic}:0 cannot be read to its end: .* open at"), replaying(kafka):
        pass
    other.abort_transaction(30)
    with replaying(kafka) as replayer:
        assert replayer.looked_up == 1
    assert [one[3] for one in published(kafka, topic)] == [letter(topic, 1).replay_of]
