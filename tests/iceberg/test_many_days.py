"""Late trades of many days in one epoch: each is stored in its day, in memory and open files that do not grow."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from k2.iceberg.tables import TableName, open_table
from k2.ops.failpoints import arm
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import DAY, offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

DAYS = 400
ROWS = 900
FLUSH_ROWS = 500
FIRST_DAY = 19_000
ARROW_BYTES_MAX = 4 << 20


@pytest.fixture
def held() -> Iterator[list[tuple[int, int]]]:
    """Yield the open files and Arrow's bytes, measured when a data file is begun or written."""
    found: list[tuple[int, int]] = []

    def note(name: str) -> None:
        if name in {"file.create", "file.written"}:
            found.append((sum(1 for _ in Path("/dev/fd").iterdir()), pa.total_allocated_bytes()))

    arm(note)
    yield found
    arm(None)


def test_trades_of_400_days_in_one_epoch_are_stored_by_day(tmp_path: Path, held: list[tuple[int, int]]) -> None:
    """A flush writes one file for each day and exchange in sequence, however the days are mixed in the stream."""
    settings = settings_in(tmp_path)
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    writer = writer_of(settings, flush_rows=FLUSH_ROWS)
    rows = [row_at(offset, timestamp=(FIRST_DAY + offset * 7 % DAYS) * DAY + offset) for offset in range(ROWS)]
    for first in range(0, ROWS, 100):
        writer.write_batch([slice_of(rows[first : first + 100]), read_to(first + 100)])
        assert len(writer._buffer) <= FLUSH_ROWS
    writer.snapshot()
    files = [task.file for task in table.refresh().scan().plan_files()]
    days = [file.partition[0] for file in files]
    assert (len(table.snapshots()), {*days}) == (1, {*range(FIRST_DAY, FIRST_DAY + DAYS)})
    assert len(files) == 2 * DAYS == len(held) / 2
    for file in files:
        lower, upper = (int.from_bytes(bounds[9], "little") for bounds in (file.lower_bounds, file.upper_bounds))
        assert lower // DAY == upper // DAY == file.partition[0]
    assert offsets_of(table) == list(range(ROWS))
    files_open, arrow_bytes = zip(*held, strict=True)
    # Compared with the first, not the least: memory of earlier tests may be freed meanwhile.
    assert max(files_open) - files_open[0] <= 3
    assert max(arrow_bytes) - arrow_bytes[0] < ARROW_BYTES_MAX
