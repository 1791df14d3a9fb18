"""The job goes on in a data folder that `k2 catalog move` copied, as if nothing had been moved."""

import shutil
from pathlib import Path

from k2.storage.catalog_move import move
from k2.storage.recovery.backup import back_up
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import assert_same, market, publish


def test_the_job_goes_on_in_a_moved_folder(broker: Broker, tmp_path: Path) -> None:
    """With the recovery store or without one, it has the rows, dead letters and gaps of an undisturbed run."""
    topic, messages = broker.topic(partitions=2), market(symbols=12, rounds=60)
    half = len(messages) // 2
    before = Job(broker.bootstrap_servers, tmp_path / "before", topic)
    with_store, without = (Job(broker.bootstrap_servers, tmp_path / name, topic) for name in ("store", "none"))
    publish(broker.bootstrap_servers, topic, messages[:half])
    before.run()
    for after in (with_store, without):
        moved = move(before.settings, after.settings.data_dir)
        assert [one.metadata.current_snapshot_id for one in moved.tables if one.name == "market_data.trades"] == [
            before.iceberg().metadata.current_snapshot_id
        ]
    back_up(before.recovery, with_store.folder / "recovery")
    shutil.rmtree(before.folder)
    publish(broker.bootstrap_servers, topic, messages[half:])
    with_store.run()
    assert "checkpoints_read" in without.run(recovery=False)
    quiet = Job(broker.bootstrap_servers, tmp_path / "quiet", topic)
    quiet.run()
    for after in (with_store, without):
        assert_same(after, quiet)
