"""Baseline of the job benchmark: a bare `Consumer.consume()` loop over a whole topic."""

import sys

import confluent_kafka


def main(bootstrap_servers: str, topic: str) -> None:
    """Read every partition of a topic to its end; print the number of messages."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bare",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0) for partition in partitions])
    messages, finished = 0, 0
    while finished < len(partitions):
        for message in consumer.consume(20_000, timeout=0.1):
            if message.error() is None:
                messages += 1
            else:
                finished += 1
    consumer.close()
    print(messages)


if __name__ == "__main__":
    main(*sys.argv[1:])
