"""Deadlines of open gaps as Prometheus metrics: until when each exchange's gaps can be filled."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from math import inf
from typing import Final

from prometheus_client import REGISTRY, generate_latest

from k2.ops.metrics import GAP_DEADLINE
from k2.ops.settings import Settings
from k2.query.gap_causes import gap_deadlines
from k2.query.gaps import gaps
from k2.query.pool import EnginePool
from k2.query.tables import NoTableError

__all__ = ["DeadlineReader"]

AGE_SECONDS_MAX: Final = 600.0
"""Time for which deadlines serve: most are days away, and a large ledger takes seconds to read."""
_NAMES: Final = ("k2_gap_fillable_until_timestamp_seconds",)


class DeadlineReader:
    """Reads the deadlines of open gaps, at most every 10 minutes. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Read the tables of `settings`."""
        self._settings = settings
        self._lock = threading.Lock()
        self._read_at = -inf

    def metrics(self, pool: EnginePool | None = None) -> bytes:
        """Return the earliest deadline of each exchange with open gaps, in Prometheus' text format.

        The gaps of the canary have none.
        """
        with self._lock:
            if time.monotonic() - self._read_at > AGE_SECONDS_MAX:
                _set(self._read(pool))
                self._read_at = time.monotonic()
            return generate_latest(REGISTRY.restricted_registry(_NAMES))

    def _read(self, pool: EnginePool | None) -> Mapping[str, datetime | None]:
        with suppress(NoTableError):
            found = gaps(self._settings, pool=pool)
            market = [gap for gap in found if gap.exchange != self._settings.canary_exchange]
            return gap_deadlines(self._settings, market, pool=pool)
        return {}


def _set(deadlines: Mapping[str, datetime | None]) -> None:
    GAP_DEADLINE.clear()
    for exchange, until in deadlines.items():
        GAP_DEADLINE.labels(exchange).set(inf if until is None else until.timestamp())
