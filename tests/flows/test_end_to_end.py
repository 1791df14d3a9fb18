"""The job on a broker, as its users run it: real trades in, rows and dead letters out, whatever is killed."""

import gzip
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from connectors.kafka.producer import TradeProducer
from query.reports import gaps, reconcile
from runtime.child import free_port
from tests.brokers import Broker
from tests.flows.job import ROOT, Job

CAPTURE: Final = ROOT / "tests" / "data" / "binance-spot-btcusdt-20240808.ndjson.gz"
FIRST_TIME: Final = 1_700_000_000_000_000
EPOCH_TICKS_PER_MILLISECOND: Final = 1000


@pytest.fixture(scope="module")
def capture() -> list[bytes]:
    """The real trades, a line each."""
    return gzip.decompress(CAPTURE.read_bytes()).splitlines()


def _produce(broker: Broker, topic: str, *files: Path, partitions: int = 2) -> None:
    """Publish files as users do."""
    command = [sys.executable, "-m", "cli", "produce", *map(str, files), "--topic", topic]
    subprocess.run(
        [*command, "--venue", "binance-spot", "--partitions", str(partitions)],
        cwd=ROOT,
        env={"PATH": "", "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        check=True,
        timeout=120,
    )


def _job(broker: Broker, folder: Path, topic: str, venue: str = "k2", **environment: str) -> Job:
    return Job(broker.bootstrap_servers, folder, f"{topic}={venue}", environment)


def _assert_reconciled(job: Job) -> None:
    rows = reconcile(job.settings)
    assert rows
    assert all(row.holds for row in rows), rows


def _expected(line: bytes) -> dict[str, Any]:
    trade = json.loads(line)
    return {
        "exchange": "binance",
        "symbol": trade["s"],
        "trade_id": str(trade["t"]),
        "sequence": trade["t"],
        "price": Decimal(trade["p"]),
        "quantity": Decimal(trade["q"]),
        "side": "sell" if trade["m"] else "buy",
        "timestamp": trade["T"] * EPOCH_TICKS_PER_MILLISECOND,
        "index": 0,
    }


def _comparable(table: pa.Table) -> list[dict[str, Any]]:
    """Give the rows in the order of their sequences, times as microseconds."""
    table = table.set_column(
        table.schema.get_field_index("timestamp"), "timestamp", table["timestamp"].cast(pa.int64())
    )
    rows: list[dict[str, Any]] = table.sort_by("sequence").to_pylist()
    return rows


def test_real_trades_come_out_digit_for_digit(broker: Broker, tmp_path: Path, capture: list[bytes]) -> None:
    """9,757 real trades are 9,757 rows: every digit, time, side and number, and no gap."""
    topic = broker.topic(partitions=2)
    _produce(broker, topic, CAPTURE)
    job = _job(broker, tmp_path, topic, "binance-spot")
    job.run()
    rows = _comparable(job.table())
    assert len(rows) == len(capture) == 9_757
    for row, line in zip(rows, capture, strict=True):
        expected = _expected(line)
        assert {name: row[name] for name in expected} == expected
        assert row["session"] == 1
    assert gaps(job.settings) == []
    assert job.letters() == []
    _assert_reconciled(job)


def test_exactly_the_faults_that_were_put_in_are_found(broker: Broker, tmp_path: Path, capture: list[bytes]) -> None:
    """Every 100th twice, every 500th left out, every 1,000th cut in half: those, and no others."""
    published, cut, left_out, twice = [], [], [], 0
    for number, line in enumerate(capture, start=1):
        if number % 1_000 == 0:
            cut.append(line[: len(line) // 2])
            left_out.append(json.loads(line)["t"])
            published.append(cut[-1])
        elif number % 500 == 0:
            left_out.append(json.loads(line)["t"])
        else:
            published += [line] * (2 if number % 100 == 0 else 1)
            twice += number % 100 == 0
    file = tmp_path / "faulty.ndjson"
    file.write_bytes(b"\n".join(published) + b"\n")
    topic = broker.topic(partitions=1)
    _produce(broker, topic, file, partitions=1)
    job = _job(broker, tmp_path, topic, "binance-spot")
    job.run(workers=2)
    (row,) = reconcile(job.settings)
    assert (row.received, row.stored, row.duplicates, row.dead_letters, row.skipped, row.holds) == (
        len(published),
        len(capture) - len(left_out),
        twice,
        len(cut),
        0,
        True,
    )
    assert [letter.value_bytes() for letter in job.letters()] == cut
    assert {letter.reason for letter in job.letters()} == {"malformed"}
    missing = [(gap.first_sequence, gap.last_sequence, gap.missing) for gap in gaps(job.settings)]
    assert missing == [(number, number, 1) for number in left_out]


def _market(symbols: int, rounds: int) -> list[tuple[bytes, bytes]]:
    """Give a market with faults of every kind, as keys and values."""
    messages: list[tuple[bytes, bytes]] = []
    for number in range(1, rounds + 1):
        for symbol in range(symbols):
            place = number * symbols + symbol
            if place % 97 == 0:
                continue
            sequence: int | None = number if symbol % 5 else None
            trade = {"exchange": f"x{symbol % 3}", "symbol": f"S{symbol}", "sequence": sequence}
            trade |= {"trade_id": f"{symbol}-{number}", "price": f"{place}.{number:03d}", "quantity": "0.5"}
            trade |= {"side": "sell", "timestamp": FIRST_TIME + place}
            key, value = f"x{symbol % 3}|S{symbol}".encode(), json.dumps(trade).encode()
            messages += [(key, value)] * (2 if place % 53 == 0 else 1)
            if place % 211 == 0:
                messages.append((key, value[:-5]))
    return messages


def _publish(broker: Broker, topic: str, messages: Iterable[tuple[bytes, bytes]]) -> None:
    settings = Job(broker.bootstrap_servers, Path(), topic).settings
    with TradeProducer(settings, topic) as producer:
        for key, value in messages:
            producer.send(key, value)


class _Ahead:
    """Messages handed out only so far ahead of what is committed, so that every kill comes in the middle."""

    def __init__(self, messages: Sequence[tuple[bytes, bytes]], ahead: int) -> None:
        self._messages, self._ahead = messages, ahead
        self.committed = 0
        self.hurry = threading.Event()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for place, message in enumerate(self._messages):
            while place > self.committed + self._ahead and not self.hurry.wait(0.01):
                pass
            yield message


CONTENT: Final = [
    "exchange",
    "symbol",
    "trade_id",
    "sequence",
    "session",
    "price",
    "quantity",
    "side",
    "timestamp",
    "topic",
    "partition",
    "offset",
    "index",
    "kafka_timestamp",
]


def _content(job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        job.table().select(CONTENT).sort_by([("partition", "ascending"), ("offset", "ascending")]).to_pylist()
    )
    return rows


@pytest.mark.parametrize("writers", ["1", "2"])
def test_killed_and_rescaled_it_gives_the_same_table(broker: Broker, tmp_path: Path, writers: str) -> None:
    """SIGKILL in the middle, thrice, each time on with another number of workers: row for row what one run gives."""
    topic = broker.topic(partitions=3)
    messages = _market(symbols=60, rounds=500)
    live = _job(broker, tmp_path / "killed", topic, K2_RUN_TO_END="false", K2_WRITERS=writers)
    source = _Ahead(messages, 4_000)
    publisher = threading.Thread(target=_publish, args=(broker, topic, source))
    publisher.start()
    for workers in (1, 2, 3):
        before = source.committed

        def reached(before: int = before) -> bool:
            source.committed = live.committed()
            return source.committed > before + 2_000

        live.kill_when(reached, workers=workers)
    assert 6_000 < live.committed() < len(messages)
    source.hurry.set()
    publisher.join()
    killed = _job(broker, tmp_path / "killed", topic, K2_WRITERS=writers)
    killed.run(workers=1)
    whole = _job(broker, tmp_path / "whole", topic, K2_WRITERS=writers)
    whole.run(workers=2)
    assert _content(killed) == _content(whole)
    assert _letters(killed) == _letters(whole)
    assert gaps(killed.settings) == gaps(whole.settings)
    assert sum(row.received for row in reconcile(killed.settings)) == len(messages)
    _assert_reconciled(killed)
    _assert_reconciled(whole)


@pytest.mark.parametrize("writers", ["1", "3"])
def test_processes_share_the_work(broker: Broker, tmp_path: Path, writers: str) -> None:
    """Two processes of two workers, killed together in the middle, then one: row for row what one run gives."""
    topic = broker.topic(partitions=3)
    messages = _market(symbols=60, rounds=300)
    live = _job(broker, tmp_path / "shared", topic, K2_RUN_TO_END="false", K2_WRITERS=writers)
    source = _Ahead(messages, 4_000)
    publisher = threading.Thread(target=_publish, args=(broker, topic, source))
    publisher.start()
    addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    peer = live.start(workers=2, process=1, addresses=addresses)

    def reached() -> bool:
        source.committed = live.committed()
        return source.committed > 3_000

    live.kill_when(reached, workers=2, process=0, addresses=addresses)
    said, _ = peer.communicate(timeout=60)
    assert peer.returncode, said
    source.hurry.set()
    publisher.join()
    shared = _job(broker, tmp_path / "shared", topic, K2_WRITERS=writers)
    shared.run(workers=1)
    whole = _job(broker, tmp_path / "whole", topic, K2_WRITERS=writers)
    whole.run(workers=1)
    assert _content(shared) == _content(whole)
    assert _letters(shared) == _letters(whole)
    _assert_reconciled(shared)


def _letters(job: Job) -> list[tuple[object, ...]]:
    return sorted((letter.partition, letter.offset, letter.value, letter.error) for letter in job.letters())


@pytest.mark.parametrize("recovery", [True, False])
def test_a_second_start_doubles_nothing(broker: Broker, tmp_path: Path, *, recovery: bool) -> None:
    """With its recovery store it goes on; without one the table's progress tells what is in, and it is said."""
    topic = broker.topic(partitions=2)
    messages = _market(symbols=20, rounds=100)
    half = len(messages) // 2
    job = _job(broker, tmp_path, topic)
    _publish(broker, topic, messages[:half])
    job.run(recovery=recovery)
    _publish(broker, topic, messages[half:])
    said = job.run(recovery=recovery)
    assert ("recovery store" if recovery else '"origin": "table"') in said
    once = _job(broker, tmp_path / "once", topic)
    once.run()
    assert _content(job) == _content(once)
    assert _letters(job) == _letters(once)
    assert gaps(job.settings) == gaps(once.settings)
    _assert_reconciled(job)


def test_an_epoch_without_messages_commits_nothing(broker: Broker, tmp_path: Path) -> None:
    """An empty topic makes tables and no snapshot; a second run over what is in adds none."""
    topic = broker.topic(partitions=2)
    job = _job(broker, tmp_path, topic)
    job.run()
    assert job.table().num_rows == 0
    _publish(broker, topic, _market(symbols=5, rounds=10))
    job.run()
    snapshots = job.snapshots()
    job.run()
    assert job.snapshots() == snapshots > 0


def test_lag_tools_see_the_job(broker: Broker, tmp_path: Path) -> None:
    """The consumer group's offsets are those of the table, after it has them."""
    topic = broker.topic(partitions=2)
    messages = _market(symbols=5, rounds=50)
    _publish(broker, topic, messages)
    job = _job(broker, tmp_path, topic)
    job.run()
    assert sum(broker.group_offsets("k2-market_data", topic).values()) == len(messages)


def test_several_topics_have_their_own_venues(broker: Broker, tmp_path: Path, capture: list[bytes]) -> None:
    """A canonical topic and one of Binance's go into one table."""
    canonical, binance = broker.topic(partitions=1), broker.topic(partitions=1)
    _publish(broker, canonical, _market(symbols=2, rounds=10))
    _produce(broker, binance, CAPTURE, partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, f"{canonical},{binance}=binance-spot")
    job.run(workers=2)
    counts = Counter(job.table()["topic"].to_pylist())
    assert counts[binance] == len(capture)
    assert set(counts) == {canonical, binance}
    _assert_reconciled(job)


def test_the_time_zone_of_the_machine_is_nothing_to_it(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are UTC, and land in the day of UTC, whatever TZ says."""
    topic = broker.topic(partitions=1)
    value = (
        b'{"exchange":"x","symbol":"S","sequence":1,"price":"1","quantity":"1",'
        b'"timestamp":"2026-03-01T23:30:00.000001+00:00"}'
    )
    _publish(broker, topic, [(b"x|S", value)])
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    job = _job(broker, tmp_path, topic)
    job.run()
    assert job.table()["timestamp"].cast(pa.int64()).to_pylist() == [1_772_407_800_000_001]
    assert any("2026-03-01" in file for file in job.files())
