"""CPU microseconds per message of the look for headers: `python -m benchmarks.headers [--messages N] [--rounds N]`.

The same messages are read from two topics, as the job reads them: without headers, and each with a header that is not
of the job, such as one of tracing. Rounds of both alternate, so that drift of the machine affects both equally. Shown
are the medians of the thread that polls, which copies the messages, and of the whole process, in which librdkafka
fetches them. The broker is the broker of the tests.
"""

import argparse
import statistics
import time
from typing import Final, NamedTuple

from benchmarks.mixture import Mixture
from k2.kafka.client import KafkaClient
from k2.kafka.producer import Headers, TradeProducer
from k2.kafka.reader import ColumnReader
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from tests.brokers import own_broker

SYMBOLS: Final = 10
POLL_PAUSE_SECONDS: Final = 0.01
KINDS: Final[dict[str, Headers]] = {"without headers": (), "with another": (("traceparent", b"00-0af7651916cd43dd"),)}


class Cost(NamedTuple):
    """CPU seconds of reading a topic."""

    thread: float
    process: float


def main() -> None:
    """Fill two topics, read them in turn, and print what a message costs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.headers", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with own_broker() as broker:
        settings = read_settings({}, bootstrap_servers=broker.bootstrap_servers)
        topics = {kind: broker.topic(partitions=1) for kind in KINDS}
        for kind, headers in KINDS.items():
            with TradeProducer(settings, topics[kind]) as producer:
                for key, value in Mixture(arguments.messages, SYMBOLS).records():
                    producer.send(key, value, headers=headers)
            read(settings, topics[kind], arguments.messages)  # compile before the measurement
        rounds = [
            {kind: read(settings, topic, arguments.messages) for kind, topic in topics.items()}
            for _ in range(arguments.rounds)
        ]
    print(f"broker: {broker.name}; {arguments.messages:,} messages, {arguments.rounds} rounds")
    for kind in KINDS:
        costs = [one[kind] for one in rounds]
        thread, process = (statistics.median(times) * 1e6 / arguments.messages for times in zip(*costs, strict=True))
        print(f"{kind:<16}  thread {thread:.3f} us, process {process:.3f} us of CPU per message")


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
