"""The order of rows in a file, for any input order."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.iceberg.sort_order import SortKeys, counting_sort, sort_rows

KEYS = st.tuples(st.integers(0, 4), st.integers(-3, 3), st.integers(0, 2), st.integers(0, 3), st.integers(0, 1))


def keys_of(rows: list[tuple[int, int, int, int, int]]) -> tuple[np.ndarray, SortKeys]:
    """Return the ranks and keys of rows of (rank, timestamp, place, offset, index)."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 5)
    ranks, places, indexes = (columns[:, place].astype(np.int32) for place in (0, 2, 4))
    return ranks, SortKeys(columns[:, 1].copy(), places, columns[:, 3].copy(), indexes)


@given(st.lists(KEYS, max_size=120))
def test_rows_are_sorted_by_every_key_and_none_is_lost(rows: list[tuple[int, int, int, int, int]]) -> None:
    """The result equals Python's sort; equal rows keep their input order."""
    order = sort_rows(*_arguments(rows))
    assert order.tolist() == sorted(range(len(rows)), key=rows.__getitem__)


def _arguments(rows: list[tuple[int, int, int, int, int]]) -> tuple[np.ndarray, int, SortKeys]:
    ranks, keys = keys_of(rows)
    return ranks, 5, keys


@pytest.mark.parametrize(
    "time_of",
    [
        lambda row: row,
        lambda row: -row,
        lambda row: row % 17,
        lambda row: 0,
        lambda row: row ^ 1,
        lambda row: row if row % 100 else 0,
    ],
    ids=["sorted", "descending", "sawtooth", "equal", "swapped", "stragglers"],
)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 32, 33, 1000])
def test_long_runs_are_sorted_whatever_their_times(count: int, time_of: Callable[[int], int]) -> None:
    """Runs longer than a block are merged, at every length near a block's."""
    rows = [(0, time_of(row), 0, row, 0) for row in range(count)]
    assert sort_rows(*_arguments(rows)).tolist() == sorted(range(count), key=rows.__getitem__)


@given(st.lists(st.integers(0, 6), max_size=60))
def test_counting_sort_is_stable(values: list[int]) -> None:
    """Runs start at the sums of the sizes before, and have their rows in input order."""
    order = np.arange(len(values), dtype=np.int64)[::-1].copy()
    out = np.empty_like(order)
    starts = counting_sort(np.array(values, dtype=np.int32), 7, order, out)
    assert out.tolist() == sorted(order.tolist(), key=values.__getitem__)
    assert starts.tolist() == [sum(value < rank for value in values) for rank in range(8)]
