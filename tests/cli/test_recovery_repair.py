"""The commands that an operator runs when the job refuses to continue by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import confluent_kafka
import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.iceberg.tables import TableName
from k2.kafka.producer import TradeProducer
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from tests.brokers import Broker
from tests.flows.job import Job
from tests.query.tables import made, missing_now


def k2(job: Job, *arguments: object) -> Result:
    """Run `k2 recovery` with a job's settings."""
    return CliRunner().invoke(app, ["recovery", *map(str, arguments)], env={"COLUMNS": "200", **job.variables})


def publish(job: Job, first: int, last: int) -> None:
    """Publish trades of one symbol with these numbers."""
    with TradeProducer(job.settings, job.topics) as producer:
        for number in range(first, last + 1):
            trade = {"exchange": "x", "symbol": "S", "sequence": number, "price": "1.5", "quantity": "2"}
            producer.send(b"x|S", json.dumps({**trade, "timestamp": 1_700_000_000_000_000 + number}).encode())


@pytest.mark.parametrize("recovery", [True, False])
def test_messages_that_expired_unread_are_abandoned_on_command(
    broker: Broker, tmp_path: Path, missing: Callable[[str], NoReturn], *, recovery: bool
) -> None:
    """The job stops and names the command; afterwards the loss is a gap in the ledger, and the sums hold."""
    if not broker.is_kafka:
        missing("Java and Maven: real Kafka, to delete records")
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic())
    publish(job, 1, 100)
    job.run(recovery=recovery)
    publish(job, 101, 200)
    where = confluent_kafka.TopicPartition(job.topics, 0, 150)
    admin = broker.admin()
    admin.delete_records([where])[where].result(20)
    code, said = job.outcome(recovery=recovery)
    assert code == 1
    assert "begins at offset 150, but 100 is to be read next" in said
    assert f"`k2 recovery skip {job.topics}:0 --yes`" in said
    assert k2(job, "skip", f"{job.topics}:0").exit_code == 2
    done = k2(job, "skip", f"{job.topics}:0", "--yes", "--json")
    assert json.loads(done.stdout) == {"partition": f"{job.topics}:0", "given_up_first": 100, "given_up_last": 149}
    job.run(recovery=recovery)
    assert sorted(job.table()["sequence"].to_pylist()) == [*range(1, 101), *range(151, 201)]
    assert [gap[3:] for gap in missing_now(job.settings)] == [(101, 150)]
    (row,) = reconcile(job.settings)
    assert (row.received, row.stored, row.holds) == (150, 150, True)


def test_abandoned_offsets_are_not_read_even_if_they_exist(broker: Broker, tmp_path: Path) -> None:
    """An older recovery store changes nothing: abandoned trades are a gap, bad messages no dead letters; sums hold."""
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic())
    publish(job, 1, 100)
    job.run()
    for number in (101, 151):
        with TradeProducer(job.settings, job.topics) as producer:
            producer.send(b"x|S", b"{")
        publish(job, number + 1, number + 49)
    assert k2(job, "skip", f"{job.topics}:0", "--to", 150, "--yes").exit_code == 0
    job.run()
    assert [gap[3:] for gap in missing_now(job.settings)] == [(101, 151)]
    assert [letter.offset for letter in job.letters()] == [150]
    (row,) = reconcile(job.settings)
    assert (row.received, row.stored, row.dead_letters, row.holds) == (150, 149, 1, True)


def test_a_rollback_is_undone_by_command(broker: Broker, tmp_path: Path) -> None:
    """The job rejects a table that was rolled back and names the command; afterwards it continues, nothing lost."""
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic())
    publish(job, 1, 50)
    job.run()
    publish(job, 51, 100)
    job.run()
    table = job.iceberg()
    table.manage_snapshots().rollback_to_snapshot(table.history()[0].snapshot_id).commit()
    code, said = job.outcome()
    assert (code, "`k2 recovery roll-forward`" in said) == (1, True)
    done = json.loads(k2(job, "roll-forward", "--json").stdout)
    assert done == {"trades": table.history()[1].snapshot_id, "sequence_events": None, "commits": None}
    publish(job, 101, 120)
    job.run()
    assert sorted(job.table()["sequence"].to_pylist()) == list(range(1, 121))


def test_a_dropped_ledger_is_rebuilt(broker: Broker, tmp_path: Path) -> None:
    """With the old recovery store the job refuses; without one the ledger records again what is missing."""
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic())
    publish(job, 1, 10)
    publish(job, 15, 20)
    job.run()
    before = missing_now(job.settings)
    open_catalog(job.settings).drop_table("market_data.sequence_events")
    code, said = job.outcome()
    assert (code, "sequence_events was dropped and recreated" in said) == (1, True)
    publish(job, 21, 22)
    job.run(recovery=False)
    assert missing_now(job.settings) == before != []
    code, said = job.outcome()
    assert (code, "the recovery store is of another table than market_data.sequence_events" in said) == (1, True)
    job.run(recovery=False)
    assert missing_now(job.settings) == before
    assert job.table("sequence_events").num_rows == 2


@pytest.mark.parametrize(
    "partition", ["trades", "trades:", ":0", "trades:x", "trades:-1", "trades:\N{SUPERSCRIPT TWO}", ""]
)
def test_an_invalid_partition_is_rejected(tmp_path: Path, partition: str) -> None:
    """Before a broker or catalog is contacted."""
    result = k2(Job("127.0.0.1:1", tmp_path, "trades"), "skip", partition, "--yes")
    assert result.exit_code == 2
    assert repr(partition) in result.stderr


def test_offsets_are_abandoned_only_within_the_partition(broker: Broker, tmp_path: Path) -> None:
    """A mistyped topic, partition or offset is rejected, and the table is unchanged."""
    job = Job(broker.bootstrap_servers, tmp_path, broker.topic(partitions=1))
    publish(job, 1, 10)
    made(job.settings, TableName.TRADES)
    before = job.iceberg().properties
    for arguments, says in (
        (["other:0"], "topic is not in K2_TOPICS: 'other'"),
        ([f"{job.topics}:1"], f"unknown partition: {job.topics}:1"),
        ([f"{job.topics}:{'9' * 30}"], "unknown partition"),
        ([f"{job.topics}:0", "--to", "11"], f"--to 11: {job.topics}:0 ends at offset 10"),
        ([f"{job.topics}:0", "--to", "9" * 30], "Invalid value for '--to'"),
    ):
        result = k2(job, "skip", *arguments, "--yes")
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr
    assert job.iceberg().properties == before


def test_nothing_is_created_without_a_table(tmp_path: Path) -> None:
    """A wrong namespace or folder is named, and no table is created."""
    job = Job("127.0.0.1:1", tmp_path, "trades")
    for arguments in (["skip", "trades:0", "--to", "5", "--yes"], ["roll-forward"]):
        result = k2(job, *arguments)
        assert (result.exit_code, "no table market_data.trades" in result.stderr) == (2, True)
    assert not (tmp_path / "data").exists()
