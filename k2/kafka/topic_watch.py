"""Topic watch: notices while the job runs that a topic was deleted and created again."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from confluent_kafka import KafkaException

from k2.kafka.offset_resolution import check_topic_ids
from k2.model.errors import OffsetError
from k2.ops.health import Health

__all__ = ["TopicWatch"]

INTERVAL_SECONDS: Final = 10.0
SETTLE_SECONDS: Final = 5.0
SETTLE_PAUSE_SECONDS: Final = 0.5

_LOG: Final = structlog.get_logger()


class TopicWatch:
    """Regularly asks the broker for the ids of the topics, from a thread of its own.

    No answer of the broker to a fetch says that the topic is another one than before: offsets that exist in both are
    read on. A broker that does not answer changes nothing, and is asked again after `INTERVAL_SECONDS`.
    """

    def __init__(self, find_id: Callable[[str], str], known: Mapping[str, str], health: Health) -> None:
        """Prepare to compare the ids that are `known`, by topic, with those of `find_id`, which asks the broker.

        `find_id` is called from the thread of the watch, and may raise any error, which is logged. No topic is watched
        whose id is not known.
        """
        self._find_id, self._known, self._health = find_id, dict(known), health
        self._lock = threading.Lock()
        self._is_started = False
        self._error: OffsetError | None = None

    def start(self) -> None:
        """Start the thread, which runs as long as this process reads a partition; later calls do nothing."""
        with self._lock:
            is_started, self._is_started = self._is_started, True
        if not is_started and self._known:
            threading.Thread(target=self._run, name="topic watch", daemon=True).start()

    def raise_error(self) -> None:
        """Raise what the thread has found.

        Raises:
            OffsetError: a topic was deleted and created again.
        """
        if self._error is not None:
            raise self._error

    def settle(self) -> None:
        """Ask until a partition that cannot be read is explained, for at most `SETTLE_SECONDS`.

        A topic that is created again does not exist for a moment.

        Raises:
            OffsetError: a topic was deleted and created again.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._known and time.monotonic() < deadline:
            self.check()
            self.raise_error()
            time.sleep(SETTLE_PAUSE_SECONDS)

    def check(self) -> None:
        """Ask the broker once for each topic."""
        for topic in self._known:
            try:
                check_topic_ids(self._known, {topic: self._find_id(topic)})
            except OffsetError as error:
                self._error = error
            except (KafkaException, TimeoutError) as error:
                _LOG.debug("topic_id_unavailable", topic=topic, error=str(error))
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever the client meets: nothing starts it again
                # Such as a file with Kafka properties that is being replaced, or a token that cannot be signed now.
                _LOG.warning("topic_id_unavailable", topic=topic, error=str(error), effect="it is asked for again")

    def _run(self) -> None:
        time.sleep(INTERVAL_SECONDS)
        while self._health.has_partitions:
            self.check()
            time.sleep(INTERVAL_SECONDS)
