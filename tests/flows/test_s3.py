"""The job with a warehouse on S3."""

from pathlib import Path

import pytest

from k2.kafka.producer import TradeProducer
from k2.query.reconcile import reconcile
from tests.brokers import Broker
from tests.flows.job import Job
from tests.query.tables import missing_now
from tests.s3 import S3

NUMBERS = [*range(1, 101), *range(50, 60), *range(111, 201)]
"""The published numbers: ten twice, and ten missing."""


def test_a_job_killed_at_a_commit_stores_every_trade_once(
    broker: Broker, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its first commit of rows, and run again: each trade is one row, and the gap is recorded."""
    for name, value in s3.variables(s3.bucket(), tmp_path / "catalog.db").items():
        monkeypatch.setenv(name, value)
    topic = broker.topic()
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    with TradeProducer(job.settings, topic) as producer:
        for number in NUMBERS:
            value = f'{{"exchange":"x","symbol":"S","sequence":{number},"price":"1","quantity":"1"'
            producer.send(b"x|S", f'{value},"timestamp":{1_700_000_000_000_000 + number}}}'.encode())
    code, said = Job(broker.bootstrap_servers, tmp_path, topic, {"K2_TEST_FAILPOINT": "commit.landed"}).outcome()
    assert code == -9, said
    job.run()
    assert job.table()["sequence"].sort().to_pylist() == sorted({*NUMBERS})
    assert all(file.startswith("s3://") for file in job.files())
    assert missing_now(job.settings) == [("x", "S", 1, 101, 110)]
    assert [(row.received, row.duplicates, row.holds) for row in reconcile(job.settings)] == [(200, 10, True)]
