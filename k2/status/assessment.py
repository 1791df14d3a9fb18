"""The rules of the status: from the evidence to findings with a sentence for each, the worst first."""

from collections.abc import Iterator
from typing import Final

from k2.model.progress import TopicPartition
from k2.model.wording import format_count
from k2.status.evidence import Evidence, TopicRejections
from k2.status.findings import SEVERITY, Cause, Finding
from k2.status.lag import find_lag, is_catching_up
from k2.status.wording import age, duration, moment, names

__all__ = ["assess"]

ANOTHER_TOPIC: Final = "set another topic in K2_TOPICS, or another K2_NAMESPACE"
REJECTED_SHARE_MIN: Final = 0.01
"""Share of dead letters among the messages of a topic below which they count as the usual noise of a feed."""


def assess(evidence: Evidence) -> list[Finding]:
    """Return the reasons why the capture is not complete, the worst first; an empty list if it is."""
    found = [
        *_find_full_disks(evidence),
        *_find_lost_offsets(evidence),
        *_find_recreated_topics(evidence),
        *find_lag(evidence),
        *_find_broker_faults(evidence),
        *_find_rejections(evidence),
        *_find_lost_or_added_rows(evidence),
        *_find_doubtful_numbers(evidence),
        *_find_feed_faults(evidence),
        *_find_nothing_stored(evidence),
    ]
    return sorted(found, key=lambda finding: SEVERITY[finding.cause])


def _find_full_disks(evidence: Evidence) -> Iterator[Finding]:
    for folder in evidence.full_folders:
        yield Finding.of(
            Cause.DISK_FULL,
            f"the disk of {folder} is full, so the job cannot write there",
            "free space, then start the job again if it has ended",
        )


def _find_lost_offsets(evidence: Evidence) -> Iterator[Finding]:
    for partition, end in sorted(evidence.broker.ends.items()):
        # The offsets of a topic that was created again say nothing.
        if end.first_offset is None or partition.topic in evidence.broker.recreated_topics:
            continue
        offset = _offset_of(evidence, partition)
        if offset < end.first_offset:
            yield Finding.of(
                Cause.OFFSET_GONE,
                f"{partition} begins at offset {end.first_offset:,}, but {offset:,} is to be read next: "
                "messages have expired unread",
                f"if no other copy exists, abandon them: k2 recovery skip {partition} --yes",
            )
        else:
            yield Finding.of(
                Cause.OFFSET_GONE,
                f"{partition} ends at offset {end.end_offset:,}, but was read to {offset:,}: the topic was recreated, "
                "or lost data",
                ANOTHER_TOPIC,
            )


def _find_recreated_topics(evidence: Evidence) -> Iterator[Finding]:
    recreated = evidence.broker.recreated_topics
    for topic in recreated:
        sentence = f"topic {topic} was deleted and created again since it was first read"
        yield Finding.of(Cause.OFFSET_GONE, sentence, ANOTHER_TOPIC)
    for partition in evidence.broker.lost_partitions:
        if partition.topic not in recreated:
            sentence = f"{partition} was read before, and its topic no longer has it"
            yield Finding.of(Cause.OFFSET_GONE, sentence, ANOTHER_TOPIC)


def _find_broker_faults(evidence: Evidence) -> Iterator[Finding]:
    broker = evidence.broker
    if broker.servers is None:
        yield Finding.of(
            Cause.BROKER_NOT_ASKED,
            "whether messages are unread is not known: K2_BOOTSTRAP_SERVERS is not set here",
            "set K2_BOOTSTRAP_SERVERS, and K2_KAFKA_CONFIG if the broker needs a login",
        )
    elif broker.error is not None:
        yield Finding.of(
            Cause.BROKER_UNREACHABLE,
            f"whether messages are unread is not known: {broker.error}",
            "check the broker, the network to it, and K2_BOOTSTRAP_SERVERS",
        )
    for topic in broker.absent_topics:
        yield Finding.of(
            Cause.TOPIC_ABSENT,
            f"topic {topic} does not exist at {broker.servers}",
            "create it, or correct K2_TOPICS",
        )


def _find_rejections(evidence: Evidence) -> Iterator[Finding]:
    for one in evidence.rejections:
        recent, total = one.recent, one.total
        if _share(one.waiting, total.received) < REJECTED_SHARE_MIN and (
            _share(one.waiting_recently, recent.received) < REJECTED_SHARE_MIN
        ):
            continue
        ongoing = (
            f"{one.waiting_recently:,} of the last {recent.received:,} messages of topic {one.topic} were not stored"
            if one.waiting_recently
            else f"none of the last {recent.received:,} messages of topic {one.topic} is among them"
        )
        yield Finding.of(
            Cause.MESSAGES_REJECTED,
            (
                f"{ongoing} ({one.waiting:,} of {total.received:,} in all)"
                if one.waiting_recently
                else f"{one.waiting:,} of {total.received:,} messages of topic {one.topic} were not stored; {ongoing}"
            )
            + _commonest(one),
            _inspect(one),
        )


def _commonest(one: TopicRejections) -> str:
    if one.common is None:
        return ""
    example = one.common.example
    return f"; most often as {example.reason}, venue {example.venue}: {example.error}"


def _inspect(one: TopicRejections) -> str:
    if one.common is None:
        return "k2 dlq stats --by error"
    place = one.common.example.coordinates
    return (
        f"k2 dlq show {place.topic} {place.partition} {place.offset} shows an example; check the feed, and the venue "
        f"of topic {one.topic} in K2_TOPICS"
    )


def _find_lost_or_added_rows(evidence: Evidence) -> Iterator[Finding]:
    rows, removed = evidence.stored.rows, evidence.stored.removed
    stored = sum(state.stored for state in evidence.states)
    expected = stored - removed
    removed_text = f", and {removed:,} were removed by k2 maintain retain" if removed else ""
    if rows is not None and rows < expected:
        yield Finding.of(
            Cause.ROWS_LOST,
            f"the table has {rows:,} rows, but the job stored {stored:,}{removed_text}",
            "k2 reconcile names the partitions; k2 audit lists the commits",
        )
    if rows is None and expected:
        yield Finding.of(
            Cause.ROWS_UNKNOWN,
            "the rows of the table cannot be counted by its metadata: another writer left delete files, or no totals",
            "rewrite the data files so that no delete file is left; then k2 reconcile counts the rows",
        )
    if rows is not None and rows > expected:
        yield Finding.of(
            Cause.ROWS_ADDED,
            f"the table has {rows:,} rows, but the job stored {stored:,}{removed_text}: another writer added rows",
            "k2 reconcile names the partitions; k2 audit lists the commits of the job",
        )
    if evidence.stored.is_ledger_lost:
        yield Finding.of(
            Cause.LEDGER_LOST,
            "which numbers are missing is not known: the ledger is gone, or is not that of these trades",
            "start the job, which makes the ledger again from the trades",
        )
    if evidence.stored.lost_files:
        yield Finding.of(
            Cause.DEAD_LETTERS_LOST,
            f"dead letters are gone: {names(evidence.stored.lost_files)} "
            f"{'is' if len(evidence.stored.lost_files) == 1 else 'are'} absent, unreadable or shorter than recorded",
            "set K2_DLQ_DIR to the folder of the job, or restore the files",
        )


def _find_doubtful_numbers(evidence: Evidence) -> Iterator[Finding]:
    missing = evidence.missing
    if missing is not None:
        when = (
            f"found {age(evidence.now, missing.last_opened)} ago"
            if missing.ranges == 1
            else f"the first found {age(evidence.now, missing.first_opened)} ago, the last "
            f"{age(evidence.now, missing.last_opened)} ago"
        )
        yield Finding.of(
            Cause.NUMBERS_MISSING,
            f"{format_count(missing.numbers, 'sequence number')} of {format_count(missing.symbols, 'symbol')} "
            f"{'is' if missing.numbers == 1 else 'are'} missing in {format_count(missing.ranges, 'range')}, {when}; "
            f"the largest is {missing.largest}",
            "k2 gaps lists the ranges; late trades fill them, and dead letters may be among the missing trades; "
            "k2 gaps --export plans the requests of what the venues still have, and k2 backfill publishes it",
        )
    if evidence.conflicts:
        yield Finding.of(
            Cause.CONFLICTS,
            f"{format_count(evidence.conflicts, 'trade')} "
            f"{'contradicts a stored trade' if evidence.conflicts == 1 else 'contradict stored trades'} of "
            f"{names(evidence.conflicting_symbols)}",
            "k2 dlq list --reason conflict shows both versions",
        )


def _find_feed_faults(evidence: Evidence) -> Iterator[Finding]:
    for one in evidence.dated_ahead:
        yield Finding.of(
            Cause.DATED_AHEAD,
            f"{format_count(one.trades, 'new trade')} of {one.exchange} "
            f"{'is' if one.trades == 1 else 'are'} dated up to {duration(one.seconds)} ahead of Kafka's time",
            "compare the clock of the venue's feed with that of its producer",
        )
    # While the job catches up, its partitions are at different times.
    if evidence.broker.is_known and not is_catching_up(evidence):
        for feed in evidence.silent:
            yield Finding.of(
                Cause.SYMBOLS_SILENT,
                f"{len(feed.silent)} of {feed.steady} steady symbols of {feed.exchange} have no trade since "
                f"{moment(feed.since)}, while others trade: {names(feed.silent)}",
                "check the collector's subscriptions, then the venue",
            )


def _find_nothing_stored(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.states:
        yield Finding.of(
            Cause.NOTHING_STORED,
            "the job has committed nothing yet",
            "start the job; it commits about every 10 seconds",
        )


def _offset_of(evidence: Evidence, partition: TopicPartition) -> int:
    """Return the offset from which a partition was looked at: the next to read, or where it was begun."""
    offsets = {TopicPartition(state.topic, state.partition): state.offset for state in evidence.states}
    return offsets[partition] if partition in offsets else evidence.starts[partition].offset


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
