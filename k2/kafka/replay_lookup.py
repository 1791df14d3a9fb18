"""Which messages of a batch of replayed dead letters the topics have: asked if a replay was stopped before it knew."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from k2.kafka.config import bootstrap_servers, config_errors, consumer_config
from k2.model.errors import StateError, UnreachableError
from k2.model.progress import TopicPartition
from k2.model.replay import ReplayOf, replay_of
from k2.ops.settings import Settings
from k2.storage.dead_letters.replay_journal import JournalEntry

__all__ = ["ReplayLookup"]

ANSWER_SECONDS_MAX: Final = 10.0
STALLED_SECONDS_MAX: Final = 60.0
MESSAGES_PER_POLL: Final = 10_000
POLL_SECONDS: Final = 0.5
_ABSENT: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  confluent-kafka exports it under this name
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  as above
)


class ReplayLookup:
    """Reads the topics to which dead letters were sent."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        with config_errors(settings):
            # The true end of a log, also while a transaction of someone else is open.
            self._watermarks = confluent_kafka.Consumer(
                consumer_config(settings, **{"isolation.level": "read_uncommitted"})
            )

    def close(self) -> None:
        """Close the connections."""
        self._watermarks.close()

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset after the last message of each partition, committed or not.

        Raises:
            UnreachableError: the broker does not answer in time.
        """
        return {where: self._bounds(where)[1] for where in sorted(partitions)}

    def _bounds(self, where: TopicPartition) -> tuple[int, int]:
        """Return the first offset of a log, and its end; (0, 0) if the partition does not exist."""
        part = confluent_kafka.TopicPartition(where.topic, where.partition)
        try:
            found = self._watermarks.get_watermark_offsets(part, timeout=ANSWER_SECONDS_MAX)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() in _ABSENT:
                return 0, 0
            raise UnreachableError(
                f"the broker does not return the offsets of {where}: {reason.str()}; try again"
            ) from None
        if found is None:
            servers = bootstrap_servers(self._settings)
            raise UnreachableError(f"{servers} does not return the offsets of {where}; try again")
        return int(found[0]), int(found[1])

    def find(self, entry: JournalEntry) -> dict[ReplayOf, int]:
        """Return the offsets of the messages of a batch, of those that were published.

        No other instance may be able to commit the batch any more.

        Raises:
            StateError: a log no longer has all offsets at which the messages may be.
            UnreachableError: the broker does not answer, or a transaction of another producer stays open.
        """
        bounds = {where: self._bounds(where) for where in entry.batch.ends()}
        begins = entry.batch.ends()
        positions = {where: max(begins[where], bounds[where][0]) for where in begins}
        wanted, found = entry.batch.replays_of(), dict[ReplayOf, int]()
        self._read(positions, {where: high for where, (_, high) in bounds.items()}, wanted, found)
        lost = {where for where, (low, high) in bounds.items() if not low <= begins[where] <= high}
        if any(where in lost for where, _, _ in wanted - found.keys()):
            where = min(lost)
            low, high = bounds[where]
            raise StateError(
                f"whether a batch of dead letters was published cannot be found out: {where} has the offsets {low} to "
                f"{high}, and its messages would be at {begins[where]} or later; see by `k2 sql` whether its trades "
                f"are stored, then remove {entry.location}, and its dead letters count as waiting"
            )
        return found

    def _read(
        self,
        positions: dict[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        wanted: set[ReplayOf],
        found: dict[ReplayOf, int],
    ) -> None:
        """Read from positions to ends, or until all that is wanted is found."""
        unread = [where for where in positions if positions[where] < ends[where]]
        with config_errors(self._settings):
            consumer = confluent_kafka.Consumer(consumer_config(self._settings))
        try:
            consumer.assign(
                [confluent_kafka.TopicPartition(one.topic, one.partition, positions[one]) for one in unread]
            )
            stalled_at = time.monotonic() + STALLED_SECONDS_MAX
            while len(found) < len(wanted) and (behind := _behind(positions, ends)):
                before = dict(positions)
                for message in consumer.consume(MESSAGES_PER_POLL, timeout=POLL_SECONDS):
                    _take(message, positions, wanted, found)
                if positions != before:
                    stalled_at = time.monotonic() + STALLED_SECONDS_MAX
                elif time.monotonic() > stalled_at:
                    raise UnreachableError(
                        f"{behind} cannot be read to its end: a transaction of another producer is open at offset "
                        f"{positions[behind]}, or no broker answers; try again when it has ended"
                    )
        finally:
            consumer.close()


def _behind(positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> TopicPartition | None:
    return next((where for where, position in positions.items() if position < ends[where]), None)


def _take(
    message: Message,
    positions: dict[TopicPartition, int],
    wanted: set[ReplayOf],
    found: dict[ReplayOf, int],
) -> None:
    """Move a position on by a message or event; note the message if it is one of those wanted."""
    where = TopicPartition(str(message.topic()), int(message.partition() or 0))
    offset, error = int(message.offset() or 0), message.error()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  confluent-kafka exports it under this name
            positions[where] = max(positions[where], offset)
        return
    positions[where] = offset + 1
    one = replay_of(dict(message.headers() or ()).items())
    if one is not None and one in wanted:
        found.setdefault(one, offset)
