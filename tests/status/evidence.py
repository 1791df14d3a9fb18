"""Evidence of a sound capture, which a test changes in one place."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from k2.kafka.unread import PartitionEnd
from k2.model.progress import TopicPartition
from k2.query.partition_progress import PartitionState
from k2.status.evidence import BrokerState, Evidence, StoredCounts

__all__ = ["NOW", "OTHER", "PARTITION", "ago", "evidence", "state", "with_unread"]

NOW: Final = datetime(2026, 11, 28, 12, tzinfo=UTC)
PARTITION: Final = TopicPartition("trades", 0)
OTHER: Final = TopicPartition("trades", 1)


def ago(seconds: float) -> datetime:
    """Return a time before `NOW`."""
    return NOW - timedelta(seconds=seconds)


def state(partition: TopicPartition = PARTITION, committed_at: datetime | None = None) -> PartitionState:
    """Return a partition that was read to offset 1,000, with 990 rows."""
    return PartitionState(
        partition.topic, partition.partition, 1_000, 1_000, 990, 10, 0, 0, committed_at or ago(5), ago(6), ago(6), 6.0
    )


def with_unread(unread: int, oldest_seconds: float, *, partition: TopicPartition = PARTITION) -> dict[str, Any]:
    """Return the broker's answer that a partition has unread messages."""
    end = PartitionEnd(1_000 + unread, unread, ago(oldest_seconds) if unread else None)
    return {"broker": BrokerState("b:9092", ends={partition: end})}


def evidence(**changes: Any) -> Evidence:
    """Return sound evidence of one partition, with some fields changed."""
    sound: dict[str, Any] = {
        "now": NOW,
        "patience_seconds": 20.0,
        "states": (state(),),
        "messages_per_second": {PARTITION: 100.0},
        "last_commit_at": ago(5),
        "stored": StoredCounts(990),
        **with_unread(0, 0),
    }
    given = {**sound, **changes}
    ends = given["broker"].ends.items()
    given.setdefault("waiting_since", {partition: end.oldest_unread or ago(3_600) for partition, end in ends})
    return Evidence(**given)
