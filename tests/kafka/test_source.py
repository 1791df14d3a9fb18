"""The source: a start that must be rejected is rejected before anything is changed."""

import pytest

from k2.kafka.source import KafkaSource
from k2.model.errors import OffsetError
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.settings import read_settings
from tests.brokers import Broker


def test_missing_offsets_are_rejected_before_the_sinks_open(broker: Broker) -> None:
    """After a table rollback or lost topic data, listing the partitions raises, before dead letters are cut back."""
    where = TopicPartition(broker.topic(), 0)
    settings = read_settings({"K2_TOPICS": where.topic}, bootstrap_servers=broker.bootstrap_servers)
    known = Progress({"0": {where: PartitionProgress(100)}})
    with pytest.raises(OffsetError, match="ends at offset 0, but was read to 100 before"):
        KafkaSource(settings, known).list_parts()
    assert KafkaSource(settings, Progress()).list_parts() == [str(where)]
    assert KafkaSource(settings, known, in_store=[where]).list_parts() == [str(where)]
