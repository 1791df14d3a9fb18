"""Two live instances of the job on one table: one is fenced, says so, and no row is doubled."""

import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.flows.job import Job, wait_until
from tests.flows.market import assert_reconciled, content, publish, trade
from tests.flows.rescale import running

SECONDS_MAX = 90
FENCED = "another instance writes to table market_data."
Process = subprocess.Popen[str]


def _two(broker: Broker, folder: Path, topic: str, **environment: str) -> tuple[Job, Job]:
    """Return two jobs on one table, each with its own recovery store and dead letters."""
    first = Job(broker.bootstrap_servers, folder / "first", topic, {"K2_RUN_TO_END": "false", **environment})
    own = {"K2_DATA_DIR": first.variables["K2_DATA_DIR"], "K2_DLQ_DIR": str(folder / "letters")}
    return first, replace(first, folder=folder / "second", environment={**first.environment, **own})


def _assert_fenced(process: Process, topic: str) -> None:
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1, said
    assert FENCED in said
    assert f"{topic}:0 is at offset" in said
    assert "this instance left it at" in said
    assert "Traceback" not in said


def _assert_once(job: Job, count: int) -> None:
    assert sorted(row["sequence"] for row in content(job)) == list(range(1, count + 1))
    assert_reconciled(job)


@pytest.mark.parametrize("recovery", [True, False])
def test_one_of_two_instances_is_fenced(broker: Broker, tmp_path: Path, *, recovery: bool) -> None:
    """With a store each, or both without: they read the same messages, one ends, and the other continues."""
    topic = broker.topic()
    first, second = _two(broker, tmp_path, topic)
    numbers = iter(range(1, 1_000_000))
    sent = 0

    def more() -> None:
        nonlocal sent
        publish(broker.bootstrap_servers, topic, [trade(next(numbers)) for _ in range(10)])
        sent += 10

    more()
    with running([first], recovery=recovery) as (one,):
        wait_until(lambda: first.committed() == sent, "the first commits nothing")
        with running([second], recovery=recovery) as (other,):

            def ended() -> bool:
                more()
                return one.poll() is not None or other.poll() is not None

            wait_until(ended, "none is fenced")
            fenced, alive = (one, other) if one.poll() is not None else (other, one)
            _assert_fenced(fenced, topic)
            wait_until(lambda: first.committed() == sent, "the other does not go on")
            assert alive.poll() is None
    _assert_once(first, sent)


def test_a_resumed_zombie_is_fenced(broker: Broker, tmp_path: Path) -> None:
    """Frozen between two commits, with messages buffered, while another took over: it commits none of its rows."""
    topic = broker.topic()
    first, second = _two(broker, tmp_path, topic)
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(1, 101)])
    with running([first]) as (zombie,):
        wait_until(lambda: first.committed() == 100, "the first commits nothing")
        zombie.send_signal(signal.SIGSTOP)
        publish(broker.bootstrap_servers, topic, [trade(number) for number in range(101, 201)])
        with running([second]) as (other,):
            wait_until(lambda: first.committed() == 200, "the second does not take over")
            zombie.send_signal(signal.SIGCONT)
            _assert_fenced(zombie, topic)
            publish(broker.bootstrap_servers, topic, [trade(number) for number in range(201, 301)])
            wait_until(lambda: first.committed() == 300, "the second does not go on")
            assert other.poll() is None
    _assert_once(first, 300)
    # The zombie's own store is now behind the table: on a replay, stored rows are dropped.
    publish(broker.bootstrap_servers, topic, [trade(number) for number in range(301, 401)])
    replace(first, environment={}).run()
    _assert_once(first, 400)


def test_a_zombie_that_committed_partly_is_fenced(broker: Broker, tmp_path: Path) -> None:
    """Frozen after the commit of one of its two writers, while another took over: its other writer never commits."""
    topic = broker.topic()
    first, second = _two(broker, tmp_path, topic, K2_WRITERS="2")
    publish(broker.bootstrap_servers, topic, [trade(number, f"S{number}") for number in range(1, 101)])
    stopping = replace(first, environment={**first.environment, "K2_TEST_FAILPOINT": "trades.snapshot:1:SIGSTOP"})
    with running([stopping]) as (zombie,):
        wait_until(lambda: first.committed() > 0, "the first commits nothing")
        assert first.committed() < 100
        with running([second]) as (other,):
            wait_until(lambda: first.committed() == 100, "the second does not take over")
            zombie.send_signal(signal.SIGCONT)
            _assert_fenced(zombie, topic)
            assert other.poll() is None
    _assert_once(first, 100)


def test_a_second_instance_on_the_same_dead_letters_does_not_start(broker: Broker, tmp_path: Path) -> None:
    """Once the first has written a dead letter, the folder is rejected before anything is read."""
    topic = broker.topic()
    first, second = _two(broker, tmp_path, topic)
    publish(broker.bootstrap_servers, topic, [(b"x", b"?"), trade(1)])
    with running([first], recovery=False):
        wait_until(lambda: first.committed() == 2, "the first commits nothing")
        letters = str(first.settings.dead_letter_folder)
        code, said = replace(second, environment={**second.environment, "K2_DLQ_DIR": letters}).outcome()
    assert code == 1, said
    assert "another process writes dead letters of this table in" in said
    assert '"event": "reading"' not in said
    assert "Traceback" not in said
    assert_reconciled(first)
