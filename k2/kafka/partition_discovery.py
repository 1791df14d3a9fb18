"""Partition discovery: reports partitions that were added to a topic; they are read after the next start."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from k2.model.errors import UnreachableError
from k2.model.progress import TopicPartition
from k2.ops.health import Health
from k2.ops.metrics import UNREAD_PARTITIONS

__all__ = ["OnAdded", "PartitionDiscovery"]

INTERVAL_SECONDS: Final = 10.0
OnAdded = Callable[[str, int], None]
"""Called with a topic, and how many of its partitions are not read."""

_LOG = structlog.get_logger()


class PartitionDiscovery:
    """Regularly asks the broker for the partition counts of the topics, from a thread of its own.

    A topic with more partitions than are read is logged once and reported as `k2_unread_partitions`. A broker that does
    not answer changes nothing, and is asked again after `INTERVAL_SECONDS`.
    """

    def __init__(
        self,
        partition_count: Callable[[str], int],
        read: Iterable[TopicPartition],
        health: Health,
        on_added: OnAdded | None = None,
    ) -> None:
        """Prepare to compare the partitions that are `read` with `partition_count`, which asks the broker.

        `partition_count` is called from the discovery thread and may raise `UnreachableError`. `on_added` is called
        from it too, when partitions were added; without it, they wait for the next start.
        """
        self._partition_count, self._health, self._on_added = partition_count, health, on_added
        self._read = Counter(topic_partition.topic for topic_partition in read)
        self._lock = threading.Lock()
        self._is_started = False
        self._warned: set[str] = set()

    def start(self) -> None:
        """Start the thread, which runs as long as this process reads a partition; later calls do nothing."""
        with self._lock:
            is_started, self._is_started = self._is_started, True
        if not is_started:
            threading.Thread(target=self._run, name="partition discovery", daemon=True).start()

    def check(self) -> None:
        """Ask the broker once."""
        for topic, read in self._read.items():
            try:
                unread = max(0, self._partition_count(topic) - read)
            except UnreachableError as error:
                # The other topics would wait for the same brokers.
                _LOG.debug("partition_count_unavailable", topic=topic, error=str(error))
                return
            UNREAD_PARTITIONS.labels(topic).set(unread)
            if unread and topic not in self._warned:
                self._warned.add(topic)
                hint = "restart the job to read them" if self._on_added is None else "the job is restarted to read them"
                _LOG.warning("partitions_added", topic=topic, unread=unread, hint=hint)
                if self._on_added is not None:
                    self._on_added(topic, unread)

    def _run(self) -> None:
        for topic in self._read:
            UNREAD_PARTITIONS.labels(topic).set(0)
        time.sleep(INTERVAL_SECONDS)
        while self._health.has_partitions:
            self.check()
            time.sleep(INTERVAL_SECONDS)
