"""The job with a warehouse and dead letters on S3."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.kafka.producer import TradeProducer
from k2.query.reconcile import reconcile
from k2.status.reader import StatusReader
from tests.brokers import Broker
from tests.catalogs.vending import vending
from tests.flows.job import SECONDS_MAX, Job
from tests.flows.market import publish, trade
from tests.flows.rescale import running
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


@pytest.mark.slow
def test_a_job_without_a_disk_counts_every_dead_letter_once(
    broker: Broker, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catalog behind REST, warehouse and dead letters on S3, no recovery store: killed at five places, run again.

    Every fifth message is a dead letter, exactly once, in what `k2 dlq`, `k2 reconcile` and `k2 status` read.
    """
    with vending(s3, tmp_path) as store:
        store.lifetime_seconds = 0
        variables = {
            **store.variables(),
            "PYICEBERG_CATALOG__K2__S3__ENDPOINT": s3.endpoint,
            "K2_DLQ_DIR": f"{store.warehouse}/dead-letters/",
        }
        topic, folder = broker.topic(), tmp_path / "none"
        job = Job(broker.bootstrap_servers, folder, topic, variables)
        for name, value in job.variables.items():
            monkeypatch.setenv(name, value)
        published = 0
        for failpoint in ("objects.write", "objects.written", "commit.staged", "commit.landed", "objects.remove"):
            live = {"K2_TEST_FAILPOINT": failpoint, "K2_RUN_TO_END": "false"}
            with running([replace(job, environment={**variables, **live})], recovery=False) as (process,):
                deadline = time.monotonic() + SECONDS_MAX
                while process.poll() is None and time.monotonic() < deadline:
                    publish(broker.bootstrap_servers, topic, [_message(published + number) for number in range(5)])
                    published += 5
                    time.sleep(0.3)
                assert process.wait(1) == -9
        job.run(recovery=False)
        assert sorted(letter.offset for letter in job.letters()) == [*range(0, published, 5)]
        assert [(row.dead_letters, row.stored, row.holds) for row in reconcile(job.settings)] == [
            (published // 5, published - published // 5, True)
        ]
        causes = {str(reason.cause) for reason in StatusReader(job.settings).read().reasons}
        assert "dead_letters_lost" not in causes
        said = CliRunner().invoke(app, ["dlq", "show", topic, "0", "5", "--value"]).stdout_bytes
        assert said == _message(5)[1]
        rows = CliRunner().invoke(app, ["sql", "SELECT count(*) AS n FROM dead_letters", "--json"]).stdout
        assert f'"n":{published // 5}' in rows.replace(" ", "")
    assert not folder.exists()


def _message(number: int) -> tuple[bytes, bytes]:
    return (b"x|S", b"not JSON %d" % number) if number % 5 == 0 else trade(number + 1)


def test_an_address_that_cannot_be_written_is_a_wrong_setting(
    broker: Broker, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`k2 run` and the job end with exit code 2 and one sentence, before anything is created."""
    variables = s3.variables(s3.bucket(), tmp_path / "catalog.db")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic(), {"K2_DLQ_DIR": "s3://no-such-bucket/dlq"})
    code, said = job.outcome(recovery=False)
    assert code == 2, said
    assert "K2_DLQ_DIR='s3://no-such-bucket/dlq': dead letters cannot be written there: " in said
    assert "create the bucket, or fix the address" in said
    for name, value in job.variables.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["run"])
    assert result.exit_code == 2
    assert result.stderr.startswith("k2: K2_DLQ_DIR='s3://no-such-bucket/dlq': dead letters cannot be written there: ")
    assert not (tmp_path / "data").exists()
