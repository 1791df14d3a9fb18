"""The columnar Kafka source: one source partition a topic partition, one batch a poll."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NoReturn

import numpy as np
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from k2.kafka.client import KafkaClient, topic_ids, topic_partitions
from k2.kafka.offset_resolution import Origin, Record, Start, Watermarks, decide_start, left_out
from k2.kafka.partition_discovery import PartitionWatch
from k2.kafka.reader import Polled, Reader, as_batch
from k2.model.batch import MessageBatch
from k2.model.errors import StateError
from k2.model.progress import Progress, TopicPartition
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.health import HEALTH
from k2.ops.metrics import CONSUMER_LAG, MESSAGES_RECEIVED, WARM_STARTS
from k2.ops.settings import Settings

__all__ = ["KafkaSource"]

FORMAT: Final = 1
FULL_POLL_MESSAGES: Final = 10_000
"""A poll of fewer is followed by a pause, so that the queue fills and the next poll is worth its cost."""
PAUSE: Final = timedelta(milliseconds=20)

_LOG = structlog.get_logger()


class KafkaPartition(StatefulSourcePartition[MessageBatch, dict[str, Any]]):
    """Reads one topic partition from a given offset; its snapshot is the offset to read next."""

    def __init__(self, client: KafkaClient, where: TopicPartition, venue: str, offset: int, end: int | None) -> None:
        self._client, self._where, self._venue = client, where, venue
        self._position, self._end = offset, end
        self._is_first = True
        self._awake: datetime | None = None
        self._reader: Reader = client.open(where, offset)
        HEALTH.opened(str(where))
        lag = CONSUMER_LAG.labels(where.topic, str(where.partition))
        lag.set_function(lambda: client.lag(where, self._position))

    @reports_errors
    def next_batch(self) -> Iterable[MessageBatch]:
        """Return the messages that have arrived as one batch; none where none have.

        The first one is empty: so all groups are brought up to the table, and the ledger gets what a crash kept from
        it, also where nothing new comes.

        Raises:
            StopIteration: the offset to stop at is reached.
        """
        if self._is_first:
            self._is_first = False
            return (MessageBatch.first(self._where, self._venue, self._position),)
        if self._end is not None and self._position >= self._end:
            raise StopIteration
        self._client.serve()
        fetched = self._reader.poll()
        if fetched is None:
            self._pause()
            return ()
        polled = _until(as_batch(self._where, self._venue, self._position, fetched), self._end)
        return self._taken(polled.batch)

    def _taken(self, batch: MessageBatch) -> Iterable[MessageBatch]:
        if len(batch) < FULL_POLL_MESSAGES:
            self._pause()
        if batch.next_offset == batch.first_offset:
            return ()
        failpoint("source.polled")
        self._position = batch.next_offset
        MESSAGES_RECEIVED.inc(len(batch))
        return (batch,)

    def _pause(self) -> None:
        self._awake = datetime.now(UTC) + PAUSE

    def next_awake(self) -> datetime | None:
        """Tell when to be asked again."""
        awake, self._awake = self._awake, None
        return awake

    def snapshot(self) -> dict[str, Any]:
        """Return the offset to read next."""
        failpoint("source.snapshot")
        HEALTH.epoch_closed(str(self._where))
        return {"format": FORMAT, "offset": self._position}

    def close(self) -> None:
        """Stop reading."""
        HEALTH.finished(str(self._where))
        self._reader.close()


class UnreadPartition(StatefulSourcePartition[MessageBatch, dict[str, Any]]):
    """A partition of a topic that `K2_TOPICS` no longer names: nothing of it is read, and its state stays as it is."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self._state = state or {"format": FORMAT, "offset": 0}

    def next_batch(self) -> NoReturn:
        """End at once."""
        raise StopIteration

    def snapshot(self) -> dict[str, Any]:
        """Return what the recovery store has of it: named again, it is read on from there."""
        return self._state


def _until(polled: Polled, end: int | None) -> Polled:
    """Leave what lies at or beyond the offset to stop at unread."""
    batch = polled.batch
    if end is None or batch.next_offset <= end:
        return polled
    count = int(np.searchsorted(batch.offsets, end))
    return polled._replace(
        batch=replace(
            batch,
            next_offset=end,
            offsets=batch.offsets[:count],
            kafka_timestamps=batch.kafka_timestamps[:count],
            value_starts=batch.value_starts[:count],
            value_sizes=batch.value_sizes[:count],
            key_starts=batch.key_starts[:count],
            key_sizes=batch.key_sizes[:count],
        )
    )


class KafkaSource(FixedPartitionedSource[MessageBatch, dict[str, Any]]):
    """Reads the topics of `K2_TOPICS`, from where the recovery store, else the table's progress, says.

    Can support exactly-once processing: the offset is part of the recovery snapshot. Group offsets are never begun
    from. Partitions added to a topic are found at the next start, and told of before.
    """

    def __init__(self, settings: Settings, progress: Progress, in_store: Collection[TopicPartition] = ()) -> None:
        """Ask the broker for the partitions; `progress` is what the table has.

        `in_store` are the partitions of which the recovery store holds a state.

        Raises:
            UnreachableError: the broker does not answer.
            SettingsError: a topic does not exist.
            OffsetError: the broker has lost a partition that was read before.
        """
        self._settings, self._progress, self._in_store = settings, progress, frozenset(in_store)
        self._writers = [str(writer) for writer in range(settings.writers)]
        self._venues = dict(settings.topics)
        self._partitions = topic_partitions(settings)
        gone = left_out({*progress.partitions(), *in_store}, self._partitions, self._venues)
        _tell_left_out(gone)
        # Bytewax panics where it recovers a state of a partition that is not named.
        self._unread = [where for where in gone if where in in_store]
        self.topic_ids = topic_ids(settings)
        self.client = KafkaClient(settings)
        lows, ends = self.client.lows(self._partitions), self.client.ends(self._partitions)
        self._watermarks = {where: Watermarks(lows[where], ends[where]) for where in self._partitions}
        self._watch = PartitionWatch(self.client.partition_count, self._partitions)

    @reports_errors
    def list_parts(self) -> list[str]:
        """Name the partitions of all topics, and those of which there is a state; called once the peers are there.

        Where no store can say otherwise, a start that is to be refused is refused here: the sinks, which bring the
        ledger and the dead letters back to the table, have touched nothing yet.

        Raises:
            OffsetError: the broker does not hold the offset from which a partition is to be read.
        """
        HEALTH.joined()
        for where in self._partitions:
            if where not in self._in_store:
                decide_start(where, self._record(where, None), self._watermarks[where])
        return [str(where) for where in (*self._partitions, *self._unread)]

    @reports_errors
    def build_part(
        self, step_id: str, for_part: str, resume_state: dict[str, Any] | None
    ) -> KafkaPartition | UnreadPartition:
        """Begin to read one partition where `decide_start` says, and tell so in the log."""
        where = TopicPartition.parse(for_part)
        if where in self._unread:
            return UnreadPartition(resume_state)
        watermarks = self._watermarks[where]
        start = decide_start(where, self._record(where, _recovered(step_id, resume_state)), watermarks)
        _tell(where, start)
        end = watermarks.high if self._settings.run_to_end else None
        partition = KafkaPartition(self.client, where, self._venues[where.topic], start.offset, end)
        self._watch.begin()
        return partition

    def _record(self, where: TopicPartition, recovered: int | None) -> Record:
        return Record(recovered, self._progress.next_offset(where, self._writers), self._progress.start(where))

    def commit(self, progress: Progress) -> None:
        """Tell the consumer group how far the table is; called after a commit has landed."""
        next_offset = partial(progress.next_offset, writers=self._writers)
        offsets = {where: next_offset(where) for where in self._partitions}
        known = {where: offset for where, offset in offsets.items() if offset is not None}
        # The process of a run to the end may be gone before librdkafka has sent what is on its way.
        self.client.commit(known, wait=self._settings.run_to_end)


def _tell_left_out(gone: Iterable[TopicPartition]) -> None:
    for topic in sorted({where.topic for where in gone}):
        _LOG.warning("a topic that was read before is not in K2_TOPICS: nothing of it is read", topic=topic)


def _recovered(step_id: str, state: dict[str, Any] | None) -> int | None:
    if state is None:
        return None
    if state.get("format") != FORMAT:
        raise StateError(f"the recovery store's state of {step_id} has format {state.get('format')}, not {FORMAT}")
    return int(state["offset"])


def _tell(where: TopicPartition, start: Start) -> None:
    _LOG.info("reading", partition=str(where), offset=start.offset, origin=str(start.origin), why=start.why)
    if start.origin is Origin.TABLE:
        WARM_STARTS.inc()
