"""Watches for partitions that were added to a topic: they are read after the next start, and until then told of."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from k2.model.errors import UnreachableError
from k2.model.progress import TopicPartition
from k2.ops.health import HEALTH
from k2.ops.metrics import UNREAD_PARTITIONS

__all__ = ["PartitionWatch"]

LOOK_SECONDS: Final = 30.0

_LOG = structlog.get_logger()


class PartitionWatch:
    """Asks the broker now and then how many partitions the topics have, from a thread of its own.

    Each topic that has more than are read is warned of once, and shown by `k2_unread_partitions`. A broker that does
    not answer changes nothing.
    """

    def __init__(self, count: Callable[[str], int], read: Iterable[TopicPartition]) -> None:
        """`count` asks the broker for the number of a topic's partitions; `read` are those that are read.

        It may raise `UnreachableError`, and is called from the watch's thread.
        """
        self._count = count
        self._read = Counter(where.topic for where in read)
        self._lock = threading.Lock()
        self._is_begun = False
        self._warned: set[str] = set()

    def begin(self) -> None:
        """Begin to watch, for as long as this process reads something; does nothing from the second call on."""
        with self._lock:
            is_begun, self._is_begun = self._is_begun, True
        if not is_begun:
            threading.Thread(target=self._run, name="partition watch", daemon=True).start()

    def look(self) -> None:
        """Ask once."""
        for topic, read in self._read.items():
            try:
                unread = max(0, self._count(topic) - read)
            except UnreachableError as error:
                _LOG.debug("partitions not counted", topic=topic, error=str(error))
                continue
            UNREAD_PARTITIONS.labels(topic).set(unread)
            if unread and topic not in self._warned:
                self._warned.add(topic)
                _LOG.warning("partitions were added to a topic: start again to read them", topic=topic, unread=unread)

    def _run(self) -> None:
        for topic in self._read:
            UNREAD_PARTITIONS.labels(topic).set(0)
        time.sleep(LOOK_SECONDS)
        while HEALTH.is_ready:
            self.look()
            time.sleep(LOOK_SECONDS)
