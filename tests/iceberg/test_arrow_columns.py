"""The rows of a file: sorted, and made in parts."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg import arrow_columns
from k2.iceberg.arrow_columns import FileRows, arrow_schema
from k2.iceberg.column_buffer import ColumnBuffer
from k2.model.columns import TRADES
from k2.storage.schemas import schema_of
from tests.model.trade_slices import Row, slice_of

DAY_US: Final = 86_400_000_000
ROWS = st.lists(
    st.tuples(
        st.integers(1, 99),
        st.integers(0, 3 * DAY_US),
        st.sampled_from(["BTC-USD", "ETH-USD", "É"]),
        st.sampled_from(["kraken", "okx"]),
        st.sampled_from([None, "", "7", "id-ß"]),
    ).map(lambda fields: Row(*fields)),
    min_size=1,
    max_size=30,
)


def files(rows: list[Row], rows_max: int) -> list[FileRows]:
    """Return the files of rows, in parts of `rows_max`, made at once."""
    buffer = ColumnBuffer(arrow_schema(schema_of(TRADES)))
    buffer.add(slice_of(rows), np.arange(len(rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_columns, "ROW_GROUP_ROWS", rows_max)
        return [replace(one, parts=partial(iter, list(one.parts()))) for one in buffer.drain()]


@given(ROWS, st.integers(1, 31))
def test_parts_together_are_the_rows_of_the_file(rows: list[Row], rows_max: int) -> None:
    """Whatever the size of a part."""
    for one, whole in zip(files(rows, rows_max), files(rows, len(rows)), strict=True):
        parts = list(one.parts())
        assert [len(part) for part in parts[:-1]] == [rows_max] * (len(parts) - 1)
        assert pa.concat_tables(parts).to_pylist() == pa.concat_tables(whole.parts()).to_pylist()
        assert sum(map(len, parts)) == sum(map(len, whole.parts()))


@given(ROWS)
def test_a_file_has_the_rows_of_one_day_in_order(rows: list[Row]) -> None:
    """By symbol in UTF-8, then venue time; no row is lost."""
    found = files(rows, 4)
    assert sum(len(part) for one in found for part in one.parts()) == len(rows)
    for one in found:
        stored = [row for part in one.parts() for row in part.to_pylist()]
        keys = [(row["symbol"].encode(), row["timestamp"]) for row in stored]
        assert all(before <= after for before, after in pairwise(keys))
        assert {int(row["timestamp"].timestamp() * 1_000_000) // DAY_US for row in stored} == {one.day}
