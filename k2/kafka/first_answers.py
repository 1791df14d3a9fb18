"""The first message or event that a consumer gets of each of its partitions."""

import time
from collections.abc import Collection, Iterator
from typing import Final

from confluent_kafka import Consumer, Message

from k2.model.progress import TopicPartition

__all__ = ["first_answers"]

MESSAGES_PER_POLL: Final = 1_000
POLL_SECONDS: Final = 0.1


def first_answers(
    consumer: Consumer, partitions: Collection[TopicPartition], seconds_max: float
) -> Iterator[tuple[TopicPartition, Message]]:
    """Yield each partition with its first message, end-of-partition event or error, for at most `seconds_max`.

    The consumer must be assigned to the partitions. A partition that does not answer in time is left out.
    """
    waiting = set(partitions)
    deadline = time.monotonic() + seconds_max
    while waiting and time.monotonic() <= deadline:
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            continue
        # `consume` would wait for its whole time unless as many messages come as it may return.
        for message in (first, *consumer.consume(MESSAGES_PER_POLL, timeout=0)):
            topic_partition = TopicPartition(str(message.topic()), int(message.partition() or 0))
            if topic_partition in waiting:
                waiting.remove(topic_partition)
                yield topic_partition, message
