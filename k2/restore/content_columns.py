"""Convert columns of stored trades to the content fingerprints that the rules use."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from k2.dedup.deduplicator import short_fingerprints
from k2.model.content import ContentColumns, fingerprints
from k2.model.trade import SIDES

__all__ = ["fingerprints_of", "pair_numbers", "short_fingerprints_of"]

_SIDES: Final = pa.array(SIDES, pa.string())


def short_fingerprints_of(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return int64[n], `k2.dedup.deduplicator.short_fingerprints` of rows with price, quantity and side."""
    return short_fingerprints(_words(batch["price"]), _words(batch["quantity"]), _side_numbers(batch["side"]))


def fingerprints_of(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Return int64[n], `k2.model.content.fingerprints` of rows with sequence, trade_id, price, quantity and side.

    The batch must not be a slice of another batch.
    """
    _, offsets, text = batch["trade_id"].cast(pa.large_string()).buffers()
    assert offsets is not None
    # Copies can be written, as all arrays that rules are compiled for.
    bounds = np.frombuffer(memoryview(offsets), dtype=np.int64)[: len(batch) + 1]
    sizes = np.where(batch["trade_id"].is_null().to_numpy(zero_copy_only=False), -1, np.diff(bounds))
    return fingerprints(
        ContentColumns(
            batch["sequence"].to_numpy().copy(),
            _words(batch["price"]),
            _words(batch["quantity"]),
            _side_numbers(batch["side"]),
            np.frombuffer(bytearray(text or b""), dtype=np.uint8),
            bounds[:-1],
            sizes.astype(np.int32),
        )
    )


def pair_numbers(
    batch: pa.RecordBatch, left: str, right: str, number_of: Callable[[Any, Any], int]
) -> NDArray[np.int32]:
    """Return int32[n], `number_of` each row's pair of values in two columns; called once for each distinct pair."""
    lefts, rights = batch[left].dictionary_encode(), batch[right].dictionary_encode()
    left_values, right_values = lefts.dictionary.to_pylist(), rights.dictionary.to_pylist()
    pairs = lefts.indices.to_numpy().astype(np.int64) * len(right_values) + rights.indices.to_numpy()
    numbers: NDArray[np.int32] = np.empty(len(left_values) * len(right_values), dtype=np.int32)
    for pair in np.flatnonzero(np.bincount(pairs)).tolist():
        numbers[pair] = number_of(left_values[pair // len(right_values)], right_values[pair % len(right_values)])
    found: NDArray[np.int32] = numbers[pairs]
    return found


def _side_numbers(sides: "pa.Array[Any]") -> NDArray[np.int8]:
    # `SIDES` has a null, so `index_in` finds nulls as well.
    numbers: NDArray[Any] = pc.index_in(sides.cast(pa.string()), _SIDES).to_numpy(zero_copy_only=False)
    return numbers.astype(np.int8)


def _words(decimals: "pa.Array[Any]") -> NDArray[np.uint64]:
    """Return decimals in Arrow's layout: uint64[n, 2], low word first."""
    if not len(decimals):
        return np.empty((0, 2), dtype=np.uint64)
    words = np.frombuffer(memoryview(decimals.buffers()[1]), dtype=np.uint64)  # type: ignore[arg-type]
    return words.reshape(-1, 2)[decimals.offset : decimals.offset + len(decimals)].copy()
