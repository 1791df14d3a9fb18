"""A day with holes of every kind becomes a whole one, and is certified."""

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.flows.whole_day import SimulatedDay, mend

KILLS = {"accept": ("maintenance.landed",), "backfill": ("fill.sent:5",), "replay": ("replay.committed",)}


@pytest.mark.slow
def test_a_day_is_mended_to_a_whole_one(shared_kafka: Broker, tmp_path: Path) -> None:
    """Each trade once, nothing missing, the jump accepted; by the rows, the reports and the certificates."""
    found = mend(shared_kafka, tmp_path, SimulatedDay(3, 300), KILLS)
    assert found["trades"] == 900
    assert {"live", "archive", "replay"} == {*found["origins"]}
    assert found["dead_letters"]["replays"]["waiting"] == 0
