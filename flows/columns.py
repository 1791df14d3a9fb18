"""Columns of the table's trades, as the rules take them."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trades.recent_kernel import contents
from trades.trade import SIDES

__all__ = ["contents_of", "pair_numbers"]

_SIDES: Final = pa.array(SIDES, pa.string())


def contents_of(
    prices: "pa.Array[Any]", quantities: "pa.Array[Any]", sides: "pa.Array[Any]", timestamps: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give int64[n], of `trades.recent_kernel.content`: decimal(38, 18) twice, names of sides, microseconds."""
    # A null is found as a null.
    numbers = pc.index_in(sides.cast(pa.string()), _SIDES).to_numpy(zero_copy_only=False)
    found = np.empty(len(timestamps), dtype=np.int64)
    contents(_words(prices), _words(quantities), numbers.astype(np.int8), timestamps, found)
    return found


def pair_numbers(
    batch: pa.RecordBatch, left: str, right: str, number_of: Callable[[Any, Any], int]
) -> NDArray[np.int32]:
    """Give each row the number of its pair of values in two columns, which is asked for once a pair."""
    lefts, rights = batch[left].dictionary_encode(), batch[right].dictionary_encode()
    left_values, right_values = lefts.dictionary.to_pylist(), rights.dictionary.to_pylist()
    pairs = lefts.indices.to_numpy().astype(np.int64) * len(right_values) + rights.indices.to_numpy()
    numbers: NDArray[np.int32] = np.empty(len(left_values) * len(right_values), dtype=np.int32)
    for pair in np.flatnonzero(np.bincount(pairs)).tolist():
        numbers[pair] = number_of(left_values[pair // len(right_values)], right_values[pair % len(right_values)])
    found: NDArray[np.int32] = numbers[pairs]
    return found


def _words(decimals: "pa.Array[Any]") -> NDArray[np.uint64]:
    """Give decimals as Arrow lays them out: uint64[n, 2], the low word first."""
    if not len(decimals):
        return np.empty((0, 2), dtype=np.uint64)
    words = np.frombuffer(memoryview(decimals.buffers()[1]), dtype=np.uint64)  # type: ignore[arg-type]
    return words.reshape(-1, 2)[decimals.offset : decimals.offset + len(decimals)]
