"""Producer: delivers each message once and in order, acknowledged by all in-sync replicas, or raises."""

import signal
import threading
import time
from collections.abc import Sequence
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Protocol, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.cimpl import NewTopic

from k2.kafka.config import (
    admin_client,
    bootstrap_servers,
    cluster_metadata,
    config_errors,
    producer_config,
)
from k2.model.errors import NotDeliveredError, SettingsError, UnreachableError
from k2.ops.settings import Settings

__all__ = ["TradeProducer"]

FLUSH_AT_SIGNAL_SECONDS_MAX: Final = 10.0
PURGE_SECONDS_MAX: Final = 1.0
TOPIC_SECONDS_MAX: Final = 10.0
SLICE_SECONDS: Final = 0.1
"""Maximum of one wait inside librdkafka: Python handles signals only between waits."""
SENDS_BETWEEN_POLLS: Final = 1_000
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_LOG = structlog.get_logger()

Headers = Sequence[tuple[str, bytes]]


class Report(Protocol):
    """Delivery callback, called by librdkafka for a message that was not delivered."""

    def __call__(self, error: KafkaError | None, _message: Message | None, /) -> None:
        """Count the failed message."""


class TradeProducer:
    """Publishes to one topic; on exit of the context manager every message is delivered, or an error is raised.

    Idempotent and `acks=all`: each message sent through one producer is in the topic once, and each partition has the
    order of the calls. A second run is another producer, which publishes its messages again.

    On SIGINT and SIGTERM, in the main thread, the producer accepts no more messages, flushes for at most 10 s, logs the
    numbers of delivered and undelivered messages, restores the former handlers and raises `SystemExit` with 128 + the
    signal's number. A second signal ends the flush.

    Raises:
        UnreachableError: on entry, no broker answers within 10 s.
        SettingsError: on entry, librdkafka rejects the configuration.
        NotDeliveredError: on exit, messages were not acknowledged; the message has their count and the first cause. If
            the body raises, its exception propagates instead, with a note about them.
    """

    def __init__(self, settings: Settings, topic: str, **extra: Any) -> None:
        self.topic = topic
        self._settings = settings
        self._extra = extra
        self._sent = 0
        self._failed = 0
        self._first_cause: str | None = None
        self._is_sending = False
        self._pending_signal: int | None = None
        self._is_closing = False
        self._is_interrupted = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        cluster_metadata(self._settings)
        with config_errors(self._settings):
            # A report per success would cost a call: messages that are neither failed nor queued are delivered.
            self._producer = Producer(
                {
                    **producer_config(self._settings, **self._extra),
                    "delivery.report.only.error": True,
                    "on_delivery": self._report,
                }
            )
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._interrupt) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(None)
        if not self._failed:
            return
        if error is None:
            raise NotDeliveredError(self._not_delivered())
        error.add_note(self._not_delivered())

    @property
    def delivered(self) -> int:
        """Number of messages that the broker has acknowledged so far."""
        return self._sent - self._failed - len(self._producer)

    @property
    def failed(self) -> int:
        """Number of messages that are known not to be delivered."""
        return self._failed

    def send(
        self,
        key: bytes | None,
        value: bytes | None,
        *,
        line: int | None = None,
        topic: str | None = None,
        partition: int = -1,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> None:
        """Queue a message, and wait while the queue is full; `line` is its line number for error messages.

        `timestamp_ms` is its Kafka timestamp, in milliseconds since the epoch; without it, the time of the call. A
        topic with `message.timestamp.type=LogAppendTime` has the broker's own.

        A message that is too large for the topic counts as not delivered and does not affect others.

        Raises:
            NotDeliveredError: librdkafka reports a fatal error.
        """
        # Defer signals: one between queueing and counting would make the counts wrong.
        self._is_sending = True
        report = self._report if line is None else partial(self._report, line=line)
        while not self._try_produce(key, value, topic or self.topic, partition, headers, timestamp_ms, report):
            self._producer.poll(SLICE_SECONDS)
            if self._pending_signal is not None:
                self._stop(self._pending_signal)
        self._sent += 1
        self._is_sending = False
        if self._sent % SENDS_BETWEEN_POLLS == 0:
            self._producer.poll(0)
        if self._pending_signal is not None:
            self._stop(self._pending_signal)

    def _try_produce(
        self,
        key: bytes | None,
        value: bytes | None,
        topic: str,
        partition: int,
        headers: Headers,
        timestamp_ms: int | None,
        report: Report,
    ) -> bool:
        """Pass a message to librdkafka; return False if its queue is full."""
        try:
            # 0 is the time of the call.
            self._producer.produce(
                topic, value, key, partition, on_delivery=report, timestamp=timestamp_ms or 0, headers=[*headers]
            )
        except BufferError:
            return False
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            report(reason, None)
            if reason.fatal():
                self._sent += 1
                raise NotDeliveredError(f"the producer failed: {reason.str()}") from None
        return True

    def ensure_topic(self, name: str | None = None, partitions: int = 1) -> int:
        """Create the topic if it is absent; return its partition count.

        A topic that exists with another partition count is not changed, and a warning is logged.

        Raises:
            SettingsError: the broker rejects the request.
            UnreachableError: the broker does not answer in time.
        """
        name = name or self.topic
        found = self._partitions(name)
        if found == 0:
            self._create_topic(name, partitions)
            return self._await_topic(name, partitions)
        if found != partitions:
            _LOG.warning("topic_partitions_differ", topic=name, wanted=partitions, found=found)
        return found

    def _partitions(self, name: str) -> int:
        topic = cluster_metadata(self._settings).topics.get(name)
        if topic is None or topic.error is not None:
            return 0
        return sum(part.leader >= 0 for part in topic.partitions.values())

    def _create_topic(self, name: str, partitions: int) -> None:
        # The client must live until the answer arrives: if it is garbage-collected earlier, the request fails.
        client = admin_client(self._settings)
        created = client.create_topics([NewTopic(name, partitions)])[name]
        try:
            created.result(TOPIC_SECONDS_MAX)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            kind = UnreachableError if reason.retriable() else SettingsError
            raise kind(f"cannot create topic {name!r}: {reason.str()}") from None
        except TimeoutError:
            raise UnreachableError(
                f"{self._servers()} did not create topic {name!r} within {TOPIC_SECONDS_MAX:.0f} s"
            ) from None

    def _await_topic(self, name: str, partitions: int) -> int:
        """Wait until every partition has a leader; the broker reports the topic as created before that."""
        deadline = time.monotonic() + TOPIC_SECONDS_MAX
        found = self._partitions(name)
        while found < partitions and time.monotonic() < deadline:
            time.sleep(SLICE_SECONDS)
            found = self._partitions(name)
        if found == 0:
            raise UnreachableError(f"topic {name!r} at {self._servers()} has no leader yet; try again")
        return found

    def _servers(self) -> str:
        return bootstrap_servers(self._settings)

    def _report(self, error: KafkaError | None, _message: Message | None, line: int | None = None) -> None:
        if error is None:
            return
        self._failed += 1
        if self._first_cause is None:
            self._first_cause = error.str() if line is None else f"line {line}: {error.str()}"

    def _not_delivered(self) -> str:
        return (
            f"{self._failed} of {self._sent} messages for topic {self.topic!r} were not delivered to "
            f"{self._servers()}: {self._first_cause}"
        )

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self._is_closing:
            self._is_interrupted = True
        elif self._is_sending:
            self._pending_signal = number
        else:
            self._stop(number)

    def _stop(self, number: int) -> NoReturn:
        self._close(FLUSH_AT_SIGNAL_SECONDS_MAX)
        _LOG.warning(
            "stopped_by_signal",
            signal=signal.Signals(number).name,
            topic=self.topic,
            delivered=self.delivered,
            not_delivered=self._sent - self.delivered,
        )
        raise SystemExit(128 + number)

    def _close(self, seconds_max: float | None) -> None:
        """Flush until the time is over or a second signal arrives, purge the rest, and restore the signal handlers."""
        if self._is_closing:
            return
        self._is_closing = True
        try:
            # Without a limit here message.timeout.ms applies: it fails messages that no broker accepts.
            deadline = time.monotonic() + seconds_max if seconds_max is not None else float("inf")
            while self._producer.flush(SLICE_SECONDS) and not self._is_interrupted and time.monotonic() < deadline:
                pass
            if len(self._producer):
                self._producer.purge()
                self._producer.flush(PURGE_SECONDS_MAX)
        finally:
            for number, handler in self._former.items():
                signal.signal(number, handler)
