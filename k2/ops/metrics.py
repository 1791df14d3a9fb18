"""All metrics of the job. No label is a symbol: 10,000 symbols would create 10,000 time series."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from k2.model.reasons import Reason

__all__ = [
    "CANARY_GAPS_EXPECTED",
    "CANARY_GAPS_SEEN",
    "CANARY_LAST_SEQUENCE",
    "CANARY_SECONDS",
    "CANARY_WAITING_SECONDS",
    "CHECKPOINT_TIME",
    "COMMITS",
    "COMMIT_SECONDS",
    "CONFLICTS",
    "CONNECTION_GAPS",
    "CONSUMER_LAG",
    "CORRECTIONS_STORED",
    "DATED_AHEAD",
    "DEAD_LETTERS",
    "DEAD_LETTER_DISK",
    "DEAD_LETTER_DISK_FREE",
    "DEDUP_IDS",
    "DUPLICATES_DROPPED",
    "EXCHANGE_SILENT",
    "FEED_FIRST",
    "FEED_LAG",
    "FEED_LOST",
    "FRESHNESS_SECONDS",
    "GAPS_DETECTED",
    "GAPS_FILLED",
    "GAP_DEADLINE",
    "LAST_COMMIT",
    "LAST_EPOCH",
    "MESSAGES_RECEIVED",
    "MESSAGES_SKIPPED",
    "MISSING_NUMBERS",
    "NEWEST_MISSING",
    "OPEN_GAPS",
    "OUT_OF_ORDER",
    "PROCESSES",
    "QUERIES",
    "RESETS_DETECTED",
    "RESTARTS",
    "RETRIES",
    "SILENT_SYMBOLS",
    "STALLED_SECONDS",
    "STALL_SECONDS_MAX",
    "STATE_REBUILT",
    "TRADES_STORED",
    "UNREAD_MESSAGES",
    "UNREAD_PARTITIONS",
    "VENUE_DRIFT",
    "VENUE_SKEW",
    "VERDICT",
    "VERDICT_REASONS",
    "WARM_STARTS",
    "create_job_series",
]

MESSAGES_RECEIVED: Final = Counter("k2_messages_received", "Messages read from Kafka, including replays.")
MESSAGES_SKIPPED: Final = Counter(
    "k2_messages_skipped", "Messages that are neither a trade to store nor an error.", ["reason"]
)
TRADES_STORED: Final = Counter("k2_trades_stored", "Trades committed to the table.")
DUPLICATES_DROPPED: Final = Counter("k2_duplicates_dropped", "Trades dropped because they are already stored.")
CORRECTIONS_STORED: Final = Counter("k2_corrections", "Corrections committed to the table `corrections`.", ["exchange"])
DEAD_LETTERS: Final = Counter("k2_dead_letters", "Messages written to the dead-letter queue.", ["reason"])
DEAD_LETTER_DISK: Final = Gauge(
    "k2_dead_letter_disk_bytes",
    "Size of the disk of the dead letters; NaN if it cannot be read, or they are in an object store.",
)
DEAD_LETTER_DISK_FREE: Final = Gauge(
    "k2_dead_letter_disk_free_bytes", "Bytes free on the disk of the dead letters; NaN as above."
)
DATED_AHEAD: Final = Counter(
    "k2_trades_dated_ahead",
    "Accepted trades whose venue time is more than 5 s ahead of the Kafka timestamp.",
    ["exchange"],
)
CONFLICTS: Final = Counter(
    "k2_conflicts", "Trades written to the dead-letter queue because they contradict a stored trade.", ["exchange"]
)
VENUE_SKEW: Final = Histogram(
    "k2_venue_skew_seconds",
    "Kafka timestamp minus venue time of sampled trades; negative if the venue's clock is ahead.",
    ["venue"],
    buckets=(-60, -10, -5, -1, -0.1, -0.01, 0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)
SILENT_SYMBOLS: Final = Gauge(
    "k2_silent_symbols",
    "Symbols that trade all day and have had no trade for ten times their longest pause.",
    ["exchange"],
)
EXCHANGE_SILENT: Final = Gauge(
    "k2_exchange_silent", "1 if more than half of the symbols that trade all day are silent.", ["exchange"]
)
VENUE_DRIFT: Final = Counter(
    "k2_venue_drift",
    "Keys, values and types that the venue's table does not know, in sampled messages.",
    ["venue", "change"],
)

GAPS_DETECTED: Final = Counter(
    "k2_sequence_gaps_detected", "Ranges of sequence numbers found missing.", ["exchange", "size"]
)
GAPS_FILLED: Final = Counter(
    "k2_sequence_gaps_filled", "Ranges of missing sequence numbers that arrived late.", ["exchange"]
)
CONNECTION_GAPS: Final = Counter(
    "k2_connection_gaps",
    "Ranges of a connection's messages that were lost between the venue and Kafka.",
    ["exchange"],
)
FEED_LOST: Final = Counter(
    "k2_feed_lost",
    "Sequence numbers that a feed passed over, whether or not another feed has brought them.",
    ["exchange", "feed"],
)
FEED_FIRST: Final = Counter(
    "k2_feed_first",
    "Trades brought by all feeds of a venue that this one brought before the others, by Kafka timestamp.",
    ["exchange", "feed"],
)
FEED_LAG: Final = Histogram(
    "k2_feed_lag_seconds",
    "How much later than the first feed this one brought a trade, by Kafka timestamp, of sampled trades.",
    ["exchange", "feed"],
    buckets=(0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)
RESETS_DETECTED: Final = Counter("k2_sequence_resets_detected", "Numberings that restarted.", ["exchange"])
OUT_OF_ORDER: Final = Counter("k2_sequence_out_of_order", "Trades below the newest sequence number.", ["exchange"])
OPEN_GAPS: Final = Gauge("k2_open_gaps", "Ranges of sequence numbers that are missing now.", ["exchange"])
MISSING_NUMBERS: Final = Gauge("k2_missing_numbers", "Sequence numbers that are missing now.", ["exchange"])
NEWEST_MISSING: Final = Counter(
    "k2_newest_numbers_missing",
    "Numbers above all that arrived, which the venue named over a minute before.",
    ["exchange"],
)
DEDUP_IDS: Final = Gauge("k2_dedup_ids", "Trade ids held in the deduplication window.")

CONSUMER_LAG: Final = Gauge("k2_consumer_lag_messages", "Messages not yet read.", ["topic", "partition"])
UNREAD_PARTITIONS: Final = Gauge(
    "k2_unread_partitions", "Partitions added to a topic since the job started; the next start reads them.", ["topic"]
)
FRESHNESS_SECONDS: Final = Gauge(
    "k2_freshness_seconds", "Age of the newest trade at its commit, by venue time; NaN before the first."
)
COMMIT_SECONDS: Final = Histogram("k2_commit_seconds", "Time to commit an epoch to the table.")
COMMITS: Final = Counter("k2_commits", "Commits to the table, by result.", ["result"])
LAST_COMMIT: Final = Gauge(
    "k2_last_commit_timestamp_seconds", "Time of the last commit to the table; NaN before the first."
)
LAST_EPOCH: Final = Gauge("k2_last_epoch_timestamp_seconds", "Time at which an epoch last closed.")
STALLED_SECONDS: Final = Gauge(
    "k2_stalled_seconds",
    "Time since the slowest partition closed an epoch, or for which peers are awaited; 0 without a partition.",
)
STALL_SECONDS_MAX: Final = Gauge("k2_stall_seconds_max", "`K2_STALL_SECONDS_MAX`: `/healthz` fails above it.")
CHECKPOINT_TIME: Final = Gauge(
    "k2_checkpoint_timestamp_seconds",
    "Time at which a writer last wrote or advanced its checkpoints, or started.",
    ["writer"],
)
STATE_REBUILT: Final = Gauge(
    "k2_state_rebuilt", "1 if the start read the whole table, because checkpoints and recovery store had no state."
)
PROCESSES: Final = Gauge("k2_processes", "Processes of the cluster, as each is configured.")
RESTARTS: Final = Gauge(
    "k2_restarts",
    "Starts of the job before this one, by the recovery store or by `k2 run --supervise`, whichever has more.",
)
RETRIES: Final = Counter("k2_retries", "Operations retried after a transient fault.", ["operation"])
WARM_STARTS: Final = Counter(
    "k2_warm_starts", "Partitions that started from the progress of the table instead of the recovery store."
)

CANARY_LAST_SEQUENCE: Final = Gauge(
    "k2_canary_last_sequence", "The newest number that the canary has published; 0 without a canary, as the others."
)
CANARY_SECONDS: Final = Gauge(
    "k2_canary_seconds",
    "Time from publishing the canary's newest message in the table to its commit; NaN before the first.",
)
CANARY_WAITING_SECONDS: Final = Gauge(
    "k2_canary_waiting_seconds", "Time for which a message of the canary is not in the table, or overdue; 0 if none is."
)
CANARY_GAPS_EXPECTED: Final = Gauge(
    "k2_canary_gaps_expected", "Numbers that the canary has left out since the start, with later ones in the table."
)
CANARY_GAPS_SEEN: Final = Gauge("k2_canary_gaps_seen", "Those of them that the ledger has as missing.")

VERDICT: Final = Gauge("k2_verdict", "1 for the verdict of `k2 status`, 0 for all others; at `k2 serve`.", ["verdict"])
VERDICT_REASONS: Final = Gauge("k2_verdict_reasons", "Reasons of the verdict, by cause; at `k2 serve`.", ["cause"])
UNREAD_MESSAGES: Final = Gauge(
    "k2_unread_messages",
    "Messages after the committed offset, by the broker; at `k2 serve`, also while the job is stopped.",
    ["topic", "partition"],
)
GAP_DEADLINE: Final = Gauge(
    "k2_gap_fillable_until_timestamp_seconds",
    "Earliest time after which an open gap cannot be filled any more; +Inf if none is known. At `k2 serve`.",
    ["exchange"],
)
QUERIES: Final = Counter(
    "k2_queries", "Queries by result; at `k2 serve`. A scrape of its metrics is a query.", ["result"]
)


def create_job_series() -> None:
    """Create the job's series whose labels are a closed set, at 0.

    Prometheus does not count the first increment of a series that begins with it.
    """
    for result in ("landed", "failed"):
        COMMITS.labels(result)
    for reason in Reason:
        DEAD_LETTERS.labels(str(reason))
