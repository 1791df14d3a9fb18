"""CPU microseconds per message of the look for headers: `python -m benchmarks.headers [--messages N] [--rounds N]`.

Messages without headers are read from one partition, as the job reads them, and with the look left out. Rounds of both
alternate, so that drift of the machine affects both equally. Shown are the medians of the thread that polls, which
copies the messages, and of the whole process, in which librdkafka fetches them; last, the medians of the differences
between the rounds of a pair. The broker is the broker of the tests.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Final, NamedTuple
from unittest.mock import patch

from benchmarks.job import fill
from k2.kafka.client import KafkaClient
from k2.kafka.librdkafka import PartitionQueue
from k2.kafka.reader import ColumnReader
from k2.model.origin import MessageMarks
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from tests.brokers import own_broker

SYMBOLS: Final = 10
POLL_PAUSE_SECONDS: Final = 0.01


class Cost(NamedTuple):
    """CPU seconds of reading a topic."""

    thread: float
    process: float


def main() -> None:
    """Fill a topic, read it both ways in turn, and print what a message costs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.headers", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    looking, leaving = list[Cost](), list[Cost]()
    with own_broker() as broker:
        topic = broker.topic(partitions=1)
        fill(broker, topic, arguments.messages, SYMBOLS)
        settings = read_settings({}, bootstrap_servers=broker.bootstrap_servers)
        read(settings, topic, arguments.messages)  # compile before the measurement
        for _ in range(arguments.rounds):
            looking.append(read(settings, topic, arguments.messages))
            with patch.object(PartitionQueue, "_marks", no_marks):
                leaving.append(read(settings, topic, arguments.messages))
    print(f"broker: {broker.name}; {arguments.messages:,} messages without headers, {arguments.rounds} rounds")
    pairs = zip(looking, leaving, strict=True)
    differences = [Cost(one.thread - other.thread, one.process - other.process) for one, other in pairs]
    for what, costs in (("as it is", looking), ("without the look", leaving), ("the look", differences)):
        thread, process = (statistics.median(times) * 1e6 / arguments.messages for times in zip(*costs, strict=True))
        print(f"{what:<16}  thread {thread:.3f} us, process {process:.3f} us of CPU per message")


def no_marks(_queue: PartitionQueue, _count: int) -> Mapping[int, MessageMarks]:
    """Return no marks, without a look at the messages."""
    return {}


def read(settings: Settings, topic: str, messages: int) -> Cost:
    """Read the only partition of a topic to its end."""
    reader, found = KafkaClient(settings).open(TopicPartition(topic, 0), 0), 0
    assert isinstance(reader, ColumnReader), "the bundled librdkafka is there, and the client has no callbacks"
    thread, process = time.thread_time(), time.process_time()
    while found < messages:
        fetched = reader.poll()
        if fetched is None:
            time.sleep(POLL_PAUSE_SECONDS)
        else:
            found += int((fetched.errors == 0).sum())
    cost = Cost(time.thread_time() - thread, time.process_time() - process)
    reader.close()
    return cost


if __name__ == "__main__":
    main()
