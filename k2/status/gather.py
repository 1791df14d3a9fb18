"""Gather evidence: from commits, files, settings and the broker."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from pyiceberg.table import Table

from k2.kafka.config import bootstrap_servers, find_topic_ids, names_servers
from k2.kafka.unread import find_ends, partitions_of_topics
from k2.model.canary import is_left_out
from k2.model.dead_letter import Coordinates, DeadLetter
from k2.model.errors import SettingsError, UnreachableError
from k2.model.partition_starts import PartitionStarts
from k2.model.progress import Counts, Progress, TopicPartition
from k2.ops.settings import Settings
from k2.query.conflicts import conflicts_by_span
from k2.query.gaps import Gap
from k2.query.parameters import QueryParameters
from k2.query.partition_progress import PartitionState
from k2.status.evidence import BrokerState, MissingNumbers, TopicRejections
from k2.storage.commit_log import Commit
from k2.storage.dead_letters.files import DeadLetterFolder, Position, newest_lines
from k2.storage.dead_letters.rejections import CommonError, Rejections
from k2.storage.table_properties import TOPIC_IDS

__all__ = [
    "PATIENCE_SECONDS_MIN",
    "common_errors",
    "configured_servers",
    "conflicts_by_symbol",
    "full_folders",
    "is_full",
    "is_left_out_gap",
    "lag_at_commit",
    "missing_numbers",
    "partition_rates",
    "patience_seconds",
    "read_broker",
    "recent_commits",
    "topic_rejections",
    "total_rows",
]

PATIENCE_SECONDS_MIN: Final = 20.0
PATIENCE_SECONDS_MAX: Final = 600.0
PATIENCE_INTERVALS: Final = 2.5
"""A commit is overdue after this number of the usual intervals between two commits."""
RECENT_SECONDS: Final = 300
COMMITS_READ_MAX: Final = 64
FREE_BYTES_MIN: Final = 16 * 1024 * 1024
FREE_SHARE_MIN: Final = 0.02
DEAD_LETTERS_READ_MAX: Final = 2_000


def patience_seconds(commits: Sequence[Commit]) -> float:
    """Return after how many seconds a commit is overdue.

    While messages come, commits are an epoch apart; pauses only lengthen some of the intervals, so a short one of
    them is taken.
    """
    last: dict[str | None, int] = {}
    intervals = []
    for commit in commits[-COMMITS_READ_MAX:]:
        if commit.writer in last:
            intervals.append((commit.committed_at - last[commit.writer]) / 1_000_000)
        last[commit.writer] = commit.committed_at
    usual = sorted(intervals)[len(intervals) // 4] if intervals else 0.0
    return min(PATIENCE_SECONDS_MAX, max(PATIENCE_SECONDS_MIN, PATIENCE_INTERVALS * usual))


def configured_servers(settings: Settings) -> str | None:
    """Return the bootstrap servers; None if none are configured."""
    return bootstrap_servers(settings) if names_servers(settings) else None


def read_broker(
    settings: Settings, states: Iterable[PartitionState], table: Table, starts: PartitionStarts
) -> BrokerState:
    """Ask the broker for the ends of the configured topics, or of those in the table if no topics are configured.

    `table` has the ids of topics when they were first read. `starts` is where `K2_START` began partitions: before it,
    nothing is unread.
    A broker that does not answer, or a property that librdkafka rejects, is the error of the result.

    Raises:
        SettingsError: the file of Kafka properties cannot be read.
    """
    servers = configured_servers(settings)
    if servers is None:
        return BrokerState(None)
    offsets: dict[TopicPartition, int | None] = {TopicPartition(one.topic, one.partition): one.offset for one in states}
    is_configured = "topics" in settings.model_fields_set
    topics = {topic for topic, _ in settings.topics} if is_configured else {one.topic for one in offsets}
    topic_ids = TOPIC_IDS.read(table.metadata.properties)
    try:
        found = partitions_of_topics(settings, sorted(topics))
        begun = {one: start.offset for one, start in starts.items()} | offsets
        asked = {one: begun.get(one) for partitions in found.values() for one in partitions}
        ends = find_ends(settings, asked)
    except (UnreachableError, SettingsError) as error:
        return BrokerState(servers, error=str(error))
    return BrokerState(
        servers,
        ends=ends,
        absent_topics=tuple(topic for topic in found if not found[topic]),
        recreated_topics=_recreated_topics(
            settings, {topic: topic_ids[topic] for topic in found if topic in topic_ids}
        ),
        lost_partitions=tuple(sorted(one for one in offsets if found.get(one.topic) and one not in asked)),
    )


def _recreated_topics(settings: Settings, known: Mapping[str, str]) -> tuple[str, ...]:
    """Return the topics that have another id now; none if the broker does not tell ids."""
    with suppress(KafkaException, TimeoutError):
        found = find_topic_ids(settings, known)
        return tuple(topic for topic in sorted(known) if found[topic] != known[topic])
    return ()


def lag_at_commit(commits: Sequence[Commit]) -> int | None:
    """Return what was unread at the newest commit of each recent writer; None if one of them does not say."""
    last = {commit.writer: commit.lag for commit in recent_commits(commits)}
    lags = [lag for lag in last.values() if lag is not None]
    return max(lags) if lags and len(lags) == len(last) else None


def recent_commits(commits: Sequence[Commit]) -> Sequence[Commit]:
    """Return the newest commits with rows or counts, of five minutes at most."""
    moved = [one for one in commits if one.partitions]
    since = moved[-1].committed_at - RECENT_SECONDS * 1_000_000 if moved else 0
    return [one for one in moved if one.committed_at >= since][-COMMITS_READ_MAX:]


def partition_rates(commits: Sequence[Commit]) -> Mapping[TopicPartition, float]:
    """Return the rate of each partition that the newest commits advanced; one commit alone has no duration."""
    recent = recent_commits(commits)
    if len(recent) < 2:
        return {}
    seconds = (recent[-1].committed_at - recent[0].committed_at) / 1_000_000
    received: defaultdict[TopicPartition, int] = defaultdict(int)
    # What the first of them received arrived before the interval.
    for commit in recent[1:]:
        for move in commit.partitions:
            received[TopicPartition(move.topic, move.partition)] += move.received
    return {one: count / seconds for one, count in received.items() if count} if seconds > 0 else {}


def topic_rejections(
    recorded: Progress,
    commits: Sequence[Commit],
    errors: Mapping[str, CommonError],
    replayed: Iterable[Coordinates] = (),
) -> tuple[TopicRejections, ...]:
    """Return the dead letters of each topic that has any; `errors` has the commonest error of topics."""
    replays = Counter(letter.topic for letter in replayed)
    total: defaultdict[str, Counts] = defaultdict(Counts)
    for partition in recorded.partitions():
        total[partition.topic] += recorded.counts(partition)
    return tuple(
        TopicRejections(topic, _recent_counts(commits, topic), counts, errors.get(topic), replays[topic])
        for topic, counts in sorted(total.items())
        if counts.dead_letters
    )


def _recent_counts(commits: Sequence[Commit], topic: str) -> Counts:
    moves = [(one.committed_at, move) for one in commits for move in one.partitions if move.topic == topic]
    since = moves[-1][0] - RECENT_SECONDS * 1_000_000 if moves else 0
    return sum(
        (
            Counts(move.received, move.stored, move.duplicates, move.dead_letters, move.skipped, move.corrections)
            for committed_at, move in moves
            if committed_at >= since
        ),
        Counts(),
    )


def common_errors(
    folder: DeadLetterFolder, positions: Iterable[Mapping[str, Position]], replayed: Container[Coordinates] = ()
) -> Mapping[str, CommonError]:
    """Return the commonest error of each topic among the newest dead letters of the recorded series.

    Those that were replayed are left out. There is none if they cannot be read.
    """
    found: defaultdict[str, Rejections] = defaultdict(Rejections)
    with suppress(OSError):
        for line in newest_lines(folder, DEAD_LETTERS_READ_MAX, {series for one in positions for series in one}):
            with suppress(ValueError):
                dead_letter = DeadLetter.parse(line)
                if dead_letter.coordinates not in replayed:
                    found[dead_letter.topic].add([dead_letter])
    errors = ((topic, rejections.commonest_error()) for topic, rejections in found.items())
    return {topic: error for topic, error in errors if error is not None}


def total_rows(table: Table) -> int | None:
    """Return the number of rows by the summary of the current snapshot; None if it does not say."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return 0
    summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
    deletes = int(summary.get("total-position-deletes", 0)) + int(summary.get("total-equality-deletes", 0))
    rows = summary.get("total-records")
    return None if rows is None or deletes else int(rows)


def missing_numbers(found: Sequence[Gap]) -> MissingNumbers | None:
    """Return the sum of the open gaps; None if there is none."""
    if not found:
        return None
    largest = max(found, key=lambda gap: gap.missing)
    return MissingNumbers(
        sum(gap.missing for gap in found),
        len(found),
        len({(gap.exchange, gap.symbol) for gap in found}),
        min(gap.opened_at for gap in found),
        max(gap.opened_at for gap in found),
        f"{largest.exchange} {largest.symbol} {largest.first_sequence}-{largest.last_sequence}",
    )


def is_left_out_gap(gap: Gap, canary_exchange: str) -> bool:
    """Return whether a gap is a number that the canary leaves out on purpose."""
    return gap.exchange == canary_exchange and gap.missing == 1 and is_left_out(gap.first_sequence)


def conflicts_by_symbol(settings: Settings, table: Table) -> Mapping[str, int]:
    """Return the number of conflicts by `EXCHANGE SYMBOL`, the most first."""
    found: defaultdict[str, int] = defaultdict(int)
    for row in conflicts_by_span(settings, table, QueryParameters(), timedelta(days=1)).to_pylist():
        found[f"{row['exchange']} {row['symbol']}"] += row["conflicts"]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def full_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders of the job on this machine whose disk is full."""
    folders = {settings.data_dir, settings.data_dir / "warehouse"}
    if settings.dead_letter_address is None:
        folders.add(settings.dead_letter_folder)
    return tuple(sorted(folder for folder in folders if folder.is_dir() and is_full(folder)))


def is_full(folder: Path) -> bool:
    """Return whether the disk of a folder is full, or nearly so."""
    disk = shutil.disk_usage(folder)
    return disk.free < min(FREE_BYTES_MIN, FREE_SHARE_MIN * disk.total)
