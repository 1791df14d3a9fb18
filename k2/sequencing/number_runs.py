"""Sets of numbers as arrays of ranges, each with the Kafka coordinates of the message that begins it.

Unlike `k2.sequencing.intervals`, it takes the numbers of a whole batch at once, at the cost of a sort.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["END", "NO_RUNS", "OFFSET", "PARTITION", "START", "TIMESTAMP", "merged", "missing_between", "runs_of"]

START, END, PARTITION, OFFSET, TIMESTAMP = range(5)
"""Columns of a run: first and last number, and partition, offset and Kafka timestamp of the message with the first."""
NO_RUNS: Final[NDArray[np.int64]] = np.empty((0, 5), dtype=np.int64)


def runs_of(
    numbers: NDArray[np.int64], partition: int, offsets: NDArray[np.int64], timestamps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return int64[m, 5], the runs of the numbers of one partition's messages, ascending.

    Args:
        numbers: int64[n], n > 0, in any order; of a number that comes twice, the first message counts.
        partition: the partition of the messages.
        offsets: int64[n], their offsets.
        timestamps: int64[n], their Kafka timestamps in microseconds.
    """
    unique, messages = np.unique(numbers, return_index=True)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(unique) != 1]))
    ends = np.append(begins[1:], len(unique)) - 1
    firsts = messages[begins]
    runs = np.empty((len(begins), 5), dtype=np.int64)
    runs[:, START], runs[:, END] = unique[begins], unique[ends]
    runs[:, PARTITION], runs[:, OFFSET], runs[:, TIMESTAMP] = partition, offsets[firsts], timestamps[firsts]
    return runs


def merged(runs: NDArray[np.int64], added: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64[m, 5], the union of runs and at least one added run; neither array is changed.

    A merged run has the coordinates of the one that begins it, of `runs` if both begin with the same number.
    """
    # Runs that end before the added ones begin, and do not touch them, stay as they are.
    low = int(np.searchsorted(runs[:, END], added[0, START] - 1))
    joined = np.concatenate([runs[low:], added])
    joined = joined[np.argsort(joined[:, START], kind="stable")]
    reached = np.maximum.accumulate(joined[:, END])
    begins = np.flatnonzero(np.concatenate([[True], joined[1:, START] > reached[:-1] + 1]))
    union = joined[begins]
    union[:, END] = np.append(reached[begins[1:] - 1], reached[-1])
    return np.concatenate([runs[:low], union])


def missing_between(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64[n - 1, 2], the missing numbers between n runs: first and last of each range."""
    return np.column_stack([runs[:-1, END] + 1, runs[1:, START] - 1])
