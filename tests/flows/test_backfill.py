"""A day with holes is filled from the venue's archive, through kills of the command and of the job."""

import json
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from k2.fill.archives import read_archive
from k2.fill.publishing import NUMBERED_VENUE, messages, publish
from k2.fill.selection import Symbol
from k2.model.progress import TopicPartition
from k2.query.reconcile import reconcile
from tests.brokers import Broker
from tests.fill.archive_files import binance_day, checksum, recorded
from tests.flows.job import Job, wait_until
from tests.flows.market import publish as publish_messages
from tests.query.tables import missing_now

HOLES: Final = (range(100, 101), range(250, 400), range(700, 900))
KEY: Final = b"binance|BTCUSDT"


def _backfill(job: Job, *arguments: str, failpoint: str = "") -> tuple[int, str, str]:
    done = job.k2("backfill", *arguments, failpoint=failpoint)
    return done.returncode, done.stdout, done.stderr


def _report(outcome: tuple[int, str, str]) -> dict[str, Any]:
    code, said, log = outcome
    assert code == 0, log
    (row,) = json.loads(said)
    return dict(row)


def test_a_day_is_filled_once_through_kills(broker: Broker, tmp_path: Path) -> None:
    """Every number of the day is stored once, those of the archive with its hash, whatever is killed or sent again."""
    lines = recorded("binance-spot-btcusdt-20240808")[:1_000]
    lost = {idx for hole in HOLES for idx in hole}
    archive = binance_day(tmp_path, lines)
    checksum(archive)
    topic, other = broker.topic(partitions=2), broker.topic()
    topics = f"{topic}=binance-spot,{other}=bybit"
    job = Job(broker.bootstrap_servers, tmp_path, topics, {"K2_RUN_TO_END": "false"}, log=tmp_path / "log")
    live = [(KEY, line) for idx, line in enumerate(lines) if idx not in lost]
    publish_messages(broker.bootstrap_servers, topic, live)
    ids = [line for line in recorded("bybit-v2-trade-20210417") if b"trade.BTCUSD" in line]
    lost_ids = [trade["trade_id"] for line in ids[20:25] for trade in json.loads(line)["data"]]
    known = sum(len(json.loads(line)["data"]) for line in ids) - len(lost_ids)
    publish_messages(broker.bootstrap_servers, other, [(b"bybit|BTCUSD", line) for line in [*ids[:20], *ids[25:]]])
    capture = tmp_path / "capture.ndjson"
    capture.write_bytes(b"\n".join(ids))
    process = job.start(recovery=False)
    try:
        wait_until(lambda: job.committed() == len(live) + known, "the live trades are not stored")
        assert _backfill(job, str(archive), failpoint="fill.sent:200")[0] == -9
        # Waits for what was sent before the kill, and publishes the rest.
        assert _backfill(job, str(archive), failpoint="fill.published")[0] == -9
        report = _report(_backfill(job, str(archive)))
        assert (report["published"], report["stored"], report["still_missing"]) == (0, 1_000, 0)
        for published in (len(lost_ids), 0):
            report = _report(_backfill(job, str(capture), "--venue", "bybit"))
            assert (report["published"], report["topic"]) == (published, other if published else None)
    finally:
        process.kill()
        process.communicate()
    # Published again behind the command's back, the copies are dropped by number.
    found = read_archive(archive)
    again = found.trades.filter([idx in lost for idx in range(len(lines))])
    to = TopicPartition(topic, job.table().filter(pc.field("exchange") == "binance")["partition"][0].as_py())
    publish(job.settings, Symbol("binance", "BTCUSDT"), to, NUMBERED_VENUE, "person test", messages("again", again))
    code, _, log = _backfill(job, str(archive), "--wait", "0")
    assert code == 1
    assert "and the job has committed it up to" in log
    job.environment["K2_RUN_TO_END"] = "true"
    job.run(recovery=False)
    stored = job.table().sort_by("sequence").to_pylist()
    rows = [row for row in stored if row["exchange"] == "binance"]
    assert [row["sequence"] for row in rows] == sorted(json.loads(line)["t"] for line in lines)
    filled = [row["sequence"] for row in rows if row["origin"] is not None]
    assert filled == sorted(json.loads(lines[idx])["t"] for idx in lost)
    assert {row["origin"] for row in rows} == {None, f"archive sha256:{found.sha256} {archive.name}"}
    of_ids = [row for row in stored if row["exchange"] == "bybit"]
    assert len({row["trade_id"] for row in of_ids}) == len(of_ids) == known + len(lost_ids)
    assert sorted(row["trade_id"] for row in of_ids if row["origin"]) == sorted(lost_ids)
    assert missing_now(job.settings) == []
    assert all(one.holds for one in reconcile(job.settings))
