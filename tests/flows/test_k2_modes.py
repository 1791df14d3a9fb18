"""Canonical messages under each numbering mode, through the real flow into real tables."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from k2.iceberg.table_progress import read_progress
from k2.iceberg.tables import TableName
from k2.ops.metrics import OUT_OF_ORDER
from k2.ops.settings import Settings, read_settings
from k2.query.completeness import by_day
from k2.query.gaps import gaps
from tests.flows.crash import run_to_end
from tests.flows.job_io import message_batch
from tests.query.tables import made

FIRST_TIME: Final = 1_700_006_400_000_000
"""Early on a UTC day, in microseconds: all trades below are on that day."""
STEP: Final = 10_000
COUNT: Final = 1_000


def line_of(number: int, **changes: Any) -> bytes:
    """Return a trade that is identified only by its number, optionally with changed fields."""
    fields = {"exchange": "steps", "symbol": "S", "sequence": number, "price": "1.5", "quantity": 2}
    return json.dumps(fields | {"timestamp": FIRST_TIME + number} | changes).encode()


def land(settings: Settings, venue: str, lines: list[bytes], first_offset: int) -> None:
    """Run the flow from the tables' progress, without a recovery store, until all is committed."""
    batch = message_batch([(None, line) for line in lines], first_offset, venue=venue)
    run_to_end(settings, {"trades:0": [batch]})


def rows_of(settings: Settings) -> list[dict[str, Any]]:
    """Return the rows of the table by offset."""
    table: Any = made(settings, TableName.TRADES)
    rows: list[dict[str, Any]] = table.scan().to_arrow().sort_by("offset").to_pylist()
    return rows


def test_numbers_in_steps_are_gaps_under_k2(tmp_path: Path) -> None:
    """Every number between two stored numbers counts as missing."""
    settings = read_settings({}, data_dir=tmp_path)
    land(settings, "k2", [line_of(number * STEP) for number in range(COUNT)], 0)
    [day] = by_day(settings)
    assert (day.stored, day.missing) == (COUNT, 9_989_001)
    assert sum(gap.missing for gap in gaps(settings)) == 9_989_001


@pytest.mark.parametrize(("venue", "disorder"), [("k2-monotonic", 3), ("k2-identity-only", 0)])
def test_numbers_in_steps_are_no_gaps_if_holes_mean_nothing(tmp_path: Path, venue: str, disorder: int) -> None:
    """All are stored in session 0, what is missing is unknown, and only a monotonic venue counts disorder."""
    settings = read_settings({}, data_dir=tmp_path)
    before = OUT_OF_ORDER.labels("steps")._value.get()
    numbers = [number * STEP for number in range(COUNT)]
    numbers[5], numbers[7], numbers[8] = numbers[7], numbers[8], numbers[5]
    numbers[20], numbers[21] = numbers[21], numbers[20]
    land(settings, venue, [line_of(number) for number in numbers], 0)
    rows = rows_of(settings)
    assert [row["sequence"] for row in rows] == numbers
    assert [row["trade_id"] for row in rows] == [str(number) for number in numbers]
    assert {row["session"] for row in rows} == {0}
    [day] = by_day(settings)
    assert (day.expected, day.stored, day.missing, day.percent, day.sessions) == (None, COUNT, None, None, 0)
    assert day.not_numbered == COUNT
    assert gaps(settings) == []
    assert made(settings, TableName.SEQUENCE_EVENTS).scan().to_arrow().num_rows == 0
    assert OUT_OF_ORDER.labels("steps")._value.get() - before == disorder


@pytest.mark.parametrize("venue", ["k2-monotonic", "k2-identity-only"])
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_number_is_the_id_of_a_trade_without_one(tmp_path: Path, venue: str, cut: int) -> None:
    """A copy is a duplicate, also after a start without a recovery store; other content is a conflict."""
    settings = read_settings({}, data_dir=tmp_path)
    lines = [
        line_of(-STEP),
        line_of(STEP),
        line_of(-STEP, trade_id="-10000"),
        line_of(STEP, trade_id=None),
        line_of(STEP, trade_id="other"),
        # Read by the reference decoder, because a name is escaped.
        line_of(STEP).replace(b"steps", b"st\\u0065ps"),
        line_of(STEP, price="1.6"),
        # The same trade with another time.
        line_of(0, sequence=None, trade_id="10000"),
    ]
    land(settings, venue, lines[:cut], 0)
    land(settings, venue, lines[cut:], cut)
    assert [(row["offset"], row["trade_id"], row["session"]) for row in rows_of(settings)] == [
        (0, "-10000", 0),
        (1, "10000", 0),
        (4, "other", 0),
    ]
    [entry] = read_progress(settings).of("0").values()
    assert (entry.received, entry.stored, entry.duplicates, entry.dead_letters) == (8, 3, 4, 1)
    assert gaps(settings) == []
