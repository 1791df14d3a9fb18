"""The job on catalogs in PostgreSQL and behind REST, as its users configure and run it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from k2.kafka.producer import TradeProducer
from k2.ops.child_process import free_port
from k2.query.gaps import gaps
from k2.query.reconcile import reconcile
from tests.brokers import Broker
from tests.catalogs.fixtures import SERVED, CatalogNamespace, variables_of
from tests.catalogs.http_proxy import HttpProxy
from tests.catalogs.proxy import Fault
from tests.catalogs.servers import Server
from tests.flows.job import SECONDS_MAX, Job

AT_ONCE: Final = 50
COMMITS: Final = 6
"""The commit at which the job is killed, counting those of its start."""


@contextmanager
def _publishing(job: Job, topic: str) -> Iterator[list[int]]:
    """Publish trades continuously; yield their count, complete at the end."""
    published, is_over = [0], threading.Event()

    def publish() -> None:
        with TradeProducer(job.settings, topic) as producer:
            while not is_over.wait(0.05):
                for number in range(published[0] + 1, published[0] + AT_ONCE + 1):
                    producer.send(b"x|S", _trade(number))
                published[0] += AT_ONCE

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield published
    finally:
        is_over.set()
        thread.join()


def _trade(number: int) -> bytes:
    value = f'{{"exchange":"x","symbol":"S","sequence":{number},"price":"1","quantity":"1"'
    return f'{value},"timestamp":{1_700_000_000_000_000 + number}}}'.encode()


@pytest.mark.parametrize("namespace", SERVED, indirect=True)
def test_a_killed_job_stores_every_trade_once(broker: Broker, namespace: CatalogNamespace, tmp_path: Path) -> None:
    """Every third response to a commit is lost, and the job is killed and run again: each trade is one row."""
    proxy = namespace.proxy
    assert proxy is not None
    proxy.plan(cycle([None, None, Fault(lands=True, answer="reset")]))
    topic = broker.topic()
    live = Job(broker.bootstrap_servers, tmp_path, topic, {**namespace.variables, "K2_RUN_TO_END": "false"})
    with _publishing(live, topic) as published:
        live.kill_when(lambda: proxy.commits >= COMMITS)
    assert 0 < live.committed() < published[0]
    job = Job(broker.bootstrap_servers, tmp_path, topic, namespace.variables)
    job.run()
    assert job.table()["sequence"].sort().to_pylist() == list(range(1, published[0] + 1))
    assert gaps(job.settings) == []
    assert [row.holds for row in reconcile(job.settings)] == [True]


def test_a_catalog_that_denies_access_is_named(postgresql: Server, rest: Server, tmp_path: Path) -> None:
    """Exit code 2 if it rejects the credentials, 3 if it is absent: one sentence, no traceback."""
    port, nowhere = free_port(), Path("unused")
    refused = "catalog 'k2' refuses the credentials: "
    away = f"catalog 'k2' at 127.0.0.1:{port} cannot be reached: "
    with HttpProxy(rest.port, token="good") as proxy:  # noqa: S106  no secret
        cases = [
            (variables_of("postgresql", postgresql.port, nowhere, ("k2", "wrong")), 2, refused),
            (variables_of("rest", proxy.port, nowhere), 2, refused),
            (variables_of("postgresql", port, nowhere), 3, away),
            (variables_of("rest", port, nowhere), 3, away),
        ]
        # In parallel, because the jobs without a catalog retry for a while.
        jobs = [
            Job("127.0.0.1:1", tmp_path / str(number), "trades", variables).start(recovery=False)
            for number, (variables, _, _) in enumerate(cases)
        ]
        ends = [job.communicate(timeout=SECONDS_MAX)[0] for job in jobs]
    for job, said, (_, code, words) in zip(jobs, ends, cases, strict=True):
        assert (job.returncode, words in said, "Traceback" in said) == (code, True, False), said
