"""Rules about lag: which partitions are behind, and whether the job moves at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from k2.kafka.unread import PartitionEnd
from k2.model.progress import TopicPartition
from k2.model.wording import format_count
from k2.query.partition_progress import PartitionState
from k2.status.evidence import Evidence
from k2.status.findings import Cause, Finding, Verdict
from k2.status.wording import age, duration, moment, names

__all__ = ["find_lag", "is_catching_up", "is_read_until", "partition_verdict"]


@dataclass(frozen=True, slots=True)
class _Lagging:
    """A partition with unread messages."""

    name: TopicPartition
    end: PartitionEnd
    is_waiting: bool
    """Whether its oldest unread message has been waiting for longer than the usual time between two commits."""
    is_overdue: bool
    """Whether that is so, and the partition has not advanced for as long."""
    seconds_to_read: float | None
    """At the present rate; None if the partition does not advance."""


def partition_verdict(evidence: Evidence, partition: TopicPartition) -> Verdict:
    """Return the verdict of one partition, by its lag alone: stopped if it does not advance."""
    end = evidence.broker.ends.get(partition)
    if end is None:
        return Verdict.UNKNOWN
    if end.first_offset is not None:
        return Verdict.STOPPED
    lagging = next((one for one in _lagging(evidence) if one.name == partition), None)
    if lagging is None:
        return Verdict.COMPLETE
    if lagging.is_overdue:
        return Verdict.STOPPED
    return Verdict.BEHIND if _is_behind(evidence, lagging) else Verdict.COMPLETE


def is_read_until(evidence: Evidence, time: datetime) -> bool | None:
    """Return whether all messages with an earlier Kafka timestamp are committed; None if that is not known.

    Without the broker it is known only if each partition has newer trades.
    """
    broker = evidence.broker
    if not broker.is_known:
        newest = [state.kafka_timestamp for state in evidence.states]
        return True if newest and all(one is not None and one >= time for one in newest) else None
    if any(end.first_offset is not None for end in broker.ends.values()):
        return False
    oldest = [end.oldest_unread for end in broker.ends.values() if end.unread or end.held_back]
    if any(one is not None and one < time for one in oldest):
        return False
    return None if None in oldest else True


def find_lag(evidence: Evidence) -> Iterator[Finding]:
    """Yield that the job is stopped, that some partitions are stuck, or that it is too slow."""
    lagging = _lagging(evidence)
    overdue = [one for one in lagging if one.is_overdue]
    if overdue and not _is_moving(evidence):
        since = "" if evidence.last_commit_at is None else f" for {age(evidence.now, evidence.last_commit_at)}"
        yield Finding.of(
            Cause.JOB_STOPPED,
            f"nothing has been committed{since}, while {_messages(overdue)} unread{_waiting_since(overdue)}",
            "the job does not run, or cannot commit: read the end of its log, and start it again",
        )
    elif overdue:
        yield Finding.of(
            Cause.PARTITION_STUCK,
            f"{names([str(one.name) for one in overdue])} {'does' if len(overdue) == 1 else 'do'} not advance while "
            f"others do; {_messages(overdue)} unread{_waiting_since(overdue)}",
            "check that all processes of the job are running, and that the leader of the partition is reachable",
        )
    yield from _open_transactions(evidence)
    behind = [one for one in lagging if not one.is_overdue and _is_behind(evidence, one)]
    if behind:
        seconds = max(one.seconds_to_read or 0.0 for one in behind)
        yield Finding.of(
            Cause.JOB_BEHIND,
            f"{_messages(behind)} unread; at the present rate they take {duration(seconds)}",
            "wait; if the lag keeps growing, give the job more workers",
        )


def _open_transactions(evidence: Evidence) -> Iterator[Finding]:
    held = {
        partition: end.held_back
        for partition, end in sorted(evidence.broker.ends.items())
        if end.held_back and not end.unread and _is_waiting(evidence, partition)
    }
    if held:
        verb = "waits" if sum(held.values()) == 1 else "wait"
        yield Finding.of(
            Cause.TRANSACTION_OPEN,
            f"{format_count(sum(held.values()), 'message')} of {names([*map(str, held)])} {verb} for the end of a "
            "transaction",
            "the job reads on once its producer commits or aborts; kafka-transactions.sh finds and aborts hanging ones",
        )


def _lagging(evidence: Evidence) -> list[_Lagging]:
    """Return the partitions with unread messages."""
    states = {TopicPartition(state.topic, state.partition): state for state in evidence.states}
    return [
        _Lagging(
            partition,
            end,
            _is_waiting(evidence, partition),
            _is_waiting(evidence, partition) and not _has_advanced(evidence, states.get(partition)),
            end.unread / rate if (rate := evidence.messages_per_second.get(partition)) else None,
        )
        for partition, end in sorted(evidence.broker.ends.items())
        if end.unread > 0 and end.first_offset is None
    ]


def _is_waiting(evidence: Evidence, partition: TopicPartition) -> bool:
    since = evidence.waiting_since[partition]
    return (evidence.now - since).total_seconds() > evidence.patience_seconds


def _has_advanced(evidence: Evidence, state: PartitionState | None) -> bool:
    committed_at = None if state is None else state.committed_at
    return committed_at is not None and (evidence.now - committed_at).total_seconds() <= evidence.patience_seconds


def _is_moving(evidence: Evidence) -> bool:
    last = evidence.last_commit_at
    return last is not None and (evidence.now - last).total_seconds() <= evidence.patience_seconds


def _is_behind(evidence: Evidence, lagging: _Lagging) -> bool:
    # After a quiet hour the rate says little of how fast a burst is read, so the burst must have waited as well.
    seconds = lagging.seconds_to_read
    return lagging.is_waiting and seconds is not None and seconds > evidence.patience_seconds


def is_catching_up(evidence: Evidence) -> bool:
    """Return whether a partition is behind, so that partitions may be at different times of their feeds."""
    return any(one.is_overdue or _is_behind(evidence, one) for one in _lagging(evidence))


def _messages(lagging: Sequence[_Lagging]) -> str:
    unread = sum(one.end.unread for one in lagging)
    verb = "is" if unread == 1 else "are"
    return f"{format_count(unread, 'message')} of {format_count(len(lagging), 'partition')} {verb}"


def _waiting_since(lagging: Sequence[_Lagging]) -> str:
    times = [one.end.oldest_unread for one in lagging if one.end.oldest_unread is not None]
    return f", the oldest of {moment(min(times))}" if times else ""
