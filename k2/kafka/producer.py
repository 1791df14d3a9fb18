"""The producer: each message acknowledged by all in-sync replicas, once and in order, or an error."""

import signal
import threading
import time
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
"""Waits inside librdkafka are cut into these, since Python hears signals only between them."""
SENDS_BETWEEN_POLLS: Final = 1_000
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_LOG = structlog.get_logger()


class Report(Protocol):
    """What librdkafka is to call when a message's fate is known."""

    def __call__(self, error: KafkaError | None, _message: Message | None, /) -> None:
        """Count a failure."""


class TradeProducer:
    """Publishes to one topic; a context manager that ends with everything delivered or an error.

    Idempotent and `acks=all`: what is sent through one producer lies in the topic once, and in
    each partition in the order sent. A second run is a second producer: it publishes its
    messages again.

    On SIGINT and SIGTERM, in the main thread, it takes nothing more, flushes for at most 10 s, logs how many
    messages were delivered and how many were not, puts the former handlers back and raises `SystemExit` with
    128 + the signal's number; a second signal ends the wait.

    Raises:
        UnreachableError: on entry, no broker answers within 10 s.
        SettingsError: on entry, librdkafka refuses the configuration.
        NotDeliveredError: on exit, messages were not acknowledged; gives their count and the first cause. An
            exception from the body passes instead, with a note that says so.
    """

    def __init__(self, settings: Settings, topic: str, **extra: Any) -> None:
        self.topic = topic
        self._settings = settings
        self._extra = extra
        self._sent = 0
        self._failed = 0
        self._cause: str | None = None
        self._sending = False
        self._signal: int | None = None
        self._closing = False
        self._hurry = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        cluster_metadata(self._settings)
        with config_errors(self._settings):
            # A report of each success would cost a call: what is neither failed nor queued is delivered.
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
        """Messages that the broker has acknowledged so far."""
        return self._sent - self._failed - len(self._producer)

    @property
    def failed(self) -> int:
        """Messages that are known not to be delivered."""
        return self._failed

    def send(
        self,
        key: bytes | None,
        value: bytes | None,
        *,
        line: int | None = None,
        topic: str | None = None,
        partition: int = -1,
    ) -> None:
        """Hand over a message, waiting while the queue is full; `line` names it in an error.

        A message too large for the topic is counted as not delivered, and the next ones go on.

        Raises:
            NotDeliveredError: the producer can't go on at all (a fatal error of librdkafka).
        """
        # A signal between the queue's taking it and our counting it would make the counts wrong: it waits.
        self._sending = True
        report = self._report if line is None else partial(self._report, line=line)
        while not self._offer(key, value, topic or self.topic, partition, report):
            self._producer.poll(SLICE_SECONDS)
            if self._signal is not None:
                self._stop(self._signal)
        self._sent += 1
        self._sending = False
        if self._sent % SENDS_BETWEEN_POLLS == 0:
            self._producer.poll(0)
        if self._signal is not None:
            self._stop(self._signal)

    def _offer(self, key: bytes | None, value: bytes | None, topic: str, partition: int, report: Report) -> bool:
        """Hand it to librdkafka; False where its queue is full."""
        try:
            self._producer.produce(topic, value, key, partition, on_delivery=report)
        except BufferError:
            return False
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            report(reason, None)
            if reason.fatal():
                self._sent += 1
                raise NotDeliveredError(f"the producer cannot go on: {reason.str()}") from None
        return True

    def ensure_topic(self, name: str | None = None, partitions: int = 1) -> int:
        """Make the topic where it is absent; gives how many partitions it has.

        One that is there with another number of partitions stays as it is, and a warning says so.

        Raises:
            SettingsError: the broker refuses to make it.
            UnreachableError: the broker does not answer in time.
        """
        name = name or self.topic
        found = self._partitions(name)
        if found == 0:
            self._make_topic(name, partitions)
            return self._await_topic(name, partitions)
        if found != partitions:
            _LOG.warning("topic has other partitions", topic=name, wanted=partitions, found=found)
        return found

    def _partitions(self, name: str) -> int:
        topic = cluster_metadata(self._settings).topics.get(name)
        if topic is None or topic.error is not None:
            return 0
        return sum(part.leader >= 0 for part in topic.partitions.values())

    def _make_topic(self, name: str, partitions: int) -> None:
        # The client must outlive the answer: let go of earlier, it fails the request.
        client = admin_client(self._settings)
        made = client.create_topics([NewTopic(name, partitions)])[name]
        try:
            made.result(TOPIC_SECONDS_MAX)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            kind = UnreachableError if reason.retriable() else SettingsError
            raise kind(f"topic {name!r} cannot be made: {reason.str()}") from None
        except TimeoutError:
            raise UnreachableError(f"{self._where()} did not make topic {name!r} in time") from None

    def _await_topic(self, name: str, partitions: int) -> int:
        """Wait until every partition has a leader: a broker says "made" before that."""
        end = time.monotonic() + TOPIC_SECONDS_MAX
        found = self._partitions(name)
        while found < partitions and time.monotonic() < end:
            time.sleep(SLICE_SECONDS)
            found = self._partitions(name)
        if found == 0:
            raise UnreachableError(f"topic {name!r} at {self._where()} has no leader yet; try again")
        return found

    def _where(self) -> str:
        return bootstrap_servers(self._settings)

    def _report(self, error: KafkaError | None, _message: Message | None, line: int | None = None) -> None:
        if error is None:
            return
        self._failed += 1
        if self._cause is None:
            self._cause = error.str() if line is None else f"line {line}: {error.str()}"

    def _not_delivered(self) -> str:
        return (
            f"{self._failed} of {self._sent} messages for topic {self.topic!r} were not delivered to "
            f"{self._where()}: {self._cause}"
        )

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self._closing:
            self._hurry = True
        elif self._sending:
            self._signal = number
        else:
            self._stop(number)

    def _stop(self, number: int) -> NoReturn:
        self._close(FLUSH_AT_SIGNAL_SECONDS_MAX)
        _LOG.warning(
            "stopped by signal",
            signal=signal.Signals(number).name,
            topic=self.topic,
            delivered=self.delivered,
            not_delivered=self._sent - self.delivered,
        )
        raise SystemExit(128 + number)

    def _close(self, seconds_max: float | None) -> None:
        """Flush, give up what is left when time or patience is out, put the former signal handlers back."""
        if self._closing:
            return
        self._closing = True
        try:
            # Without a bound of ours librdkafka's holds: message.timeout.ms fails what no broker takes.
            end = time.monotonic() + seconds_max if seconds_max is not None else float("inf")
            while self._producer.flush(SLICE_SECONDS) and not self._hurry and time.monotonic() < end:
                pass
            if len(self._producer):
                self._producer.purge()
                self._producer.flush(PURGE_SECONDS_MAX)
        finally:
            for number, handler in self._former.items():
                signal.signal(number, handler)
