"""The canary: what it publishes whatever fails, and what it measures."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from k2.iceberg.tables import TableName
from k2.kafka import canary as module
from k2.kafka.canary import Canary, open_canary
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.settings import Settings, read_settings
from k2.venues.k2 import decode
from tests.query.tables import append, event, made, trade

TOPIC = "canary"


class Acknowledgement:
    """A message that the broker has acknowledged."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        """Return the topic."""
        return TOPIC

    def partition(self) -> int:
        """Return the partition."""
        return 0

    def offset(self) -> int:
        """Return the offset."""
        return self._offset


class FakeProducer:
    """Records what is published; a test acknowledges it, or not."""

    made = 0

    def __init__(self, _configuration: dict[str, Any]) -> None:
        FakeProducer.made += 1

    published: list[tuple[int, Callable[[KafkaError | None, Acknowledgement], None]]] = []  # noqa: RUF012
    raises: Exception | None = None

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[..., None]) -> None:
        """Record a message."""
        if FakeProducer.raises is not None:
            raise FakeProducer.raises
        assert (topic, key) == (TOPIC, b"k2-canary|market_data")
        (one,) = decode(value)
        FakeProducer.published.append((one.sequence or 0, on_delivery))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with a canary, whose producer is a fake."""
    monkeypatch.setattr(module, "Producer", FakeProducer)
    monkeypatch.setattr(FakeProducer, "published", [])
    monkeypatch.setattr(FakeProducer, "made", 0)
    monkeypatch.setattr(FakeProducer, "raises", None)
    return read_settings({"K2_TOPICS": TOPIC, "K2_CANARY_TOPIC": TOPIC, "K2_DATA_DIR": str(tmp_path)})


@pytest.fixture
def now() -> list[float]:
    """Return the time, which a test sets."""
    return [1_000.0]


@pytest.fixture
def canary(settings: Settings, now: list[float]) -> Canary:
    """Return a canary that publishes when the test says so."""
    return Canary(settings, TOPIC, settings.canary_name, lambda: now[0])


def numbers() -> list[int]:
    """Return the numbers that were published."""
    return [number for number, _ in FakeProducer.published]


def acknowledge(place: int, offset: int) -> None:
    """Acknowledge a message that was published."""
    FakeProducer.published[place][1](None, Acknowledgement(offset))


def progress_to(offset: int, settings: Settings) -> Progress:
    """Return the progress of the canary's writer."""
    writer = str(settings.canary_name.group % settings.writers)
    return Progress({writer: {TopicPartition(TOPIC, 0): PartitionProgress(offset)}})


def metric(name: str) -> float:
    """Return a metric of the canary."""
    found = REGISTRY.get_sample_value(f"k2_canary_{name}")
    assert found is not None
    return found


def test_numbers_follow_each_other_but_for_every_hundredth(canary: Canary) -> None:
    """The first is 1; 100 is left out."""
    for _ in range(101):
        canary.publish()
    assert numbers() == [*range(1, 100), 101, 102]
    assert metric("last_sequence") == 102


def test_a_start_continues_after_the_table(canary: Canary, settings: Settings) -> None:
    """The newest number of the symbol counts, however old it is, and no other symbol's."""
    table = made(settings, TableName.TRADES)
    rows = [trade(offset, "k2-canary", "market_data", sequence=number) for offset, number in ((0, 7), (1, 99), (2, 98))]
    append(table, [*rows, trade(3, "k2-canary", "other", sequence=500), trade(4, sequence=600)])
    canary.publish()
    assert numbers() == [101]


@pytest.mark.parametrize("is_early", [False, True])
def test_the_time_to_the_commit_is_measured(
    canary: Canary, settings: Settings, now: list[float], *, is_early: bool
) -> None:
    """From publishing to the commit, also if the broker's acknowledgement comes after that."""
    canary.publish()
    now[0] += 2
    assert canary.waiting_seconds() == 2
    canary.committed(progress_to(7, settings))
    if not is_early:
        acknowledge(0, 7)
        assert canary.waiting_seconds() == 2
        now[0] += 3
        canary.committed(progress_to(8, settings))
    else:
        now[0] += 1
        acknowledge(0, 6)
    assert metric("seconds") == (2 if is_early else 5)
    assert canary.waiting_seconds() == 0
    now[0] += 70
    assert canary.waiting_seconds() == pytest.approx(now[0] - 1_060)


def test_a_message_that_no_broker_takes_is_published_again(canary: Canary, now: list[float]) -> None:
    """With its number, before the next one; it waits since it was first published."""
    canary.publish()
    canary.publish()
    with capture_logs() as logs:
        FakeProducer.published[0][1](KafkaError(KafkaError._MSG_TIMED_OUT), Acknowledgement(-1))
    assert [entry["event"] for entry in logs] == ["canary_not_delivered"]
    now[0] += 60
    canary.publish()
    canary.publish()
    assert numbers() == [1, 2, 1, 3]
    assert canary.waiting_seconds() == 60
    assert FakeProducer.made == 1


def test_a_producer_that_failed_is_replaced(canary: Canary) -> None:
    """Its number is published by another one."""
    canary.publish()
    FakeProducer.published[0][1](KafkaError(KafkaError.UNKNOWN_PRODUCER_ID, "gone", fatal=True), Acknowledgement(-1))
    canary.publish()
    FakeProducer.raises = KafkaException(KafkaError(KafkaError._FATAL))
    with pytest.raises(KafkaException):
        canary.publish()
    FakeProducer.raises = None
    canary.publish()
    assert numbers() == [1, 1, 2]
    assert FakeProducer.made == 3


def test_gaps_are_looked_for_in_the_ledger(canary: Canary, settings: Settings) -> None:
    """A number that was left out is expected once a later one is committed, and seen once the ledger has it."""
    made(settings, TableName.TRADES)
    for _ in range(200):
        canary.publish()
    for place in range(200):
        acknowledge(place, place)
    canary.check_gaps()
    assert (metric("gaps_expected"), metric("gaps_seen")) == (0, 0)
    canary.committed(progress_to(100, settings))
    canary.check_gaps()
    assert (metric("gaps_expected"), metric("gaps_seen")) == (1, 0)
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    opened = partial(event, "gap_opened", exchange="k2-canary", symbol="market_data")
    append(ledger, [opened(100, 100), opened(200, 200, symbol="other"), opened(200, 200, exchange="other")])
    canary.check_gaps()
    assert (metric("gaps_expected"), metric("gaps_seen")) == (1, 1)
    append(ledger, [opened(150, 250)])
    canary.committed(progress_to(200, settings))
    canary.check_gaps()
    assert (metric("gaps_expected"), metric("gaps_seen")) == (2, 2)


def test_only_the_process_with_the_writer_publishes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer of the symbol's key group; any other starts nothing."""
    shared = settings.model_copy(update={"writers": 4})
    group = shared.canary_name.group
    started: list[str] = []
    monkeypatch.setattr(module.threading.Thread, "start", lambda thread: started.append(thread.name))
    for writer in range(4):
        canary = open_canary(shared)
        assert canary is not None
        canary.writer_opened(str(writer))
        assert started == (["canary"] if writer >= group % 4 else [])
    assert math.isnan(metric("seconds"))
    assert open_canary(settings.model_copy(update={"run_to_end": True})) is None
    assert open_canary(settings.model_copy(update={"canary_topic": None})) is None
