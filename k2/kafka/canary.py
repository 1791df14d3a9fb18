"""Publish the canary, and measure when its messages are in the table and its gaps in the ledger."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual
from pyiceberg.table import Table

from k2.kafka.config import config_errors, producer_config
from k2.model.canary import CanarySymbol, left_out, next_number
from k2.model.errors import first_line
from k2.model.progress import Progress, TopicPartition
from k2.ops.metrics import (
    CANARY_GAPS_EXPECTED,
    CANARY_GAPS_SEEN,
    CANARY_LAST_SEQUENCE,
    CANARY_SECONDS,
    CANARY_WAITING_SECONDS,
)
from k2.ops.settings import Settings
from k2.storage.catalog import find_table

__all__ = ["Canary", "open_canary"]

RECENT_AGE_MAX: Final = timedelta(days=2)
"""Age of the rows in which the newest number is looked for first, because the table may have files of years."""
POLL_SECONDS_MAX: Final = 1.0
RETRY_SECONDS_MAX: Final = 10.0

_log = structlog.get_logger()


@dataclass
class _Pending:
    """A message that is not known to be in the table."""

    published_at: float
    """Seconds by the monotonic clock."""
    partition: TopicPartition | None = None
    offset: int = 0
    """Its offset in `partition`; both are known once the broker has acknowledged it."""


def open_canary(settings: Settings) -> "Canary | None":
    """Return the canary; None if none is configured, or if the job ends at the end of the topics."""
    if settings.canary_topic is None or settings.run_to_end:
        return None
    return Canary(settings, settings.canary_topic, settings.canary_name)


class Canary:
    """The canary of a job. It publishes from the process that has the writer of its symbol, and from no other.

    Each start continues after the newest number in the table. What was published after that, and not committed, is
    published again, and is a duplicate. A message that no broker takes in time is published again, too. Nothing that
    fails here ends the job: it is logged, and the canary waits longer.
    """

    def __init__(
        self, settings: Settings, topic: str, name: CanarySymbol, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._topic, self._name, self._clock = settings, topic, name, clock
        self._writer = str(name.group % settings.writers)
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._start_number: int | None = None
        """The newest number in the table at the start; None until it is read."""
        self._last = self._committed = 0
        """The newest numbers that were published, and that are known to be in the table."""
        self._pending: dict[int, _Pending] = {}
        self._failed: list[int] = []
        self._last_commit = (Progress(), -math.inf)
        self._due_at = math.inf
        self._gaps_seen = 0
        """Numbers left out since the start that the ledger has as missing."""

    def writer_opened(self, writer: str) -> None:
        """Begin to publish, if this is the writer of the canary's symbol."""
        if writer != self._writer:
            return
        self._due_at = self._clock()
        CANARY_SECONDS.set(math.nan)
        CANARY_WAITING_SECONDS.set_function(self.waiting_seconds)
        threading.Thread(target=self._run, name="canary", daemon=True).start()

    def committed(self, progress: Progress) -> None:
        """Take note of the progress of the table, just after a commit."""
        with self._lock:
            self._last_commit = progress, self._clock()
            for number in [*self._pending]:
                self._settle(number)

    def waiting_seconds(self) -> float:
        """Return the seconds for which a message has not been in the table, or is not published although it is due."""
        with self._lock:
            since = min((one.published_at for one in self._pending.values()), default=math.inf)
            return max(0.0, self._clock() - min(since, self._due_at))

    def _run(self) -> None:
        while True:
            with _logged():
                self.publish()
            with _logged():
                self.check_gaps()
            self._wait()

    def publish(self) -> None:
        """Publish the next number; the smallest that failed before, if there is one."""
        if self._start_number is None:
            self._start_number = self._last = self._committed = _last_number(self._settings, self._name)
        if self._producer is None:
            with config_errors(self._settings):
                self._producer = Producer(producer_config(self._settings))
        with self._lock:
            is_repeated = bool(self._failed)
            number = min(self._failed) if is_repeated else next_number(self._last)
            self._pending.setdefault(number, _Pending(self._clock()))
        message = self._name.message(number, time.time_ns() // 1_000)
        try:
            self._producer.produce(self._topic, message, self._name.key, on_delivery=partial(self._delivered, number))
        except KafkaException:
            self._producer = None
            raise
        with self._lock:
            if is_repeated:
                self._failed.remove(number)
            self._last = max(self._last, number)
            self._due_at = self._clock() + self._settings.canary_interval_seconds
        CANARY_LAST_SEQUENCE.set(self._last)

    def check_gaps(self) -> None:
        """Compare the numbers that were left out since the start with the gaps in the ledger."""
        if self._start_number is None:
            return
        expected = len(left_out(self._start_number + 1, self._committed))
        CANARY_GAPS_EXPECTED.set(expected)
        # The ledger is read only when a number that was left out is due in it: once for a hundred messages.
        if self._gaps_seen < expected:
            self._gaps_seen = _gaps_seen(self._settings, self._name, self._start_number + 1, self._committed)
            CANARY_GAPS_SEEN.set(self._gaps_seen)

    def _wait(self) -> None:
        """Serve the reports of the producer until the next message is due, or for a while if publishing failed."""
        now = self._clock()
        until = (
            self._due_at if self._due_at > now else now + min(RETRY_SECONDS_MAX, self._settings.canary_interval_seconds)
        )
        while (remaining := until - self._clock()) > 0:
            seconds = min(remaining, POLL_SECONDS_MAX)
            if self._producer is None:
                time.sleep(seconds)
            else:
                self._producer.poll(seconds)

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        with self._lock:
            pending = self._pending.get(number)
            if error is not None:
                if error.fatal():
                    self._producer = None
                if pending is not None and pending.partition is None and number not in self._failed:
                    self._failed.append(number)
                _log.warning("canary_not_delivered", number=number, error=error.str())
                return
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if pending is not None and topic is not None and partition is not None and offset is not None:
                pending.partition, pending.offset = TopicPartition(topic, partition), offset
                self._settle(number)

    def _settle(self, number: int) -> None:
        """Measure a message, if the newest commit of its writer has it."""
        pending, (progress, committed_at) = self._pending[number], self._last_commit
        entry = None if pending.partition is None else progress.of(self._writer).get(pending.partition)
        if entry is not None and pending.offset < entry.offset:
            del self._pending[number]
            self._committed = max(self._committed, number)
            CANARY_SECONDS.set(max(0.0, committed_at - pending.published_at))


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever fails, the job goes on, and the canary is missed
        _log.warning("canary_failed", error=first_line(error))


def _last_number(settings: Settings, name: CanarySymbol) -> int:
    """Return the newest number in the table; 0 if it has none."""
    table = find_table(settings, "trades")
    since = (datetime.now(UTC) - RECENT_AGE_MAX).isoformat()
    recent: BooleanExpression = GreaterThanOrEqual("timestamp", since)  # type: ignore[call-arg,arg-type]
    if table is None:
        return 0
    return _max_number(table, And(_rows_of(name), recent)) or _max_number(table, _rows_of(name))


def _gaps_seen(settings: Settings, name: CanarySymbol, first: int, last: int) -> int:
    """Return how many of the numbers that were left out, from `first` to `last`, the ledger has as missing."""
    ledger = find_table(settings, "sequence_events")
    if ledger is None:
        return 0
    opened: BooleanExpression = EqualTo("event", "gap_opened")  # type: ignore[call-arg,arg-type]
    later: BooleanExpression = GreaterThanOrEqual("last_sequence", first)  # type: ignore[call-arg,arg-type]
    rows = ledger.scan(
        And(And(_rows_of(name), opened), later), selected_fields=("first_sequence", "last_sequence")
    ).to_arrow()
    missing = [(max(first, row["first_sequence"]), min(last, row["last_sequence"])) for row in rows.to_pylist()]
    return len({number for ends in missing for number in left_out(*ends)})


def _rows_of(name: CanarySymbol) -> BooleanExpression:
    exchange: BooleanExpression = EqualTo("exchange", name.exchange)  # type: ignore[call-arg,arg-type]
    symbol: BooleanExpression = EqualTo("symbol", name.symbol)  # type: ignore[call-arg,arg-type]
    return And(exchange, symbol)


def _max_number(table: Table, condition: BooleanExpression) -> int:
    values = table.scan(condition, selected_fields=("sequence",)).to_arrow()["sequence"].to_pylist()
    return max((value for value in values if value is not None), default=0)
