"""Non-market trades through the real flow into real tables: counted as skipped, and no gap after a lost store."""

from pathlib import Path
from typing import Any

import pytest

from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings, read_settings
from k2.query.gaps import gaps
from tests.flows.crash import run_to_end
from tests.flows.job_io import message_batch
from tests.query.tables import made
from tests.venues.test_recorded_venues import message

KINDS = {3: "ADL", 4: "NA", 7: "INSURANCE_FUND", 11: "NA"}
LOST = {6, 13}


def line_of(number: int) -> bytes:
    """Return a futures trade of the market, or of another type."""
    return message("binance-futures", {"t": number, "T": 1_723_161_256_000 + number, "X": KINDS.get(number, "MARKET")})


def land(settings: Settings, numbers: list[int], first_offset: int) -> None:
    """Run the flow from the tables' progress, without a recovery store, until all is committed."""
    batch = message_batch([(None, line_of(number)) for number in numbers], first_offset, venue="binance-futures")
    run_to_end(settings, {"trades:0": [batch]})


@pytest.mark.parametrize("cut", [3, 4, 5, 8, 9])
def test_a_lost_store_opens_no_gap_for_skipped_numbers(tmp_path: Path, cut: int) -> None:
    """Wherever the store was lost, stored and skipped add up, and only lost trades are missing."""
    settings = read_settings({}, data_dir=tmp_path)
    numbers = [number for number in range(1, 15) if number not in LOST]
    land(settings, numbers[:cut], 0)
    land(settings, numbers[cut:], cut)
    table: Any = made(settings, TableName.TRADES)
    stored = sorted(table.scan().to_arrow()["sequence"].to_pylist())
    assert stored == [number for number in numbers if number not in KINDS]
    [entry] = read_progress(settings).of("0").values()
    assert (entry.received, entry.stored, entry.skipped) == (12, 8, 4)
    found = [(gap.first_sequence, gap.last_sequence) for gap in gaps(settings)]
    assert found == [(number, number) for number in sorted(LOST)]
