"""The status as Prometheus metrics."""

import threading
from collections import Counter
from typing import Final

from prometheus_client import REGISTRY, generate_latest

from k2.ops.metrics import UNREAD_MESSAGES, VERDICT, VERDICT_REASONS
from k2.status.findings import Cause, Verdict
from k2.status.reader import Status

__all__ = ["status_metrics"]

_NAMES: Final = ("k2_verdict", "k2_verdict_reasons", "k2_unread_messages")
_LOCK: Final = threading.Lock()


def status_metrics(found: Status) -> bytes:
    """Return a status in Prometheus' text format; a partition whose end is not known has no sample."""
    causes = Counter(reason.cause for reason in found.reasons)
    with _LOCK:
        for verdict in Verdict:
            VERDICT.labels(verdict.value).set(verdict is found.verdict)
        for cause in Cause:
            VERDICT_REASONS.labels(cause.value).set(causes[cause])
        UNREAD_MESSAGES.clear()
        for one in found.partitions:
            if one.unread is not None:
                UNREAD_MESSAGES.labels(one.topic, one.partition).set(one.unread)
        return generate_latest(REGISTRY.restricted_registry(_NAMES))
