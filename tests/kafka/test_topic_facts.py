"""What is read of the newest messages of a topic."""

from confluent_kafka import Producer

from k2.kafka.topic_facts import read_newest
from k2.model.origin import ORIGIN_HEADER, VENUE_HEADER
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from tests.brokers import Broker


def test_marked_messages_are_counted_and_their_values_left_out(broker: Broker) -> None:
    """A fill or a head number has another form than the topic's venue reads, which is no fault of the feed."""
    topic = broker.topic()
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(topic, b"live", b"key")
    producer.produce(topic, b"fill", b"key", headers=[(ORIGIN_HEADER, b"person a"), (VENUE_HEADER, b"k2-fill")])
    producer.produce(topic, b"also live", b"key", headers=[("trace", b"1")])
    assert producer.flush(30) == 0
    where = TopicPartition(topic, 0)
    found = read_newest(Settings(bootstrap_servers=broker.bootstrap_servers), [where])[where]
    assert (found.count, found.values) == (3, [b"live", b"also live"])
