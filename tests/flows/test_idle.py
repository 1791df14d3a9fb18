"""A job without messages: healthy, ready and complete, and it commits nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.brokers import Broker
from tests.flows.idle import EPOCHS_STALLED, idle

SECONDS = 3.0 * EPOCHS_STALLED


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 4])
def test_an_idle_job_is_never_unhealthy(
    broker: Broker, tmp_path: Path, missing: Callable[[str], NoReturn], workers: int
) -> None:
    """For three times the limit of a stall, with fewer or more workers than partitions."""
    if not Path("/proc/self/status").exists():
        missing("Linux: /proc")
    idle(broker, tmp_path / "job", SECONDS, workers)
