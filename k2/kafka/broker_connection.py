"""Whether the broker answers: logged when it goes and when it comes back, and part of the process's readiness."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from k2.ops.health import Health

__all__ = ["BrokerConnection"]

_LOG: Final = structlog.get_logger()


class BrokerConnection:
    """The connection of this process to the brokers; thread-safe.

    librdkafka reconnects by itself and says nothing of it, so a request without an answer begins that state, and any
    answer ends it. Partition discovery makes such a request every 10 seconds.
    """

    def __init__(self, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._health, self._clock = health, clock
        self._lock = threading.Lock()
        self._lost_at: float | None = None

    @property
    def is_lost(self) -> bool:
        """Whether no broker has answered since the connections were lost."""
        return self._lost_at is not None

    def lost(self, error: str) -> None:
        """Record that no broker is connected; only the first of several reports is logged."""
        with self._lock:
            if self._lost_at is not None:
                return
            self._lost_at = self._clock()
        self._health.broker_lost()
        _LOG.warning("broker_lost", error=error, effect="nothing is read until a broker answers; librdkafka reconnects")

    def answered(self) -> None:
        """Record that a broker has answered."""
        # Without the lock: called for every poll that returns messages.
        if self._lost_at is None:
            return
        with self._lock:
            lost_at, self._lost_at = self._lost_at, None
        if lost_at is not None:
            self._health.broker_answered()
            _LOG.info("broker_back", seconds=round(self._clock() - lost_at, 1))
