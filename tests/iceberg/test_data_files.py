"""Data files that are written part by part."""

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2.iceberg.data_files import write_files
from k2.iceberg.tables import TableName
from k2.ops.settings import read_settings
from tests.query.tables import append, event, made

PARTS = 6


@pytest.mark.parametrize(("bytes_max", "files"), [(math.inf, 1), (1, PARTS)])
def test_one_part_is_in_memory_at_a_time(tmp_path: Path, bytes_max: float, files: int) -> None:
    """A part is freed before the next one is made, the first part of a file too."""
    table = made(read_settings({"K2_DATA_DIR": str(tmp_path)}), TableName.SEQUENCE_EVENTS)
    append(table, [event("gap_opened", number, number, session=1) for number in range(PARTS)])
    rows = table.scan().to_arrow()
    given: list[weakref.ref[Any]] = []

    def parts() -> Iterator[pa.Table]:
        for number in range(PARTS):
            assert [one for one in given if one() is not None] == []
            part = rows.slice(number, 1)
            given.append(weakref.ref(part))
            yield part
            del part

    exchange = rows["exchange"][0].as_py()
    found = list(write_files(table, rows.schema, parts(), (exchange,), bytes_max))
    assert len(found) == files
    assert sum(pq.read_table(one.file_path.removeprefix("file://")).num_rows for one in found) == PARTS
