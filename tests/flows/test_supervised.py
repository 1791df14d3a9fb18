"""`k2 run --supervise` on a broker: what ends is started again, and nothing is lost or doubled."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from tests.brokers import Broker
from tests.flows.job import Job, wait_until
from tests.flows.market import assert_reconciled, content, publish, trade
from tests.flows.supervised import Supervised, supervised

SYMBOLS = 20
FIRST_START_SECONDS_MAX = 400
"""Three processes that compile the rules at once, on a busy machine."""

pytestmark = pytest.mark.timeout(900)


def _trades(first: int, last: int) -> list[tuple[bytes, bytes]]:
    return [trade(number, f"S{symbol}") for number in range(first, last + 1) for symbol in range(SYMBOLS)]


@pytest.fixture
def endless(broker: Broker, tmp_path: Path, missing: Callable[[str], NoReturn]) -> Job:
    """Return a job on a topic with four partitions that reads on at their ends."""
    if not Path("/proc/self/task").exists():
        missing("Linux: /proc")
    return Job(broker.bootstrap_servers, tmp_path, broker.topic(partitions=4), {"K2_RUN_TO_END": "false"})


def test_a_killed_process_of_three_is_back_with_its_peers(
    broker: Broker, endless: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its peers end with it; all supervisors start theirs again, and each trade is stored once."""
    messages = _trades(1, 20)
    publish(broker.bootstrap_servers, endless.topics, messages)
    with supervised(endless, processes=3) as processes:
        wait_until(lambda: endless.committed() == len(messages), "nothing is committed", FIRST_START_SECONDS_MAX)
        jobs = [one.job_pid() for one in processes]
        victim = jobs[1]
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        messages += _trades(21, 40)
        publish(broker.bootstrap_servers, endless.topics, messages[len(messages) // 2 :])
        wait_until(lambda: endless.committed() == len(messages), "it does not go on")
        seconds = time.monotonic() - killed_at
        assert not {one.job_pid() for one in processes} & {*jobs}
    with capsys.disabled():
        sys.stdout.write(f"\n3 processes, one killed: all back and an epoch committed after {seconds:.1f} s\n")
    said = [one.said for one in processes]
    assert '"ended": "killed by SIGKILL"' in said[1]
    assert all('"event": "restarting"' in one for one in said)
    assert [row["sequence"] for row in sorted(content(endless), key=lambda row: (row["symbol"], row["sequence"]))] == [
        *range(1, 41)
    ] * SYMBOLS
    assert_reconciled(endless)


def test_added_partitions_are_read_after_a_restart(broker: Broker, endless: Job) -> None:
    """The job ends by itself once it notices them, and the next start reads them from their first offset."""
    if not broker.is_kafka:
        pytest.skip("the embedded broker adds no partitions")
    publish(broker.bootstrap_servers, endless.topics, _trades(1, 2))
    with supervised(endless) as (one,):
        wait_until(lambda: endless.committed() == 2 * SYMBOLS, "nothing is committed", FIRST_START_SECONDS_MAX)
        broker.add_partitions(endless.topics, 6)
        publish(broker.bootstrap_servers, endless.topics, [trade(1, "added")], 5)
        wait_until(lambda: endless.committed() == 2 * SYMBOLS + 1, "the added partition is not read")
    assert one.said.count('"event": "restarting"') == 1
    assert "has partitions that are not read: 2" in one.said
    assert_reconciled(endless)


def test_a_topic_of_another_venue_is_not_read_again(broker: Broker, endless: Job) -> None:
    """The job stops because of its dead letters; each restart would make more of them, so there is none."""
    publish(broker.bootstrap_servers, endless.topics, [(b"", b"no JSON")] * 200)
    limited = replace(endless, environment={**endless.environment, "K2_DLQ_RATIO_MESSAGES_MIN": "50"})
    one = Supervised(limited, 0, "")
    try:
        assert one.process.wait(FIRST_START_SECONDS_MAX) == 1, one.said
    finally:
        one.process.kill()
        one.process.wait()
    assert '"event": "not_restarted"' in one.said
    assert '"event": "restarting"' not in one.said
    assert limited.committed() == 0
