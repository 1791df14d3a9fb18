"""A broker that is down for a while, under `k2 run --supervise`: the job goes on by itself once it is back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.brokers import real_kafka
from tests.flows.outage import Outage, absent_at_the_start, lost_while_running
from tests.maven import NotToBeHadError

SECONDS = 30.0

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def outage(missing: Callable[[str], NoReturn], tmp_path: Path) -> Iterator[Outage]:
    """Yield a job on real Kafka, which keeps its topics while it is down."""
    try:
        with real_kafka() as broker:
            yield Outage(broker, tmp_path)
    except NotToBeHadError as error:
        missing(f"Java and Maven: real Kafka ({error})")


def test_a_job_waits_for_a_lost_broker(outage: Outage) -> None:
    """It is alive but not ready, its status is unknown, nothing is restarted, and each trade is stored once."""
    found = lost_while_running(outage, SECONDS)
    assert found["restarts"] == 0
    assert found["status"].keys() == {"unknown: broker_unreachable"}
    assert "NaN" in found["lag"]


def test_a_start_waits_for_an_absent_broker(outage: Outage) -> None:
    """It is started again and again without spending the budget of one restart, and probes do not kill it."""
    found = absent_at_the_start(outage, SECONDS)
    assert found["restarts"] >= 1
    assert found["readyz"].keys() <= {"0", "503"}
