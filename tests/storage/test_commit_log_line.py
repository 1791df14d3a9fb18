"""The line of commits that led to a table, among all recorded commits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.storage.commit_log import in_effect

Recorded = tuple[int, int, int]
"""Snapshot id, the parent's (0: unknown), and sequence number."""


def line_of(reported: list[Recorded], last_id: int) -> list[int]:
    """Return the ids of the commits in effect."""
    columns = np.array(reported, dtype=np.int64).reshape(-1, 3)
    return columns[in_effect(*np.ascontiguousarray(columns.T), last_id), 0].tolist()


@pytest.mark.parametrize(
    ("reported", "last_id", "line"),
    [
        ([], 7, []),
        ([(13, 12, 3), (12, 11, 2), (11, 0, 1)], 13, [13, 12, 11]),
        ([(24, 13, 4), (14, 13, 4), (13, 11, 3), (12, 11, 2), (11, 0, 1)], 24, [24, 13, 11]),
        ([(15, 14, 5), (14, 11, 4), (24, 11, 4), (11, 0, 1)], 24, [24, 11]),
        ([(15, 14, 5), (14, 0, 4), (24, 0, 4), (11, 0, 1)], 0, [15, 14, 11]),
        ([(13, 12, 3), (12, 11, 2)], 99, []),
    ],
)
def test_each_commit_names_its_parent(reported: list[Recorded], last_id: int, line: list[int]) -> None:
    """The line is followed from the last commit; where a parent is unknown, by decreasing numbers."""
    assert line_of(reported, last_id) == line


@given(st.lists(st.integers(0, 10), min_size=1, max_size=30))
def test_any_sequence_of_rollbacks_is_resolved(steps: list[int]) -> None:
    """Each step rolls the table back to an earlier state and commits once: a stack holds the commits in effect."""
    reported, states = list[Recorded](), [tuple[int, ...]()]
    for number, step in enumerate(steps, 1):
        line = states[step % len(states)]
        reported.append((number, line[-1] if line else 0, len(line) + 1))
        states.append((*line, number))
    reported.sort(key=lambda one: -one[2])
    assert line_of(reported, states[-1][-1]) == [*reversed(states[-1])]
