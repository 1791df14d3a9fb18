"""Evidence: what the status is assessed from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from k2.kafka.unread import PartitionEnd
from k2.model.partition_starts import PartitionStarts
from k2.model.progress import Counts, TopicPartition
from k2.query.connection_gaps import ConnectionLoss
from k2.query.partition_progress import PartitionState
from k2.status.activity import NO_ACTIVITY, RecentActivity
from k2.status.feeds import DatedAhead, SilentSymbols
from k2.storage.dead_letters.rejections import CommonError

__all__ = ["BrokerState", "Evidence", "MissingNumbers", "StoredCounts", "TopicRejections"]


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What the broker answered."""

    servers: str | None
    """None if no broker was asked, because none is configured."""
    error: str | None = None
    """Why it did not answer."""
    ends: Mapping[TopicPartition, PartitionEnd] = field(default_factory=dict)
    """By partition of the table and of the configured topics."""
    absent_topics: tuple[str, ...] = ()
    """Topics that were read or are configured, and do not exist."""
    recreated_topics: tuple[str, ...] = ()
    """Topics with another id than when they were first read."""
    lost_partitions: tuple[TopicPartition, ...] = ()
    """Partitions that were read, and that their topic no longer has."""

    @property
    def is_known(self) -> bool:
        """Whether the ends are known."""
        return self.servers is not None and self.error is None


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """Counts of what is there, against those of the progress."""

    rows: int | None
    """Rows by the table's own metadata; None if another writer's delete files or summaries make them unknown."""
    lost_files: tuple[str, ...] = ()
    """Dead-letter files that are absent, unreadable, or shorter than the table has recorded."""
    is_ledger_lost: bool = False
    """Whether the table has recorded a ledger that is not there, or is another one."""
    removed: int = 0
    """Rows that `k2 maintain retain` removed, by its record in the table."""


@dataclass(frozen=True, slots=True)
class TopicRejections:
    """Dead letters of a topic, now and before."""

    topic: str
    recent: Counts
    """Counts of the newest commits."""
    total: Counts
    common: CommonError | None
    """The commonest error among the newest dead letters of the topic that wait."""
    replayed: int = 0
    """Dead letters that were replayed. A message that is rejected again is another dead letter, which waits."""

    @property
    def waiting(self) -> int:
        """Dead letters that were not replayed."""
        return max(self.total.dead_letters - self.replayed, 0)

    @property
    def waiting_recently(self) -> int:
        """Dead letters of the newest commits that were not replayed, at most: which ones were is not counted."""
        return min(self.recent.dead_letters, self.waiting)


@dataclass(frozen=True, slots=True)
class MissingNumbers:
    """Sequence numbers that are missing now."""

    numbers: int
    ranges: int
    symbols: int
    first_opened: datetime
    last_opened: datetime
    largest: str
    """`EXCHANGE SYMBOL first-last` of the largest range."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the assessment looks at."""

    now: datetime
    patience_seconds: float
    """Age of the oldest unread message from which on a commit is overdue, by the usual time between two commits."""
    states: tuple[PartitionState, ...]
    """Progress of each partition of the table."""
    messages_per_second: Mapping[TopicPartition, float]
    """Rate at which a partition advanced in the newest commits; no entry if it did not."""
    last_commit_at: datetime | None
    broker: BrokerState
    waiting_since: Mapping[TopicPartition, datetime]
    """Since when the next message of a partition has been waiting; of each partition with something unread."""
    stored: StoredCounts
    rejections: tuple[TopicRejections, ...] = ()
    missing: MissingNumbers | None = None
    missing_yesterday: int = 0
    """Those of `missing` that were found by a trade of yesterday (UTC), by venue time."""
    canary_left_out: int = 0
    """Numbers that the canary left out on purpose; not in `missing`."""
    losses: tuple[ConnectionLoss, ...] = ()
    """Messages of connections that were lost before Kafka; they are of no symbol, and not in `missing`."""
    conflicts: int = 0
    conflicting_symbols: tuple[str, ...] = ()
    dated_ahead: tuple[DatedAhead, ...] = ()
    silent: tuple[SilentSymbols, ...] = ()
    activity: RecentActivity = NO_ACTIVITY
    full_folders: tuple[Path, ...] = ()
    """Folders of the job on this machine whose disk is full."""
    starts: PartitionStarts = field(default_factory=dict)
    """Where `K2_START` began partitions."""
