"""Checks of the broker and of the topics in `K2_TOPICS`, also against the progress of the table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from k2.doctor import topics as rules
from k2.doctor.findings import Finding, NotCheckedError, Shared, State, failed, ok, unknown
from k2.doctor.schema_registry import schema_fits
from k2.kafka.config import bootstrap_servers, cluster_metadata, existing_partitions, find_topic_ids
from k2.kafka.offset_resolution import (
    KnownOffsets,
    Watermarks,
    check_topic_ids,
    resolve_start_offset,
    unconfigured_partitions,
)
from k2.kafka.topic_facts import NewestMessages, broker_config, read_newest, topic_config
from k2.kafka.unread import PartitionEnd, find_ends
from k2.model.errors import OffsetError
from k2.model.partition_starts import EARLIEST, PartitionStarts, left_out_text
from k2.model.progress import Progress, TopicPartition
from k2.model.wording import format_count
from k2.ops.settings import Settings, TopicVenue

if TYPE_CHECKING:
    from confluent_kafka.admin._metadata import ClusterMetadata

__all__ = ["Tables", "check_broker", "check_offsets", "check_topic", "offset_problem"]

ANSWER_SECONDS_MAX: Final = 10.0
VERSION_PROPERTY: Final = "inter.broker.protocol.version"
"""Brokers up to Kafka 3 have it; those of Kafka 4 return no version."""


@dataclass(frozen=True)
class Tables:
    """What the tables say of topics; empty if the job has never run."""

    progress: Progress
    topic_ids: Mapping[str, str]
    starts: PartitionStarts = field(default_factory=dict)
    """Where `K2_START` began partitions."""


def check_broker(settings: Settings, shared: Shared["ClusterMetadata"]) -> Iterator[Finding]:
    """Ask the broker for its topics, and for its version.

    Raises:
        UnreachableError: no broker answers; the message says whether the address, TLS or SASL is the cause.
        SettingsError: librdkafka rejects the configuration.
    """
    cluster = cluster_metadata(settings, ANSWER_SECONDS_MAX)
    shared.set(cluster)
    yield ok("broker", f"{format_count(len(cluster.brokers), 'broker')} at {bootstrap_servers(settings)}")
    try:
        version = broker_config(settings, min(cluster.brokers)).get(VERSION_PROPERTY)
    except (KafkaException, TimeoutError, ValueError):
        version = None
    if version is None:
        yield unknown("broker version", "the broker does not return its version; topic ids and leader epochs are below")
    else:
        yield ok("broker version", f"{VERSION_PROPERTY} is {version}")


def check_topic(
    settings: Settings, topic: TopicVenue, shared: Shared["ClusterMetadata"], tables: Shared[Tables]
) -> Iterator[Finding]:
    """Check that a topic exists and can be read, and that messages do not vanish before they are committed.

    Raises:
        SettingsError: the topic does not exist.
        UnreachableError: the broker does not describe the topic, or its partitions do not answer.
    """
    name, cluster = topic.topic, shared.get()
    partitions = existing_partitions(settings, cluster, name)
    described = cluster.topics[name].partitions
    finding = rules.topic_exists(name, topic.venue, {number: one.leader for number, one in described.items()})
    yield finding
    if finding.state is State.FAILED:
        return
    newest = read_newest(settings, partitions)
    values = [value for one in newest.values() for value in one.values]
    yield from rules.venue_fits(name, topic.venue, values, settings.time_ahead_seconds_max)
    yield from rules.drift(name, topic.venue, values)
    yield from schema_fits(name, topic.venue, values)
    yield from rules.keys(name, newest)
    yield from rules.clock(name, newest.values(), datetime.now(UTC))
    yield from rules.epochs(name, _topic_id(settings, name), newest)
    yield from _configuration(settings, name, newest, [len(one.replicas) for one in described.values()], tables)


def _topic_id(settings: Settings, topic: str) -> str | None:
    try:
        return find_topic_ids(settings, [topic])[topic]
    except (KafkaException, TimeoutError):
        return None


def _configuration(
    settings: Settings,
    topic: str,
    newest: Mapping[TopicPartition, NewestMessages],
    replicas: list[int],
    tables: Shared[Tables],
) -> Iterator[Finding]:
    try:
        config = topic_config(settings, topic)
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
        text = f"the broker does not return the configuration ({reason}); grant DescribeConfigs on the topic"
        yield unknown(f"topic {topic} configuration", text)
        return
    yield from rules.cleanup(topic, config)
    yield from rules.replicas(topic, config, replicas)
    logs = {} if int(config.get("retention.bytes", -1)) < 0 else find_ends(settings, dict.fromkeys(newest))
    yield from rules.retention_bytes(topic, config, logs, newest)
    try:
        progress = tables.get().progress
    except NotCheckedError as error:
        yield unknown(f"topic {topic} retention", str(error))
        return
    # What was never committed of a partition may expire: it is read from the first message that there is.
    offsets = {one: progress.next_offset(one, progress.writers) for one in newest if progress.start(one) is not None}
    yield from rules.retention(topic, config, find_ends(settings, offsets), datetime.now(UTC))


def check_offsets(settings: Settings, shared: Shared["ClusterMetadata"], tables: Shared[Tables]) -> Iterator[Finding]:
    """Check that the topics still have what the table's progress is to be continued from."""
    check, known, cluster = "progress", tables.get(), shared.get()
    progress = known.progress
    if not progress.partitions():
        yield ok(check, f"nothing is committed yet, so the topics are read from {_first_start(settings, known.starts)}")
        return
    topics = [topic for topic, _ in settings.topics if topic in cluster.topics]
    found = {one for topic in topics for one in existing_partitions(settings, cluster, topic)}
    configured = [one for one in progress.partitions() if one.topic in topics]
    problems = [*_identity_problems(settings, known, found, topics)]
    ends = find_ends(settings, {one: progress.next_offset(one, progress.writers) for one in configured if one in found})
    problems += [text for one, end in ends.items() if (text := offset_problem(one, progress, end))]
    for text in problems:
        yield failed(check, text)
    if not problems:
        unread = sum(end.unread for end in ends.values())
        yield ok(
            check,
            f"{format_count(len(ends), 'partition')} can be continued, {format_count(unread, 'message')} unread"
            f"{_left_out(known.starts)}",
        )


def _first_start(settings: Settings, starts: PartitionStarts) -> str:
    if starts:
        return f"where they were begun{_left_out(starts)}"
    return "their first messages" if settings.start == EARLIEST else f"K2_START={settings.start}"


def _left_out(starts: PartitionStarts) -> str:
    """Return the part of the sentence that says what was left out on purpose; empty if nothing was."""
    text = left_out_text(starts)
    return f"; left out at the start: {text}" if text else ""


def _identity_problems(
    settings: Settings, known: Tables, found: set[TopicPartition], topics: list[str]
) -> Iterator[str]:
    try:
        if topics:
            unconfigured_partitions(known.progress.partitions(), found, topics)
    except OffsetError as error:
        yield str(error)
    ids = {topic: topic_id for topic in topics if (topic_id := _topic_id(settings, topic)) is not None}
    try:
        check_topic_ids(known.topic_ids, ids)
    except OffsetError as error:
        yield str(error)


def offset_problem(where: TopicPartition, progress: Progress, end: PartitionEnd) -> str | None:
    """Return why a partition cannot be continued, with the number of lost messages; None if it can."""
    offset, furthest = progress.next_offset(where, progress.writers), progress.furthest(where)
    assert offset is not None
    assert furthest is not None
    low = offset if end.first_offset is None else end.first_offset
    try:
        known = KnownOffsets(None, offset, progress.start(where), furthest.offset)
        resolve_start_offset(where, known, Watermarks(low, end.end_offset))
    except OffsetError as error:
        lost = max(0, low - offset) or furthest.offset - end.end_offset
        return f"{format_count(lost, 'message')} lost: {error}"
    return None
