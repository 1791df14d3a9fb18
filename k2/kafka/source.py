"""Columnar Kafka source: one source partition per topic partition, one batch per poll."""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NoReturn

import numpy as np
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from k2.kafka.client import KafkaClient, TopicIds, topic_ids, topic_partitions
from k2.kafka.idle_wait import IdleWait
from k2.kafka.last_messages import check_last_message
from k2.kafka.librdkafka import Fetched
from k2.kafka.offset_resolution import (
    KnownOffsets,
    Origin,
    StartOffset,
    Watermarks,
    resolve_start_offset,
    unconfigured_partitions,
)
from k2.kafka.partition_discovery import OnAdded, PartitionDiscovery
from k2.kafka.reader import Reader, corrupt_batch, to_batch
from k2.kafka.starts import decide_starts
from k2.kafka.topic_watch import TopicWatch
from k2.model.batch import MessageBatch
from k2.model.errors import OffsetError, StateError, UnreachableError
from k2.model.partition_starts import PartitionStarts
from k2.model.progress import Progress, TopicPartition
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.health import Health
from k2.ops.metrics import CONSUMER_LAG, MESSAGES_RECEIVED, WARM_STARTS
from k2.ops.settings import Settings
from k2.venues import VENUES

__all__ = ["KafkaSource"]

FORMAT: Final = 1
FULL_POLL_MESSAGES: Final = 10_000
"""After a poll of fewer messages the source pauses, so that the queue fills and the next poll is larger."""
EPOCHS_TO_COMMIT: Final = 2
"""Bytewax begins an epoch while the sinks still commit the one before; it does not begin a second one."""
PAUSE: Final = timedelta(milliseconds=20)

_LOG = structlog.get_logger()


class KafkaPartition(StatefulSourcePartition[MessageBatch, dict[str, Any]]):
    """Reads one topic partition from an offset to `end`, if given; the snapshot is the offset to read next."""

    def __init__(
        self,
        client: KafkaClient,
        health: Health,
        topic_partition: TopicPartition,
        venue: str,
        offset: int,
        end: int | None,
        watch: TopicWatch,
        idle_wait: IdleWait,
    ) -> None:
        self._watch = watch
        self._client, self._health, self._topic_partition, self._venue = client, health, topic_partition, venue
        self._position, self._end = offset, end
        self._corrupt: OffsetError | None = None
        self._epochs_to_close = 0
        self._is_first = True
        self._next_awake: datetime | None = None
        self._reader: Reader = client.open(topic_partition, offset)
        self._idle_wait = idle_wait
        idle_wait.join(self._reader)
        health.opened(str(topic_partition))
        CONSUMER_LAG.labels(topic_partition.topic, str(topic_partition.partition)).set_function(self.lag)

    def lag(self) -> float:
        """Return the number of messages after those that were read; NaN if unknown."""
        return self._client.lag(self._reader, self._position)

    @reports_errors
    def next_batch(self) -> Iterable[MessageBatch]:
        """Return the messages that have arrived as one batch; no batch if there are none.

        The first batch is empty: it brings the states of all key groups up to date with the table, and the ledger gets
        the events that a crash prevented, even if no new messages arrive.

        Raises:
            StopIteration: `end` is reached.
            OffsetError: the topic was deleted and created again, or the next batch of Kafka is corrupt, and all
                messages before it are committed.
        """
        if self._is_first:
            self._is_first = False
            return (MessageBatch.first(self._topic_partition, self._venue, self._position),)
        if self._end is not None and self._position >= self._end:
            raise StopIteration
        self._watch.raise_error()
        if self._corrupt is not None:
            if self._epochs_to_close <= 0:
                raise self._corrupt
            self._pause()
            return ()
        self._client.serve()
        fetched = self._reader.poll()
        if fetched is None and self._idle_wait.sleep(self._reader):
            fetched = self._reader.poll()
        if fetched is None:
            if not self._idle_wait.is_waiting():
                self._pause()
            return ()
        self._idle_wait.end()
        self._set_corrupt(corrupt_batch(self._topic_partition, self._position, fetched))
        batch = self._to_batch(fetched)
        if len(batch):
            self._client.connection.answered()
        return self._emit(_truncate(batch, self._end))

    def _to_batch(self, fetched: Fetched) -> MessageBatch:
        try:
            return to_batch(self._topic_partition, self._venue, self._position, fetched)
        except UnreachableError:
            self._watch.settle()
            raise

    def _set_corrupt(self, error: OffsetError | None) -> None:
        if error is None:
            return
        # The error waits until what was read is committed, so that giving up the batch gives up nothing before it.
        _LOG.warning(
            "corrupt_batch", error=str(error), effect="the job stops when all messages before it are committed"
        )
        self._corrupt, self._epochs_to_close = error, EPOCHS_TO_COMMIT
        self._idle_wait.leave(self._reader)

    def _emit(self, batch: MessageBatch) -> Iterable[MessageBatch]:
        if len(batch) < FULL_POLL_MESSAGES:
            self._pause()
        if batch.next_offset == batch.first_offset:
            return ()
        failpoint("source.polled")
        self._position = batch.next_offset
        MESSAGES_RECEIVED.inc(len(batch))
        return batch.runs(VENUES)

    def _pause(self) -> None:
        self._next_awake = datetime.now(UTC) + PAUSE

    def next_awake(self) -> datetime | None:
        """Return the end of the pause after the last poll; None if there is no pause."""
        next_awake, self._next_awake = self._next_awake, None
        return next_awake

    def snapshot(self) -> dict[str, Any]:
        """Return the offset to read next."""
        failpoint("source.snapshot")
        self._health.epoch_closed(str(self._topic_partition))
        self._epochs_to_close -= 1
        return {"format": FORMAT, "offset": self._position}

    def close(self) -> None:
        """Stop reading."""
        self._health.finished(str(self._topic_partition))
        if self._corrupt is None:
            self._idle_wait.leave(self._reader)
        self._reader.close()


class UnconfiguredPartition(StatefulSourcePartition[MessageBatch, dict[str, Any]]):
    """A partition of a topic that is no longer in `K2_TOPICS`: it is not read, and its state is kept unchanged."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self._state = state or {"format": FORMAT, "offset": 0}

    def next_batch(self) -> NoReturn:
        """Raise StopIteration at once."""
        raise StopIteration

    def snapshot(self) -> dict[str, Any]:
        """Return the state from the recovery store; reading resumes there if the topic is configured again."""
        return self._state


def _truncate(batch: MessageBatch, end: int | None) -> MessageBatch:
    """Remove the messages at or beyond `end` from a batch."""
    if end is None or batch.next_offset <= end:
        return batch
    return replace(batch.between(0, int(np.searchsorted(batch.offsets, end))), next_offset=end)


class KafkaSource(FixedPartitionedSource[MessageBatch, dict[str, Any]]):
    """Reads the topics of `K2_TOPICS` from the offsets of the recovery store, else of the progress of the table.

    Supports exactly-once processing: the offset is part of the recovery snapshot, and group offsets are never used.
    Partitions that are added to a topic are reported, and read after the next start.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        in_store: Collection[TopicPartition] = (),
        health: Health | None = None,
        on_partitions_added: OnAdded | None = None,
        *,
        waits: bool = True,
    ) -> None:
        """Ask the broker for partitions and watermarks.

        `progress` is the progress of the table. `in_store` are the partitions with a state in the recovery store.
        `health` records partitions and epochs. `on_partitions_added` is called when a topic has more partitions than
        when the job started. `waits` is false if the process works for others even if it has no messages itself.

        Raises:
            UnreachableError: the broker does not answer.
            SettingsError: a topic does not exist.
            OffsetError: the broker has lost a partition that was read before.
        """
        self._settings, self._progress, self._in_store = settings, progress, frozenset(in_store)
        self._health = Health() if health is None else health
        self._writers = [str(writer) for writer in range(settings.writers)]
        self._venues = dict(settings.topics)
        self._partitions = topic_partitions(settings)
        gone = unconfigured_partitions({*progress.partitions(), *in_store}, self._partitions, self._venues)
        _warn_unconfigured(gone)
        # Bytewax panics if it recovers the state of a partition that is not listed.
        self._unconfigured = [topic_partition for topic_partition in gone if topic_partition in in_store]
        self.topic_ids = topic_ids(settings)
        self.client = KafkaClient(settings, health=self._health, partition_count=len(self._partitions))
        lows = self.client.low_watermarks(self._partitions)
        highs = self.client.high_watermarks(self._partitions)
        self._watermarks = {
            topic_partition: Watermarks(lows[topic_partition], highs[topic_partition])
            for topic_partition in self._partitions
        }
        self._starts: PartitionStarts = {}
        self._opened: list[KafkaPartition] = []
        self._idle_wait = IdleWait(is_enabled=waits)
        self._watch = TopicWatch(TopicIds(settings).find, self.topic_ids, self._health)
        self._discovery = PartitionDiscovery(
            self.client.partition_count, self._partitions, self._health, on_partitions_added
        )

    def decide_starts(self) -> PartitionStarts:
        """Return where the partitions of new topics begin by `K2_START`; none if at their first message.

        To be recorded before anything is read, and given to `use_starts` as recorded.

        Raises:
            UnreachableError: the broker does not return the offsets of a time.
        """
        known = {*self._progress.partitions(), *self._in_store}
        return decide_starts(self._settings.start, known, self._watermarks, self.client.offsets_at)

    def use_starts(self, starts: PartitionStarts) -> None:
        """Begin partitions that nothing has read at the starts on record."""
        self._starts = starts

    @reports_errors
    def list_parts(self) -> list[str]:
        """Return the partitions of all topics, and others with a state; called once the peers are connected.

        A partition without a state in the recovery store is checked here already: no sink has rolled back the ledger or
        the dead letters yet.

        Raises:
            OffsetError: the broker does not have the offset from which a partition is to be read, or a partition's log
                was cut since it was read, and has grown again.
        """
        self._health.joined()
        self._check_last_messages()
        for topic_partition in self._partitions:
            if topic_partition not in self._in_store:
                resolve_start_offset(
                    topic_partition, self._known_offsets(topic_partition, None), self._watermarks[topic_partition]
                )
        return [str(topic_partition) for topic_partition in (*self._partitions, *self._unconfigured)]

    @reports_errors
    def build_part(
        self, step_id: str, for_part: str, resume_state: dict[str, Any] | None
    ) -> KafkaPartition | UnconfiguredPartition:
        """Open a partition at the offset of `resolve_start_offset`, and log the choice."""
        topic_partition = TopicPartition.parse(for_part)
        if topic_partition in self._unconfigured:
            return UnconfiguredPartition(resume_state)
        watermarks = self._watermarks[topic_partition]
        known = self._known_offsets(topic_partition, _recovered_offset(step_id, resume_state))
        start = resolve_start_offset(topic_partition, known, watermarks)
        _log_start(topic_partition, start)
        end = watermarks.high if self._settings.run_to_end else None
        venue = self._venues[topic_partition.topic]
        partition = KafkaPartition(
            self.client, self._health, topic_partition, venue, start.offset, end, self._watch, self._idle_wait
        )
        self._opened.append(partition)
        self._discovery.start()
        self._watch.start()
        return partition

    def _check_last_messages(self) -> None:
        """Check that each log has the message that was read last; one that is too short is rejected for that."""
        furthest = {where: self._progress.furthest(where) for where in self._partitions}
        entries = {
            where: entry
            for where, entry in furthest.items()
            if entry is not None
            and entry.last_message is not None
            and entry.last_message.offset < self._watermarks[where].high
        }
        lows = {where: self._watermarks[where].low for where in entries}
        for where, reread in self.client.read_again(entries, lows).items():
            check_last_message(where, entries[where], reread)

    def _known_offsets(self, topic_partition: TopicPartition, recovered: int | None) -> KnownOffsets:
        furthest = self._progress.furthest(topic_partition)
        return KnownOffsets(
            recovered,
            self._progress.next_offset(topic_partition, self._writers),
            self._progress.start(topic_partition),
            0 if furthest is None else furthest.offset,
            self._starts.get(topic_partition),
        )

    def commit(self, progress: Progress) -> None:
        """Commit the progress of the table as group offsets; called after each commit to the table."""
        next_offset = partial(progress.next_offset, writers=self._writers)
        offsets = {topic_partition: next_offset(topic_partition) for topic_partition in self._partitions}
        committed = {topic_partition: offset for topic_partition, offset in offsets.items() if offset is not None}
        # The process of a run to the end may exit before librdkafka has sent the request.
        self.client.commit(committed, wait=self._settings.run_to_end)

    def lag(self) -> float:
        """Return the number of unread messages in all partitions that this process reads.

        NaN if it is not known for one of them, or if the process reads none.
        """
        return sum(partition.lag() for partition in self._opened) if self._opened else math.nan


def _warn_unconfigured(gone: Iterable[TopicPartition]) -> None:
    for topic in sorted({topic_partition.topic for topic_partition in gone}):
        _LOG.warning("topic_not_configured", topic=topic, effect="it was read before, and is not read now")


def _recovered_offset(step_id: str, state: dict[str, Any] | None) -> int | None:
    if state is None:
        return None
    if state.get("format") != FORMAT:
        raise StateError(
            f"unknown format of the recovered state of {step_id}: {state.get('format')}; this version reads {FORMAT}"
        )
    return int(state["offset"])


def _log_start(topic_partition: TopicPartition, start: StartOffset) -> None:
    _LOG.info("reading", partition=str(topic_partition), offset=start.offset, origin=str(start.origin), why=start.why)
    if start.origin is Origin.TABLE:
        WARM_STARTS.inc()
