"""What the tables provide to a start whose own state is behind or lost."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from k2.iceberg.tables import TableName
from k2.model.key_groups import group_of
from k2.model.progress import TopicPartition
from k2.model.state_source import SessionKey, WantedContents
from k2.ops.settings import read_settings
from k2.query.gaps import gaps
from k2.restore.recovery_store import NO_STORE, ResumeInfo
from k2.restore.tables import TableStateSource
from k2.storage.catalog import open_catalog
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import publish
from tests.flows.market import trade as message
from tests.query.tables import EPOCH, append, made, progress, set_progress, trade


@pytest.mark.parametrize("resumed", [{}, {TopicPartition("trades", 0): 6}])
def test_foreign_rows_do_not_count_as_seen(resumed: dict[TopicPartition, int], tmp_path: Path) -> None:
    """A foreign row stays unseen in any file, also if a compaction puts it into one with the job's rows."""
    settings = read_settings({}, data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    foreign: dict[str, Any] = {"topic": "elsewhere"}
    append(
        table,
        [
            trade(7) | {"session": 1},
            trade(8) | {"session": 1} | foreign,
            trade(9) | {"sequence": None},
            trade(10) | {"sequence": None} | foreign,
        ],
    )
    set_progress(table, progress(offset=11, received=2, stored=2))
    history, group = TableStateSource(settings), group_of("binance", "BTCUSDT")
    history.report_positions(resumed)
    assert [(one.topic_partition.topic, one.ranges) for one in history.sessions(group)] == [("trades", ((7, 7),))]
    ids = list(history.ids(group, 10**12, is_resumed=False))
    assert [(one.topic_partition.topic, len(one.times)) for one in ids] == [("trades", 1)]


@pytest.mark.parametrize("resume_info", [NO_STORE, ResumeInfo(is_resumed=True)], ids=["no store", "peers have it"])
@pytest.mark.parametrize("resumed", [{}, {TopicPartition("trades", 0): 6}], ids=["all rows", "rows since"])
def test_reading_the_whole_table_is_a_metric(
    resume_info: ResumeInfo, resumed: dict[TopicPartition, int], tmp_path: Path
) -> None:
    """Also in a process of a cluster that cannot know whether the store of a peer has a state for it."""
    settings = read_settings({}, data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    append(table, [trade(7) | {"session": 1}])
    set_progress(table, progress(offset=8, received=1, stored=1))
    history = TableStateSource(settings, resume_info)
    assert REGISTRY.get_sample_value("k2_state_rebuilt") == 0
    history.report_positions(resumed)
    assert list(history.sessions(group_of("binance", "BTCUSDT")))
    assert REGISTRY.get_sample_value("k2_state_rebuilt") == (not resumed)


def test_contents_are_looked_up_by_number_and_age(tmp_path: Path) -> None:
    """Numbers that are required at any age are found however old; the lowest recent number is returned as well."""
    settings = read_settings({}, data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    ages = {7: 0, 8: 100, 9: 200}
    append(
        table,
        [
            trade(number) | {"session": 1, "sequence": number, "kafka_timestamp": EPOCH + timedelta(seconds=seconds)}
            for number, seconds in ages.items()
        ],
    )
    set_progress(table, progress(offset=10, received=3, stored=3))
    key = SessionKey("binance", "BTCUSDT", 1)
    floor = int((EPOCH + timedelta(seconds=100)).timestamp() * 1_000_000)
    history = TableStateSource(settings)
    for is_any_age, numbers in ((False, [8, 9]), (True, [7, 8, 9])):
        found = history.contents([WantedContents(key, 0, 255, 0, is_any_age)], floor)
        assert sorted(found.sequences.tolist()) == numbers
        assert found.lowest == {key: 8}
    assert history.committed(group_of("binance", "BTCUSDT")) == {TopicPartition("trades", 0): 10}


def test_missing_ledger_events_are_written_without_new_messages(broker: Broker, tmp_path: Path) -> None:
    """Ledger and store are lost and no message follows: the missing numbers are still recorded."""
    topic = broker.topic()
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    publish(broker.bootstrap_servers, topic, [message(number) for number in (1, 2, 5, 4)])
    job.run(recovery=False)
    assert job.table("sequence_events").num_rows == 3
    open_catalog(job.settings).drop_table(("market_data", "sequence_events"))
    for _ in range(2):
        job.run(recovery=False)
        assert [(gap.first_sequence, gap.last_sequence) for gap in gaps(job.settings)] == [(3, 3)]
        assert job.table("sequence_events").num_rows == 2
