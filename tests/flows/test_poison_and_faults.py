"""Invalid messages and faults of the environment are never mistaken for each other."""

import time
from dataclasses import replace
from pathlib import Path

from tests.brokers import Broker
from tests.flows.job import Job, wait_until
from tests.flows.market import Message, assert_reconciled, content, publish, trade
from tests.flows.rescale import running

POISON = (b"x", b'{"exchange": "x", "symbol": "S"')
SECONDS_MAX = 60


def _with_poison(first: int, stop: int) -> list[Message]:
    """Return trades with an unreadable message after every tenth."""
    return [
        one
        for number in range(first, stop)
        for one in ([trade(number), POISON] if number % 10 == 0 else [trade(number)])
    ]


def test_a_fault_stops_the_stream_and_makes_no_dead_letters(broker: Broker, tmp_path: Path) -> None:
    """While the warehouse is away only the poison is a dead letter and nothing is committed; later all is, once."""
    topic = broker.topic()
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    warehouse = job.settings.data_dir / "warehouse"
    away = warehouse.with_name("away")
    before, during = _with_poison(1, 101), _with_poison(101, 201)
    publish(broker.bootstrap_servers, topic, before)
    with running([replace(job, environment={"K2_RUN_TO_END": "false"})]) as (process,):
        wait_until(lambda: job.committed() == len(before), "the first part is not committed")
        warehouse.rename(away)
        warehouse.write_text("a file where a folder is wanted")
        publish(broker.bootstrap_servers, topic, during)
        time.sleep(3)
        warehouse.unlink()
        away.rename(warehouse)
        assert job.committed() == len(before)
        wait_until(lambda: job.committed() == len(before) + len(during), "it does not go on")
        assert process.poll() is None
    job.run()
    _assert_only_poison_set_aside(job, before + during)


def test_a_transient_fault_loses_no_row(broker: Broker, tmp_path: Path) -> None:
    """A data file that cannot be written on the first try is written on the next, with every row."""
    topic = broker.topic()
    messages = _with_poison(1, 101)
    publish(broker.bootstrap_servers, topic, messages)
    job = Job(broker.bootstrap_servers, tmp_path, topic, {"K2_TEST_FAILPOINT": "file.create:1:OSError"})
    said = job.run()
    assert '"attempt": 1' in said
    assert "injected fault" in said
    _assert_only_poison_set_aside(job, messages)


def _assert_only_poison_set_aside(job: Job, messages: list[Message]) -> None:
    poison = [offset for offset, message in enumerate(messages) if message == POISON]
    assert sorted(letter.offset for letter in job.letters()) == poison
    assert {letter.reason for letter in job.letters()} == {"malformed"}
    assert [row["offset"] for row in content(job)] == sorted({*range(len(messages))} - {*poison})
    assert_reconciled(job)
