"""The job on a broker, as its users run it: real trades in, rows and dead letters out, through kills."""

import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from k2.query.gaps import gaps
from k2.query.reconcile import reconcile
from tests.brokers import Broker
from tests.flows.job import ROOT, Job, wait_until
from tests.flows.market import assert_reconciled, assert_same, market, publish
from tests.flows.rescale import running

CAPTURE: Final = ROOT / "tests" / "data" / "binance-spot-btcusdt-20240808.ndjson.gz"
EPOCH_TICKS_PER_MILLISECOND: Final = 1000


@pytest.fixture(scope="module")
def capture() -> list[bytes]:
    """The real trades, one line each."""
    return gzip.decompress(CAPTURE.read_bytes()).splitlines()


def _produce(broker: Broker, topic: str, *files: Path, partitions: int = 2) -> None:
    """Publish files as users do."""
    command = [sys.executable, "-m", "k2.cli", "produce", *map(str, files), "--topic", topic]
    subprocess.run(
        [*command, "--venue", "binance-spot", "--partitions", str(partitions)],
        cwd=ROOT,
        env={"PATH": "", "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        check=True,
        timeout=120,
    )


def _job(broker: Broker, folder: Path, topic: str, venue: str = "k2", **environment: str) -> Job:
    return Job(broker.bootstrap_servers, folder, f"{topic}={venue}", environment)


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
    """Return the rows sorted by sequence, times as microseconds."""
    table = table.set_column(
        table.schema.get_field_index("timestamp"), "timestamp", table["timestamp"].cast(pa.int64())
    )
    rows: list[dict[str, Any]] = table.sort_by("sequence").to_pylist()
    return rows


def test_real_trades_are_stored_digit_for_digit(broker: Broker, tmp_path: Path, capture: list[bytes]) -> None:
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
    assert_reconciled(job)


def test_exactly_the_injected_faults_are_found(broker: Broker, tmp_path: Path, capture: list[bytes]) -> None:
    """Every 100th twice, every 500th left out, every 1,000th truncated: these and no others."""
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


@pytest.mark.parametrize("recovery", [True, False])
def test_a_second_start_doubles_nothing(broker: Broker, tmp_path: Path, *, recovery: bool) -> None:
    """With its recovery store the job resumes; without one it resumes from the table's progress and logs that."""
    topic = broker.topic(partitions=2)
    messages = market(symbols=20, rounds=100)
    half = len(messages) // 2
    job = _job(broker, tmp_path, topic)
    publish(broker.bootstrap_servers, topic, messages[:half])
    job.run(recovery=recovery)
    publish(broker.bootstrap_servers, topic, messages[half:])
    said = job.run(recovery=recovery)
    assert ("recovery store" if recovery else '"origin": "table"') in said
    once = _job(broker, tmp_path / "once", topic)
    once.run()
    assert_same(job, once)


def test_epochs_without_messages_commit_nothing(broker: Broker, tmp_path: Path) -> None:
    """An empty topic makes tables and no snapshot; idle epochs and a second run over stored messages change nothing."""
    topic = broker.topic(partitions=2)
    job = _job(broker, tmp_path, topic)
    job.run()
    assert (job.table().num_rows, job.snapshots(), job.snapshots("sequence_events")) == (0, 0, 0)
    messages = market(symbols=5, rounds=50)
    publish(broker.bootstrap_servers, topic, messages)
    with running([replace(job, environment={"K2_RUN_TO_END": "false"})]):
        wait_until(lambda: job.committed() == len(messages), "nothing is committed")
        # Epochs last one second: the one with the last messages is closed, and so are two more.
        time.sleep(1.5)
        before = _left_behind(job)
        time.sleep(2.5)
        assert _left_behind(job) == before
    job.run()
    assert _left_behind(job) == before
    assert min(job.snapshots(), job.snapshots("sequence_events"), len(job.letters())) > 0


def _left_behind(job: Job) -> list[object]:
    """Return what a commit would change: the tables' metadata, and the dead letters with their file times."""
    tables = [job.iceberg(name).metadata_location for name in ("trades", "sequence_events")]
    files = job.settings.dead_letter_folder.glob("*.jsonl")
    return [*tables, *sorted((file.name, file.read_bytes(), file.stat().st_mtime_ns) for file in files)]


def test_lag_tools_see_the_job(broker: Broker, tmp_path: Path) -> None:
    """The consumer group's offsets follow those committed to the table."""
    topic = broker.topic(partitions=2)
    messages = market(symbols=5, rounds=50)
    publish(broker.bootstrap_servers, topic, messages)
    job = _job(broker, tmp_path, topic)
    job.run()
    assert sum(broker.group_offsets("k2-market_data", topic).values()) == len(messages)


def test_several_topics_have_their_own_venues(broker: Broker, tmp_path: Path, capture: list[bytes]) -> None:
    """A canonical topic and a Binance topic are stored in one table."""
    canonical, binance = broker.topic(partitions=1), broker.topic(partitions=1)
    publish(broker.bootstrap_servers, canonical, market(symbols=2, rounds=10))
    _produce(broker, binance, CAPTURE, partitions=1)
    job = Job(broker.bootstrap_servers, tmp_path, f"{canonical},{binance}=binance-spot")
    job.run(workers=2)
    counts = Counter(job.table()["topic"].to_pylist())
    assert counts[binance] == len(capture)
    assert set(counts) == {canonical, binance}
    assert_reconciled(job)


def test_the_time_zone_of_the_machine_has_no_effect(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are UTC, and partitions are days of UTC, whatever TZ says: these two are one day in Tokyo."""
    topic = broker.topic(partitions=1)
    times = ["2026-03-01T23:30:00.000001+00:00", "2026-03-02T09:30:00+09:00"]
    for number, text in enumerate(times, start=1):
        trade = {"exchange": "x", "symbol": "S", "sequence": number, "price": "1", "quantity": "1", "timestamp": text}
        publish(broker.bootstrap_servers, topic, [(b"x|S", json.dumps(trade).encode())])
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    job = _job(broker, tmp_path, topic)
    job.run()
    found = job.table().sort_by("sequence")["timestamp"].cast(pa.int64()).to_pylist()
    assert found == [1_772_407_800_000_001, 1_772_411_400_000_000]
    files = {task.file.file_path: task.file.partition[0] for task in job.iceberg().scan().plan_files()}
    days = {day.isoformat(): (day - date(1970, 1, 1)).days for day in (date(2026, 3, 1), date(2026, 3, 2))}
    assert sorted(files.values()) == sorted(days.values())
    assert all(f"timestamp_day={day}/" in "".join(path for path in files if files[path] == days[day]) for day in days)
