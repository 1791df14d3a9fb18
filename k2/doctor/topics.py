"""Rules about topics: what their configuration and newest messages mean for a job that must lose nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from k2.doctor.findings import Finding, failed, ok, unknown, warning
from k2.kafka.topic_facts import NewestMessages
from k2.kafka.unread import PartitionEnd
from k2.model.progress import TopicPartition
from k2.model.wording import format_count
from k2.status.wording import duration, names
from k2.venues import VENUES
from k2.venues.samples import decode_sample, fitting_venue

__all__ = [
    "cleanup",
    "clock",
    "drift",
    "epochs",
    "keys",
    "replicas",
    "retention",
    "retention_bytes",
    "topic_exists",
    "venue_fits",
]

OUTAGE: Final = timedelta(days=3)
"""A long outage: a job that stops on a Friday evening is started again on Monday."""
EXPIRING_SHARE: Final = 0.5
"""Share of the retention from which on the age of an uncommitted message is a warning."""
AHEAD_SECONDS_MAX: Final = 5.0
SHOWN_MAX: Final = 3
_UNLIMITED: Final = -1


def keys(topic: str, newest: Mapping[TopicPartition, NewestMessages]) -> Iterator[Finding]:
    """Yield whether the newest messages have keys: without, the trades of a symbol are in several partitions."""
    check = f"topic {topic} keys"
    count = sum(one.count for one in newest.values())
    without = sum(one.without_key for one in newest.values())
    if count == 0:
        yield unknown(check, "the topic has no messages yet")
    elif without:
        yield warning(
            check,
            f"{without:,} of the newest {count:,} messages have no key, so trades of a symbol can come out of order; "
            "let the producer use `exchange|symbol` as the key",
        )
    else:
        yield ok(check, f"{format_count(count, 'newest message')} read, each with a key")


def venue_fits(topic: str, venue: str, values: Sequence[bytes], time_ahead_seconds_max: int) -> Iterator[Finding]:
    """Yield whether the venue can read the newest messages; nothing without messages."""
    check = f"topic {topic} venue"
    if not values:
        return
    rejected = decode_sample(topic, venue, values, time_ahead_seconds_max).rejected
    count = f"{len(rejected):,} of the newest {format_count(len(values), 'message')}"
    if not rejected:
        yield ok(check, f"{format_count(len(values), 'newest message')} read, none rejected by venue {venue}")
    elif 2 * len(rejected) <= len(values):
        yield warning(check, f"venue {venue} rejects {count}; see `k2 dlq stats --by error`")
    else:
        fitting = fitting_venue(topic, venue, values, time_ahead_seconds_max)
        advice = f"set {topic}={fitting} in K2_TOPICS" if fitting else "correct the venue in K2_TOPICS, or the producer"
        yield failed(check, f"venue {venue} rejects {count}, the first as {rejected[0][1].reason}; {advice}")


def drift(topic: str, venue: str, values: Sequence[bytes]) -> Iterator[Finding]:
    """Yield whether the newest messages have what the venue's table does not know; nothing without messages."""
    check, finder = f"topic {topic} drift", VENUES[venue].drift
    if not values or finder is None:
        return
    found = {one.identity: one for value in values for one in finder.drift(value)}
    if not found:
        yield ok(check, f"{format_count(len(values), 'newest message')} read, all as the table of venue {venue} says")
        return
    shown = [f"{one.change.replace('_', ' ')} {one.path} {one.value}".rstrip() for one in found.values()]
    more = f" and {len(shown) - SHOWN_MAX:,} more" if len(shown) > SHOWN_MAX else ""
    yield warning(
        check,
        f"the table of venue {venue} does not know: {', '.join(shown[:SHOWN_MAX])}{more}; compare it with the venue's "
        "documentation, and extend it (`k2 venues show`)",
    )


def retention(
    topic: str, config: Mapping[str, str], ends: Mapping[TopicPartition, PartitionEnd], now: datetime
) -> Iterator[Finding]:
    """Yield whether uncommitted messages can expire, now or in a long outage. `ends` are seen from the progress."""
    check = f"topic {topic} retention"
    if "retention.ms" not in config:
        yield unknown(check, "the broker does not return retention.ms; ask its operator how long messages are kept")
        return
    milliseconds = int(config["retention.ms"])
    if milliseconds <= _UNLIMITED:
        yield ok(check, "messages do not expire by age")
        return
    kept = timedelta(milliseconds=milliseconds)
    oldest = _oldest(ends)
    if oldest is not None and now - oldest[1] > kept * EXPIRING_SHARE:
        where, time = oldest
        text = (
            f"the oldest uncommitted message of {where} is {duration((now - time).total_seconds())} old, and messages "
            f"are kept for {duration(kept.total_seconds())}; start the job, or raise retention.ms"
        )
        yield failed(check, text) if now - time > kept else warning(check, text)
    elif kept < OUTAGE:
        yield warning(
            check,
            f"messages are kept for {duration(kept.total_seconds())}: a job that is stopped for longer loses some; "
            f"raise retention.ms to {OUTAGE // timedelta(milliseconds=1)} (3 days) or more",
        )
    else:
        yield ok(check, f"messages are kept for {duration(kept.total_seconds())}")


def _oldest(ends: Mapping[TopicPartition, PartitionEnd]) -> tuple[TopicPartition, datetime] | None:
    times = [(where, end.oldest_unread) for where, end in ends.items() if end.oldest_unread is not None]
    return min(times, key=lambda one: one[1], default=None)


def retention_bytes(
    topic: str,
    config: Mapping[str, str],
    logs: Mapping[TopicPartition, PartitionEnd],
    newest: Mapping[TopicPartition, NewestMessages],
) -> Iterator[Finding]:
    """Yield how long the size limit of a partition lasts, by the mean rate of its log; nothing without a limit.

    `logs` are the ends as seen from the first offset of each partition.
    """
    limit = int(config.get("retention.bytes", _UNLIMITED))
    if limit <= _UNLIMITED:
        return
    check = f"topic {topic} retention.bytes"
    lasts = [
        (seconds, where)
        for where, log in logs.items()
        if (seconds := _seconds_of(limit, log, newest.get(where))) is not None
    ]
    if not lasts:
        yield unknown(check, f"a partition keeps {limit:,} bytes; for how long is not known without messages")
        return
    seconds, where = min(lasts)
    text = f"a partition keeps {limit:,} bytes, which {where} reaches in {duration(seconds)} at its mean rate"
    if timedelta(seconds=seconds) < OUTAGE:
        yield warning(check, f"{text}: a job that is stopped for longer loses messages; raise retention.bytes")
    else:
        yield ok(check, text)


def _seconds_of(limit: int, log: PartitionEnd, newest: NewestMessages | None) -> float | None:
    """Return in what time a partition gets as many bytes as its limit; None if its rate is not known."""
    if newest is None or not newest.count or newest.kafka_timestamp_ms is None or log.oldest_unread is None:
        return None
    seconds = newest.kafka_timestamp_ms / 1_000 - log.oldest_unread.timestamp()
    bytes_ = newest.size_bytes / newest.count * log.unread
    return limit / bytes_ * seconds if seconds > 0 and bytes_ > 0 else None


def cleanup(topic: str, config: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether the topic is compacted: then all but the last trade of a key can vanish unread."""
    check = f"topic {topic} cleanup"
    policy = config.get("cleanup.policy")
    if policy is None:
        yield unknown(check, "the broker does not return cleanup.policy")
    elif "compact" in policy:
        yield warning(
            check,
            f"cleanup.policy is {policy}: Kafka deletes all but the newest trade of each key; set it to delete",
        )
    else:
        yield ok(check, f"cleanup.policy is {policy}")


def replicas(topic: str, config: Mapping[str, str], counts: Sequence[int]) -> Iterator[Finding]:
    """Yield whether the topic survives the loss of a broker. `counts` are the replicas of each partition."""
    check = f"topic {topic} replicas"
    if "min.insync.replicas" not in config:
        yield unknown(check, "the broker does not return min.insync.replicas")
        return
    problems = []
    if min(counts) < 2:
        problems.append("a partition has 1 replica, so the loss of a disk loses messages; add replicas")
    elif int(config["min.insync.replicas"]) < 2:
        problems.append("min.insync.replicas is 1, so an acknowledged message can be lost; set it to 2")
    if config.get("unclean.leader.election.enable") == "true":
        problems.append("unclean.leader.election.enable is true, so a log can lose its end; set it to false")
    if problems:
        yield warning(check, "; ".join(problems))
    else:
        yield ok(check, f"{min(counts)} replicas, min.insync.replicas is {config['min.insync.replicas']}")


def epochs(topic: str, topic_id: str | None, newest: Mapping[TopicPartition, NewestMessages]) -> Iterator[Finding]:
    """Yield whether the broker gives what shows that a log was cut, or that a topic was created again."""
    check = f"topic {topic} epochs"
    lacking = [] if topic_id is not None else ["topic ids, which show that a topic was created again"]
    if any(one.without_leader_epoch for one in newest.values()):
        lacking.append("leader epochs, which show that a log was cut")
    if lacking:
        yield warning(check, f"the broker returns no {', and no '.join(lacking)}; use Kafka 2.8 or later")
    elif not any(one.count for one in newest.values()):
        yield ok(check, f"the topic's id is {topic_id}; without a message there is no leader epoch yet")
    else:
        yield ok(check, f"the topic's id is {topic_id}, and its messages have leader epochs")


def clock(topic: str, newest: Iterable[NewestMessages], now: datetime) -> Iterator[Finding]:
    """Yield whether Kafka timestamps are ahead of this machine's clock; Kafka does not tell its time otherwise."""
    check = f"topic {topic} clock"
    times = [one.kafka_timestamp_ms / 1_000 for one in newest if one.kafka_timestamp_ms is not None]
    if not times:
        yield unknown(check, "no message has a Kafka timestamp to compare this machine's clock with")
        return
    ahead = max(times) - now.timestamp()
    time = datetime.fromtimestamp(max(times), UTC)
    if ahead > AHEAD_SECONDS_MAX:
        yield warning(
            check,
            f"the newest Kafka timestamp ({time:%Y-%m-%d %H:%M:%S} UTC) is {duration(ahead)} ahead of this machine's "
            "clock; synchronize the clocks of producers, brokers and this machine",
        )
    else:
        yield ok(
            check, f"the newest Kafka timestamp ({time:%Y-%m-%d %H:%M:%S} UTC) is not ahead of this machine's clock"
        )


def topic_exists(topic: str, venue: str, leaders: Mapping[int, int]) -> Finding:
    """Return whether the topic can be read. `leaders` has the leader of each partition, below 0 if there is none."""
    check = f"topic {topic}"
    leaderless = [f"{topic}:{partition}" for partition, leader in sorted(leaders.items()) if leader < 0]
    if leaderless:
        return failed(check, f"no broker leads {names(leaderless)}; start the brokers that have its replicas")
    return ok(check, f"{format_count(len(leaders), 'partition')}, read as venue {venue}")
