"""The job on machines that share nothing but a REST catalog and S3: neither recovery store nor disk."""

from pathlib import Path

import pytest

from k2.ops.settings import Settings
from k2.query.reconcile import reconcile
from tests.brokers import Broker
from tests.catalogs.vending import vending
from tests.flows.job import Job
from tests.flows.market import publish, trade
from tests.query.tables import missing_now
from tests.s3 import S3

PLACES = ("trades.snapshot", "events.committed", "checkpoint.written", "trades.closing")
"""Where the processes are killed, one after the other."""


def test_each_machine_goes_on_where_the_other_was_killed(
    broker: Broker, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed and started in the other's place, in turn: each trade is one row, and each gap is in the ledger."""
    topic = broker.topic(partitions=2)
    with vending(s3, tmp_path) as catalog:
        for name, value in catalog.variables().items():
            monkeypatch.setenv(name, value)
        machines = [Job(broker.bootstrap_servers, tmp_path / name, topic) for name in ("one", "other")]
        expected: set[tuple[str, int]] = set()
        for turn, place in enumerate((*PLACES, None)):
            numbers = [number for number in range(100 * turn + 1, 100 * turn + 101) if number % 50 != 7]
            if turn:
                numbers += [100 * turn - 93, 100 * turn]
            publish(
                broker.bootstrap_servers, topic, [trade(number, f"S{one}") for number in numbers for one in range(6)]
            )
            expected |= {(f"S{one}", number) for number in numbers for one in range(6)}
            machine = machines[turn % 2]
            machine.environment = {} if place is None else {"K2_TEST_FAILPOINT": place}
            code, said = machine.outcome(recovery=False, workers=1 + turn % 2)
            assert code == (0 if place is None else -9), said
            assert ("checkpoints_read" in said) == (turn > 0), said
        rows = machines[0].table().select(["symbol", "sequence"]).to_pylist()
        stored = [(row["symbol"], row["sequence"]) for row in rows]
        assert sorted(stored) == sorted(expected)
        settings: Settings = machines[0].settings
        gone = [number for number in range(1, 501) if ("S0", number) not in expected]
        assert [one[3:] for one in missing_now(settings) if one[1] == "S0"] == [(number, number) for number in gone]
        assert all(row.holds for row in reconcile(settings))
