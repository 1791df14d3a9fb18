"""Workers and processes killed in mid-stream and replaced by others: the table is that of one undisturbed run."""

from pathlib import Path
from random import Random

import pytest

from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import assert_same
from tests.flows.rescale import plan, rescaled


@pytest.mark.parametrize(("writers", "as_processes"), [("2", False), ("1", True)], ids=["threads", "processes"])
def test_a_killed_and_rescaled_job_writes_the_same_table(
    broker: Broker, tmp_path: Path, writers: str, *, as_processes: bool
) -> None:
    """Killed with one, two and three workers, then finished with one: the rows are those of a single run."""
    job = Job(broker.bootstrap_servers, tmp_path / "job", broker.topic(partitions=3), {"K2_WRITERS": writers})
    lives = plan(Random(f"{writers} {as_processes}"), as_processes=as_processes)
    assert_same(job, rescaled(job, lives))
