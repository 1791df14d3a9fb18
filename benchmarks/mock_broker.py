"""A partition queue as the job polls it, filled by the mock broker that librdkafka has: no other process is needed."""

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import confluent_kafka

from benchmarks.counted_market import PARTITION
from k2.kafka.config import consumer_config
from k2.kafka.librdkafka import PartitionQueue, load_library
from k2.ops.settings import read_settings

__all__ = ["MockBroker"]

_SECONDS_MAX: Final = 60.0
_HANDLE_OFFSET: Final = 16
"""As in `k2.kafka.librdkafka`."""


class MockBroker:
    """A topic with one partition, and the queue of its messages."""

    def __init__(self) -> None:
        """Start the broker on a free port of loopback, and a consumer with the job's configuration."""
        self._librdkafka = _functions()
        self._producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 3})
        handle = ctypes.c_void_p.from_address(id(self._producer) + _HANDLE_OFFSET).value
        cluster = self._librdkafka.rd_kafka_handle_mock_cluster(handle)
        self._librdkafka.rd_kafka_mock_topic_create(cluster, PARTITION.topic.encode(), 1, 1)
        address = self._librdkafka.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        config = consumer_config(read_settings({}, bootstrap_servers=address))
        # Events of the partition's end would be among the messages, at places that depend on time.
        self._consumer = confluent_kafka.Consumer(config | {"enable.partition.eof": False, "log_level": 3})
        library = load_library()
        consumer_handle = None if library is None else library.handle(self._consumer)
        assert library is not None
        assert consumer_handle is not None, "the job reads with this version of librdkafka"
        self.queue = PartitionQueue(library, consumer_handle, PARTITION.topic, PARTITION.partition)
        self._consumer.assign([confluent_kafka.TopicPartition(PARTITION.topic, PARTITION.partition, 0)])

    def publish(self, values: Sequence[bytes]) -> None:
        """Publish messages, and return when all of them are in the queue."""
        for number, value in enumerate(values):
            self._producer.produce(PARTITION.topic, value, b"binance|SYM-USD", PARTITION.partition)
            if number % 1_000 == 0:
                self._producer.poll(0)
        self._producer.flush(_SECONDS_MAX)
        deadline = time.monotonic() + _SECONDS_MAX
        while self._length() < len(values):
            assert time.monotonic() < deadline, "the broker gives back what was published"
            time.sleep(0.05)

    def _length(self) -> int:
        return int(self._librdkafka.rd_kafka_queue_length(self.queue._queue))  # noqa: SLF001  only this needs it

    def close(self) -> None:
        """Stop the consumer; the broker ends with the process."""
        self.queue.close()
        self._consumer.close()


def _functions() -> Any:
    """Return what `k2.kafka.librdkafka` has no use for."""
    (path,) = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    pointer = ctypes.c_void_p
    library.rd_kafka_handle_mock_cluster.argtypes, library.rd_kafka_handle_mock_cluster.restype = [pointer], pointer
    library.rd_kafka_mock_topic_create.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_queue_length.argtypes, library.rd_kafka_queue_length.restype = [pointer], ctypes.c_size_t
    return library
