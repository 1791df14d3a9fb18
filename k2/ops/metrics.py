"""Every metric of the job, declared here and nowhere else. No symbol in a label: 10,000 would make 10,000 series."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "COMMITS",
    "COMMIT_SECONDS",
    "CONFLICTS",
    "CONSUMER_LAG",
    "DATED_AHEAD",
    "DEAD_LETTERS",
    "DEDUP_IDS",
    "DUPLICATES_DROPPED",
    "FRESHNESS_SECONDS",
    "GAPS_DETECTED",
    "GAPS_FILLED",
    "LAST_COMMIT",
    "LAST_EPOCH",
    "MESSAGES_RECEIVED",
    "MESSAGES_SKIPPED",
    "OPEN_GAPS",
    "OUT_OF_ORDER",
    "RESETS_DETECTED",
    "RETRIES",
    "TRADES_STORED",
    "UNREAD_PARTITIONS",
    "WARM_STARTS",
]

MESSAGES_RECEIVED: Final = Counter("k2_messages_received", "Messages read from Kafka, replays among them.")
MESSAGES_SKIPPED: Final = Counter("k2_messages_skipped", "Messages that are no market trade.", ["reason"])
TRADES_STORED: Final = Counter("k2_trades_stored", "Trades committed to the table.")
DUPLICATES_DROPPED: Final = Counter("k2_duplicates_dropped", "Trades dropped because they are stored already.")
DEAD_LETTERS: Final = Counter("k2_dead_letters", "Messages set aside.", ["reason"])
DATED_AHEAD: Final = Counter(
    "k2_trades_dated_ahead",
    "Accepted trades whose venue time is more than 5 s ahead of the Kafka timestamp.",
    ["exchange"],
)
CONFLICTS: Final = Counter("k2_conflicts", "Trades set aside because they contradict a stored one.", ["exchange"])

GAPS_DETECTED: Final = Counter("k2_sequence_gaps_detected", "Ranges of numbers found missing.", ["exchange", "size"])
GAPS_FILLED: Final = Counter("k2_sequence_gaps_filled", "Ranges of missing numbers that came late.", ["exchange"])
RESETS_DETECTED: Final = Counter("k2_sequence_resets_detected", "Numberings that began again.", ["exchange"])
OUT_OF_ORDER: Final = Counter("k2_sequence_out_of_order", "Trades below the newest number.", ["exchange"])
OPEN_GAPS: Final = Gauge("k2_open_gaps", "Ranges of numbers missing now.", ["exchange"])
DEDUP_IDS: Final = Gauge("k2_dedup_ids", "Ids held in the deduplication window.")

CONSUMER_LAG: Final = Gauge("k2_consumer_lag_messages", "Messages not yet read.", ["topic", "partition"])
UNREAD_PARTITIONS: Final = Gauge(
    "k2_unread_partitions", "Partitions added to a topic since the start, which the next one reads.", ["topic"]
)
FRESHNESS_SECONDS: Final = Gauge("k2_freshness_seconds", "Age of the newest trade at its commit, by venue time.")
COMMIT_SECONDS: Final = Histogram("k2_commit_seconds", "Time to commit an epoch to the table.")
COMMITS: Final = Counter("k2_commits", "Commits to the table, by result.", ["result"])
LAST_COMMIT: Final = Gauge("k2_last_commit_timestamp_seconds", "When the table was last committed to.")
LAST_EPOCH: Final = Gauge("k2_last_epoch_timestamp_seconds", "When an epoch last closed.")
RETRIES: Final = Counter("k2_retries", "Operations tried again after a passing fault.", ["operation"])
WARM_STARTS: Final = Counter(
    "k2_warm_starts", "Partitions begun by the table's progress, for want of a recovery store."
)
