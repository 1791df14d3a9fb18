"""The canary of a real job: published by one process of a cluster, and continued after a crash."""

import urllib.request
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from k2.cli.main import app
from k2.ops.child_process import free_port
from k2.query.completeness import by_day
from k2.query.reconcile import reconcile
from k2.status.reader import StatusReader
from tests.brokers import Broker, read_topic
from tests.flows.job import Job, wait_until
from tests.flows.market import publish, trade
from tests.flows.rescale import running
from tests.query.tables import missing_now

REAL_GAP = ("x", "S", 1, 6, 6)


def canary_metrics(port: int) -> dict[str, float]:
    """Return the canary's metrics of a process; none if it does not serve yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
    except OSError:
        return {}
    samples = (sample for family in families for sample in family.samples)
    return {one.name.removeprefix("k2_canary_"): one.value for one in samples if one.name.startswith("k2_canary_")}


@pytest.mark.slow
def test_a_canary_is_measured_end_to_end(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes are killed and started again: one publishes, numbers continue, and each hundredth is a gap.

    The gap of a real symbol counts in `k2 status`, and the canary's do not.
    """
    topic, canary = broker.topic(), broker.topic()
    variables = {
        "K2_RUN_TO_END": "false",
        "K2_WRITERS": "2",
        "K2_CANARY_TOPIC": canary,
        "K2_CANARY_INTERVAL_SECONDS": "0.02",
    }
    job = Job(broker.bootstrap_servers, tmp_path, f"{topic},{canary}", variables)
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(1, 11) if number != 6])
    last = 0.0
    for _ in range(2):
        ports = [free_port(), free_port()]
        cluster = [replace(job, environment={**variables, "K2_METRICS_PORT": str(port)}) for port in ports]
        found: list[dict[str, float]] = []

        def is_seen(found: list[dict[str, float]] = found, ports: list[int] = ports) -> bool:
            found[:] = [canary_metrics(port) for port in ports]
            return any(one.get("gaps_seen", 0) >= 1 for one in found)

        with running(cluster):
            wait_until(is_seen, f"no gap of the canary is seen: {found}")
        publishing, other = sorted(found, key=lambda one: -one["last_sequence"])
        assert publishing["last_sequence"] > last
        assert 0 < publishing["seconds"] < 30
        assert other["last_sequence"] == 0
        last = publishing["last_sequence"]
    Job(broker.bootstrap_servers, tmp_path, job.topics, {"K2_WRITERS": "2"}).run()
    rows = job.table()
    numbers = rows.filter(pc.equal(rows["exchange"], "k2-canary"))["sequence"].sort().to_pylist()
    assert numbers == [number for number in range(1, numbers[-1] + 1) if number % 100]
    assert numbers[-1] >= last > 200
    left_out = [("k2-canary", "market_data", 1, number, number) for number in range(100, numbers[-1], 100)]
    assert sorted(missing_now(job.settings)) == [*left_out, REAL_GAP]
    assert len(read_topic(broker, canary)) >= len(numbers)
    assert all(row.holds for row in reconcile(job.settings))
    status = StatusReader(job.settings).read()
    assert (status.missing, status.canary_left_out) == (1, len(left_out))
    assert {one.exchange: one.missing for one in by_day(job.settings)} == {"k2-canary": 0, "x": 1}
    for name, value in job.variables.items():
        monkeypatch.setenv(name, value)
    said = CliRunner().invoke(app, ["status"]).stdout
    assert f"canary        {len(left_out)} numbers that it left out on purpose, which do not count" in said
