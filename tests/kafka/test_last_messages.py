"""The message that was read last is read once more: what a start concludes from what the broker has now."""

import pytest
import structlog
from confluent_kafka import Producer

from k2.kafka.client import KafkaClient
from k2.kafka.last_messages import Reread, check_last_message
from k2.model.batch import NULL_TIME
from k2.model.errors import OffsetError
from k2.model.last_message import LastMessage, message_hash
from k2.model.progress import PartitionProgress, TopicPartition
from k2.ops.settings import read_settings
from tests.brokers import Broker

WHERE = TopicPartition("trades", 3)
SAME, OTHER = LastMessage(98, "0" * 16, 5), LastMessage(98, "f" * 16, 6)
ENTRY = PartitionProgress(100, last_message=SAME)


@pytest.mark.parametrize(
    "reread",
    [
        Reread(SAME, 100, is_epoch_checked=True),
        Reread(SAME, None, is_epoch_checked=True),
        # The broker moved to another epoch when it wrote the batch again, as compaction may.
        Reread(LastMessage(98, "0" * 16, 6), 104, is_epoch_checked=True),
    ],
)
def test_an_unchanged_log_is_read_on(reread: Reread) -> None:
    """Nothing is logged: each start of a healthy job comes by here."""
    with structlog.testing.capture_logs() as logs:
        check_last_message(WHERE, ENTRY, reread)
    assert logs == []


@pytest.mark.parametrize(
    ("reread", "words"),
    [
        (Reread(OTHER, 100), "the message at offset 98 is not the one that was read there"),
        (Reread(OTHER, None), "its hash is ffffffffffffffff, it was 0000000000000000"),
        (Reread(SAME, 99), "offset 99 has a message now, and had none when it was read"),
        (Reread(SAME, 100, "end offset is 90", is_epoch_checked=True), "ends below offset 99 in leader epoch 5"),
        (Reread(None, 120, "end offset is 90", is_epoch_checked=True), "(end offset is 90)"),
    ],
)
def test_a_changed_log_is_rejected(reread: Reread, words: str) -> None:
    """One sentence: the partition, the offsets, and the two ways on."""
    with pytest.raises(OffsetError) as caught:
        check_last_message(WHERE, ENTRY, reread)
    said = str(caught.value)
    assert said.startswith("trades:3: ")
    assert words in said
    assert "the log was cut below offset 100 and has grown again" in said
    assert "`k2 recovery skip trades:3 --to 100 --yes`" in said


@pytest.mark.parametrize(
    ("reread", "events"),
    [
        (Reread(None, 120, is_epoch_checked=True), [("last_message_gone", "its leader epoch")]),
        (Reread(None), [("leader_epoch_not_checked", None), ("last_message_gone", "nothing")]),
        (Reread(SAME), [("leader_epoch_not_checked", None)]),
    ],
)
def test_what_cannot_be_compared_is_logged(reread: Reread, events: list[tuple[str, str | None]]) -> None:
    """The message expired, or the broker did not compare the epoch: the log says what was compared."""
    with structlog.testing.capture_logs() as logs:
        check_last_message(WHERE, ENTRY, reread)
    assert [(entry["event"], entry.get("compared")) for entry in logs] == events


def test_messages_are_read_again(broker: Broker) -> None:
    """Each has the hash that it had as the last of a poll; one before the first offset of the broker is gone."""
    topic = broker.topic(partitions=3)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    for number in range(10):
        producer.produce(topic, f"value {number}", None if number else "key", 0, timestamp=1_700_000_000_000 + number)
        producer.produce(topic, None, "key", 1, timestamp=1_700_000_000_000)
    assert producer.flush(30) == 0
    client = KafkaClient(read_settings({}, bootstrap_servers=broker.bootstrap_servers))
    first, second = (TopicPartition(topic, number) for number in range(2))

    def reread(where: TopicPartition, offset: int, low: int = 0, leader_epoch: int = 0) -> Reread:
        last = LastMessage(offset, "0" * 16, leader_epoch if broker.is_kafka else None)
        entry = PartitionProgress(offset + 1, last_message=last)
        return client.read_again({where: entry}, {where: low})[where]

    message = reread(first, 4).message
    assert message is not None
    assert (message.offset, message.hash) == (4, message_hash(None, b"value 4", 1_700_000_000_004_000))
    assert reread(first, 0).message is not None
    assert reread(first, 9).next_offset is None
    assert reread(first, 4, low=6).message is None
    tombstone = reread(second, 9).message
    assert tombstone is not None
    assert tombstone.hash == message_hash(b"key", None, 1_700_000_000_000_000)
    assert tombstone.hash != message_hash(b"key", None, NULL_TIME)
    assert client.read_again({}, {}) == {}
    if broker.is_kafka:
        assert reread(first, 4) == Reread(message, 5, is_epoch_checked=True)
        # As after the loss of the whole log: the topic has no message of that epoch, or of an earlier one.
        assert "end offset is -1" in (reread(first, 4, leader_epoch=9).truncation or "")
        assert "end offset is -1" in (reread(first, 4, low=6, leader_epoch=9).truncation or "")
