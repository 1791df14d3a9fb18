"""`K2_START`: a new topic begins at its end or at a time, once and for all, and what was left out is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.kafka.producer import TradeProducer
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import assert_reconciled, publish, trade

HOUR_MS = 3_600_000
NOON_MS = 1_700_006_400_000
NOON = "2023-11-15T00:00:00Z"


def _rows(job: Job) -> list[tuple[str, int, int]]:
    rows = job.table().select(["topic", "partition", "offset"]).to_pylist()
    return sorted((row["topic"], row["partition"], row["offset"]) for row in rows)


def test_a_new_topic_begins_once(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes between two starts is read, also before any commit; reports name what was left out."""
    now, timed = broker.topic(name="now"), broker.topic(partitions=2, name="timed")
    publish(broker.bootstrap_servers, now, [trade(1), trade(2), trade(3)])
    first = Job(broker.bootstrap_servers, tmp_path, now, {"K2_START": "latest"})
    said = first.run()
    assert f'"partition": "{now}:0", "offset": 3, "origin": "K2_START"' in said
    publish(broker.bootstrap_servers, now, [trade(4), trade(5)])
    with TradeProducer(first.settings, timed) as producer:
        for number in range(4):
            key, value = trade(number + 10, "T")
            producer.send(key, value, partition=0, timestamp_ms=NOON_MS + (number - 2) * HOUR_MS)
        producer.send(*trade(20, "U"), partition=1, timestamp_ms=NOON_MS - 1)
    both = replace(first, topics=f"{now},{timed}", environment={"K2_START": NOON, "K2_WRITERS": "1"})
    said = both.run(workers=2)
    assert f'"partition": "{timed}:1"' in said.partition('"start_after_end"')[2]
    assert _rows(both) == [(now, 0, 3), (now, 0, 4), (timed, 0, 2), (timed, 0, 3)]
    assert_reconciled(both)
    for name, value in both.variables.items():
        monkeypatch.setenv(name, value)
    left_out = [
        f"{now}:0 0-2 (K2_START=latest)",
        f"{timed}:0 0-1 (K2_START={NOON})",
        f"{timed}:1 0-0 (K2_START={NOON})",
    ]
    k2 = CliRunner()
    status = json.loads(k2.invoke(app, ["status", "--json"]).stdout)
    assert (status["left_out"], status["unread"]) == (", ".join(left_out), 0)
    rows = json.loads(k2.invoke(app, ["reconcile", "--json"]).stdout)
    assert [(row["topic"], row["left_out"], row["holds"]) for row in rows] == [
        (now, 3, True),
        (timed, 2, True),
        (timed, 1, True),
    ]
    remarks = [one["remark"] or "" for one in json.loads(k2.invoke(app, ["audit", "--json"]).stdout)]
    assert f"left_out {', '.join(left_out[:2])}" in remarks[0]
    findings = json.loads(k2.invoke(app, ["doctor", "--json"]).stdout)
    assert next(one["text"] for one in findings if one["check"] == "progress").endswith(", ".join(left_out))
