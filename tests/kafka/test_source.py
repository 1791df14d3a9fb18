"""The source: a start that is to be refused is refused before anything is touched."""

import pytest

from k2.kafka.source import KafkaSource
from k2.model.errors import OffsetError
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.settings import read_settings
from tests.brokers import Broker


def test_what_the_broker_does_not_hold_is_refused_before_the_sinks_begin(broker: Broker) -> None:
    """The table was put back, or the topic lost data: said when partitions are named, before letters are cut back."""
    where = TopicPartition(broker.topic(), 0)
    settings = read_settings({"K2_TOPICS": where.topic}, bootstrap_servers=broker.bootstrap_servers)
    known = Progress({"0": {where: PartitionProgress(100)}})
    with pytest.raises(OffsetError, match="ends at offset 0, but was read to 100 before"):
        KafkaSource(settings, known).list_parts()
    assert KafkaSource(settings, Progress()).list_parts() == [str(where)]
    assert KafkaSource(settings, known, in_store=[where]).list_parts() == [str(where)]
