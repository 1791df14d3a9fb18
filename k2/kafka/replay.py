"""Replay of dead letters: batches in Kafka transactions, each of which is published once whatever is killed.

An intent in the journal precedes each transaction, and its outcome follows it. A replay that finds an intent without
an outcome looks for its messages before it sends anything. The transactional id is that of the namespace: its first
request ends the transaction of any other instance, dead or alive, which can commit nothing from then on.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, NoReturn, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2.kafka.config import bootstrap_servers, cluster_metadata, config_errors, producer_config
from k2.kafka.replay_lookup import ReplayLookup
from k2.model.errors import FencedError, K2Error, NotDeliveredError, SettingsError, UnreachableError
from k2.model.progress import TopicPartition
from k2.model.replay import (
    LetterMessage,
    ReplayBatch,
    ReplayOf,
    intended_batch,
    settled_batch,
)
from k2.ops.failpoints import failpoint
from k2.ops.logs import LIBRDKAFKA
from k2.ops.settings import Settings
from k2.storage.dead_letters.replay_journal import JournalEntry, ReplayJournal

__all__ = ["Replayer"]

ANSWER_SECONDS_MAX: Final = 30.0
TRANSACTION_MS_MAX: Final = 30_000
"""After this time the broker ends the transaction of a replay that was killed; consumers of its partitions wait."""
DELIVERY_MS_MAX: Final = 20_000
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The broker, which took the message before, decides whether it is too large now."""
ABORT_SECONDS_MAX: Final = 5.0
SLICE_SECONDS: Final = 0.1

_LOG = structlog.get_logger()
_FENCED: Final = (
    KafkaError._FENCED,  # noqa: SLF001  confluent-kafka exports it under this name
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
)
_NOT_PERMITTED: Final = (
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_NO_TRANSACTIONS: Final = (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION)  # noqa: SLF001  as above


class Replayer:
    """Publishes batches of dead letters under the transactional id of the namespace; a context manager.

    On entry, the broker ends what another instance has begun, and batches of the journal without an outcome are looked
    up, so `entries` must be read after it.

    Raises:
        UnreachableError: no broker answers in time.
        SettingsError: the broker has no transactions, or does not permit this one.
        FencedError: another instance has begun since.
        StateError: the journal cannot be read, or a log no longer shows whether a batch was published.
    """

    def __init__(self, settings: Settings, journal: ReplayJournal) -> None:
        self._settings, self._journal = settings, journal
        self._transactional_id = f"k2-dlq-replay-{settings.namespace}"
        self._is_open = False
        self._ends: dict[TopicPartition, int] = {}
        self.entries: list[JournalEntry] = []
        """The batches whose outcome is recorded, once this is entered."""
        self.looked_up = 0
        """Letters of batches that had no outcome, and were found to be published."""

    def __enter__(self) -> Self:
        cluster_metadata(self._settings)
        config = producer_config(
            self._settings,
            **{
                "transactional.id": self._transactional_id,
                "transaction.timeout.ms": TRANSACTION_MS_MAX,
                "message.timeout.ms": DELIVERY_MS_MAX,
                "message.max.bytes": MESSAGE_BYTES_MAX,
            },
        )
        with config_errors(self._settings):
            self._producer = Producer(config, logger=logging.getLogger(LIBRDKAFKA))
        self._request(self._producer.init_transactions, "the broker does not begin transactions")
        self._lookup = ReplayLookup(self._settings)
        # Read only now: from here on no other instance can commit what it has recorded as an intent.
        entries = self._journal.entries()
        self.entries = [entry for entry in entries if entry.is_settled]
        self._settle([entry for entry in entries if not entry.is_settled])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            self._abort()
        self._lookup.close()

    def check_partitions(self, partitions: Mapping[TopicPartition, int]) -> None:
        """Check that the partitions of the chosen letters, each with their number, exist.

        Raises:
            SettingsError: one does not.
        """
        topics = cluster_metadata(self._settings).topics
        for where, count in sorted(partitions.items()):
            found = topics.get(where.topic)
            if found is None or where.partition not in found.partitions:
                what = f"topic {where.topic!r}" if found is None else f"partition {where}"
                raise SettingsError(
                    f"{what}, from which {count:,} of the chosen dead letters came, does not exist at "
                    f"{bootstrap_servers(self._settings)}; create it, or choose others with --topic or --partition"
                )

    def publish(self, batch: Sequence[LetterMessage]) -> int:
        """Publish a batch in one transaction, and return the number of its messages, all of them.

        After an error the instance is of no more use: librdkafka may give up the next transaction as well.

        Raises:
            NotDeliveredError: the broker refuses a message, and nothing of the batch is published, or it refuses the
                transaction.
            FencedError: another replay of the namespace has begun; nothing of the batch is published.
            UnreachableError: the broker does not answer, or the journal cannot be written; the next replay finds out
                whether the batch was published.
        """
        self._find_ends({message.where for message in batch})
        begun_at = datetime.now(UTC)
        record = intended_batch(
            self._journal.new_batch(begun_at),
            self._transactional_id,
            begun_at,
            ((message.letter, message.take) for message in batch),
            self._ends,
        )
        self._journal.intend(record)
        failpoint("replay.intended")
        published = self._send(record, batch)
        failpoint("replay.produced")
        self._commit()
        failpoint("replay.committed")
        for message in batch:
            self._ends[message.where] = max(self._ends[message.where], published[message.replay_of] + 1)
        settled = settled_batch(record, published)
        assert settled is not None, "a batch has messages"
        self._journal.settle(settled)
        return len(batch)

    def _find_ends(self, partitions: set[TopicPartition]) -> None:
        missing = partitions - self._ends.keys()
        if missing:
            self._ends |= self._lookup.ends(missing)

    def _settle(self, unsettled: Sequence[JournalEntry]) -> None:
        """Look up batches without an outcome, and record it."""
        for entry in unsettled:
            settled = settled_batch(entry.batch, self._lookup.find(entry))
            if settled is None:
                self._journal.drop(entry.batch)
            else:
                self._journal.settle(settled)
                self.entries.append(JournalEntry(settled, is_settled=True, location=entry.location))
                self.looked_up += sum(1 for _ in settled.letters())
            _LOG.info("replay_looked_up", batch=entry.batch.batch, is_published=settled is not None)

    def _send(self, record: ReplayBatch, batch: Sequence[LetterMessage]) -> dict[ReplayOf, int]:
        """Send the messages, and return the offset of each once all are acknowledged."""
        published: dict[ReplayOf, int] = {}
        refused: list[str] = []
        try:
            self._producer.begin_transaction()
            self._is_open = True
            for message in batch:
                self._produce(message, partial(_report, message.replay_of, published, refused))
            deadline = time.monotonic() + ANSWER_SECONDS_MAX
            while self._producer.flush(SLICE_SECONDS) and time.monotonic() < deadline:
                pass
        except KafkaException as error:
            self._failed(error, "a batch of dead letters cannot be published")
        if len(published) < len(batch):
            self._abort()
            self._journal.drop(record)
            cause = refused[0] if refused else "they were not acknowledged"
            raise NotDeliveredError(
                f"{len(batch) - len(published):,} of {len(batch):,} messages of a batch were not delivered to "
                f"{bootstrap_servers(self._settings)}: {cause}; nothing of the batch is published: fix that, or choose "
                "other dead letters"
            )
        return published

    def _produce(self, message: LetterMessage, report: Callable[[KafkaError | None, Message], None]) -> None:
        letter = message.letter
        while True:
            try:
                self._producer.produce(
                    letter.topic,
                    message.value,
                    message.key,
                    letter.partition,
                    on_delivery=report,
                    headers=message.headers,
                )
            except BufferError:
                self._producer.poll(SLICE_SECONDS)
            else:
                return

    def _commit(self) -> None:
        try:
            self._request(self._producer.commit_transaction, "the transaction of a batch is not committed")
        except KafkaException as error:
            self._abort()
            # The intent stays: the next replay looks in the topics, which is safer than to trust an error.
            raise NotDeliveredError(
                f"the transaction of a batch was refused: {error.args[0].str()}; run `k2 dlq replay` again, which "
                "finds out what was published"
            ) from None
        self._is_open = False

    def _request(self, call: Callable[[float], None], what: str) -> None:
        """Call a request of the transaction; retry it while the error says that this can help.

        Raises:
            KafkaException: the transaction must be aborted.
        """
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            try:
                call(max(SLICE_SECONDS, deadline - time.monotonic()))
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                if reason.txn_requires_abort():
                    raise
                if not reason.retriable() or time.monotonic() >= deadline:
                    self._failed(error, what)
            else:
                return

    def _failed(self, error: KafkaException, what: str) -> NoReturn:
        raise self._error(error.args[0], what) from None

    def _error(self, reason: KafkaError, what: str) -> K2Error:
        if reason.code() in _FENCED:
            # Its transaction was ended by the other instance.
            self._is_open = False
            return FencedError(
                f"another `k2 dlq replay` of namespace {self._settings.namespace!r} has begun, or the broker has ended "
                f"a transaction of more than {TRANSACTION_MS_MAX // 1000} s, so this one ends; what it has published "
                "is in the journal"
            )
        if reason.code() in _NO_TRANSACTIONS:
            return SettingsError(
                f"{what}: {reason.str()}; replay needs a broker with transactions (Kafka 2.5 or later)"
            )
        if reason.code() in _NOT_PERMITTED:
            return SettingsError(
                f"{what}: {reason.str()}; permit the user to write to the topics and to use transactional id "
                f"{self._transactional_id!r}"
            )
        if reason.retriable() or reason.code() == KafkaError._TIMED_OUT:  # noqa: SLF001  as above
            return UnreachableError(
                f"{what} at {bootstrap_servers(self._settings)}: {reason.str()}; run `k2 dlq replay` again, which "
                "finds out what was published"
            )
        return NotDeliveredError(f"{what}: {reason.str()}; fix that, and run `k2 dlq replay` again")

    def _abort(self) -> None:
        """End the transaction, so that consumers need not wait for its timeout."""
        self._is_open = False
        try:
            self._producer.abort_transaction(ABORT_SECONDS_MAX)
        except KafkaException as error:
            _LOG.debug("replay_not_aborted", error=error.args[0].str(), seconds=TRANSACTION_MS_MAX / 1e3)


def _report(
    one: ReplayOf, published: dict[ReplayOf, int], refused: list[str], error: KafkaError | None, message: Message
) -> None:
    if error is None:
        published[one] = int(message.offset() or 0)
    elif error.code() != KafkaError._PURGE_QUEUE:  # noqa: SLF001  as above
        where, offset, _ = one
        refused.append(f"{where}:{offset}: {error.str()}")
