"""Two feeds through the real flow into real tables: what each lost is known exactly, wherever the job crashes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName
from k2.model.batch import MessageBatch
from k2.model.progress import TopicPartition
from k2.ops.failpoints import Name
from k2.ops.metrics import FEED_FIRST, FEED_LAG, FEED_LOST
from k2.ops.settings import Settings, read_settings
from k2.query.engine import Engine
from k2.query.feed_gaps import missing_of_feeds, register_feed_events
from k2.query.feeds import by_feed
from k2.query.gaps import gaps
from k2.query.parameters import QueryParameters
from k2.query.pool import open_engine
from k2.query.reconcile import reconcile
from tests.brokers import Broker
from tests.flows.crash import BATCH, Crash, run_to_crash, run_to_end
from tests.flows.job import Job
from tests.flows.job_io import message_batch
from tests.flows.market import publish
from tests.query.tables import made

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
COUNT = 40
LOST: Mapping[str, set[tuple[str, int]]] = {
    "ta": {("BTC-USD", 7), ("BTC-USD", 8), ("ETH-USD", 30), ("SOL-USD", 12)},
    "tb": {("BTC-USD", 20), ("ETH-USD", 30), ("SOL-USD", 13)},
}
ENVIRONMENT = {"K2_TOPICS": "ta,tb", "K2_FEEDS": "ta=A,tb=B", "K2_WRITERS": "2"}


def value_of(symbol: str, number: int) -> bytes:
    """Return a message of venue `k2`, with a trade a second."""
    return msgspec.json.encode(
        {
            "exchange": "kraken",
            "symbol": symbol,
            "sequence": number,
            "price": "1.5",
            "quantity": "2",
            "side": None,
            "timestamp": 1_700_000_000_000_000 + number * 1_000_000,
        }
    )


def log(topic: str) -> list[bytes]:
    """Return the messages of a topic."""
    every = [(symbol, number) for number in range(1, COUNT + 1) for symbol in SYMBOLS]
    return [value_of(*one) for one in every if one not in LOST[topic]]


def batches(settings: Settings, ends: Mapping[str, int], size: int = 15) -> dict[str, Sequence[MessageBatch]]:
    """Return what the topics have from the offset that all writers have committed, up to some ends; B is 2 ms late."""
    found, progress = {}, read_progress(settings)
    writers = [progress.of(str(writer)) for writer in range(settings.writers)]
    for topic, end in ends.items():
        one = TopicPartition(topic, 0)
        first = min(entries[one].offset if one in entries else 0 for entries in writers)
        parts = [
            message_batch([(None, value) for value in log(topic)[at : min(at + size, end)]], at, topic=topic)
            for at in range(first, end, size)
        ]
        late = [replace(part, kafka_timestamps=_times(part) + 2_000 * (topic == "tb")) for part in parts]
        found[f"{topic}:0"] = [MessageBatch.first(one, "k2", first), *late]
    return found


def _times(batch: MessageBatch) -> Any:
    """Return the venue times of the trades, as Kafka timestamps."""
    return batch.kafka_timestamps * 0 + [
        msgspec.json.decode(batch.value(idx) or b"")["timestamp"] for idx in range(len(batch))
    ]


def land(settings: Settings, ends: Mapping[str, int], workers: int = 1) -> None:
    """Run the flow to its end, an epoch for each batch."""
    run_to_end(settings, batches(settings, ends), workers, BATCH)


def missing(settings: Settings) -> dict[str, set[tuple[str, int]]]:
    """Return what each feed did not bring, by the ledger."""
    found: dict[str, set[tuple[str, int]]] = {}
    with open_engine(settings) as engine:
        engine_of(engine, settings)
        for key, ranges in missing_of_feeds(engine).items():
            numbers = {(key.symbol, number) for first, last in ranges for number in range(first, last + 1)}
            found.setdefault(key.topic, set()).update(numbers)
    return found


def engine_of(engine: Engine, settings: Settings) -> None:
    """Register the ledger."""
    register_feed_events(engine, made(settings, TableName.SEQUENCE_EVENTS))


def events_of(settings: Settings, event: str) -> Counter[tuple[str, str, int]]:
    """Return how often the ledger has each number with a kind of event."""
    table: Any = made(settings, TableName.SEQUENCE_EVENTS)
    return Counter(
        (row["topic"], row["symbol"], number)
        for row in table.scan().to_arrow().to_pylist()
        if row["event"] == event
        for number in range(row["first_sequence"], row["last_sequence"] + 1)
    )


ALL = {topic: len(log(topic)) for topic in LOST}


def check(settings: Settings) -> None:
    """Check that each feed misses what it lost, each number once, and that the union lacks what both lost."""
    assert missing(settings) == LOST
    assert {*events_of(settings, "feed_gap").values()} == {1}
    assert events_of(settings, "feed_gap_filled") == {}
    assert [(one.symbol, one.first_sequence, one.last_sequence) for one in gaps(settings)] == [("ETH-USD", 30, 30)]
    table: Any = made(settings, TableName.TRADES)
    rows = Counter((row["symbol"], row["sequence"]) for row in table.scan().to_arrow().to_pylist())
    every = {(symbol, number) for symbol in SYMBOLS for number in range(1, COUNT + 1)}
    assert rows == dict.fromkeys(every - {("ETH-USD", 30)}, 1)


def parts_of(settings: Settings) -> list[tuple[str | None, str, int, int, int]]:
    """Return what each feed brought, lost alone and lost with the other, by symbol."""
    rows = by_feed(settings)
    assert {str(one.day) for one in rows} == {"2023-11-14"}
    return [(one.symbol, one.feed, one.brought, one.lost_alone, one.lost_by_all) for one in rows]


PARTS = [
    (None, "A", 116, 3, 1),
    (None, "B", 117, 2, 1),
    ("BTC-USD", "A", 38, 2, 0),
    ("BTC-USD", "B", 39, 1, 0),
    ("ETH-USD", "A", 39, 0, 1),
    ("ETH-USD", "B", 39, 0, 1),
    ("SOL-USD", "A", 39, 1, 0),
    ("SOL-USD", "B", 39, 1, 0),
]


def test_what_each_feed_lost_is_in_the_ledger(tmp_path: Path) -> None:
    """And in the metrics; a start, with other workers, goes on where the table ends."""
    settings = read_settings(ENVIRONMENT, data_dir=tmp_path)
    before = [FEED_LOST.labels("kraken", feed)._value.get() for feed in "AB"]
    first = FEED_FIRST.labels("kraken", "A")._value.get()
    land(settings, {"ta": 50, "tb": 20})
    land(settings, ALL, workers=2)
    check(settings)
    after = [FEED_LOST.labels("kraken", feed)._value.get() for feed in "AB"]
    assert [later - earlier for earlier, later in zip(before, after, strict=True)] == [4, 3]
    assert FEED_FIRST.labels("kraken", "A")._value.get() - first > 30
    assert FEED_LAG.labels("kraken", "B")._sum.get() > 0
    assert parts_of(settings) == PARTS
    early, late, *_ = by_feed(settings)
    assert early.stored + late.stored == 119
    assert early.compared == late.compared == early.first
    assert (late.first, early.lag_p99_seconds) == (0, 0)
    assert late.lag_p50_seconds == pytest.approx(0.002, rel=0.1)
    assert [one.feed for one in by_feed(settings, QueryParameters(exchange="kraken", symbol="SOL-USD"))] == ["A", "B"]
    assert by_feed(settings, QueryParameters(start="2023-11-15")) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("passing", [5])
@pytest.mark.parametrize("name", ["trades.snapshot", "events.closing", "events.committed"])
def test_a_crash_changes_nothing(tmp_path: Path, name: Name, passing: int) -> None:
    """Between any two commits, of either table and of any writer."""
    settings = read_settings(ENVIRONMENT, data_dir=tmp_path)
    land(settings, {"ta": 25, "tb": 33})
    run_to_crash(settings, batches(settings, ALL), Crash(name, passing))
    land(settings, ALL)
    check(settings)
    assert parts_of(settings) == PARTS


def test_a_killed_job_knows_what_each_feed_lost(broker: Broker, tmp_path: Path) -> None:
    """On real Kafka, with several partitions, killed while it reads, and started again without its recovery store."""
    topics = [broker.topic(partitions=2), broker.topic(partitions=2)]
    random, numbers, symbols = Random(7), range(1, 4_001), [f"S{idx}" for idx in range(8)]
    inner = [(symbol, number) for symbol in symbols for number in numbers[1:-1]]
    lost = {topic: {*random.sample(inner, 300)} for topic in topics}
    environment = {
        "K2_FEEDS": f"{topics[0]}=A,{topics[1]}=B",
        "K2_WRITERS": "2",
        "K2_RUN_TO_END": "false",
    }
    job = Job(broker.bootstrap_servers, tmp_path, ",".join(topics), environment)

    def send(part: range) -> None:
        for topic in topics:
            every = [(symbol, number) for number in part for symbol in symbols]
            kept = [one for one in every if one not in lost[topic]]
            publish(broker.bootstrap_servers, topic, [(symbol.encode(), value_of(symbol, n)) for symbol, n in kept])

    send(numbers[:2_000])
    job.kill_when(lambda: job.committed() > 0, workers=2)
    send(numbers[2_000:])
    job = replace(job, environment={**environment, "K2_RUN_TO_END": "true"})
    job.run(recovery=False)
    assert missing(job.settings) == lost
    both = lost[topics[0]] & lost[topics[1]]
    assert job.table().num_rows == len(numbers) * len(symbols) - len(both)
    sums = [one for one in by_feed(job.settings) if one.symbol is None]
    assert [one.lost_by_all for one in sums] == [len(both)] * 2
    assert [one.lost_alone for one in sums] == [300 - len(both)] * 2
    assert sum(one.stored for one in sums) == job.table().num_rows
    assert all(row.holds for row in reconcile(job.settings))
