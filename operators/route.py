"""Which writer each item goes to: the same one whatever the number of workers."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from k2.model.batch import TradeSlice
from k2.model.consumed import Consumed

__all__ = ["ONLY", "to_only_writer", "to_writers"]

X = TypeVar("X")

ONLY: Final = "0"
"""The one writer of a sink that has no more."""


def to_writers(
    step_id: str, trades: KeyedStream[TradeSlice], consumed: Stream[Consumed], writers: int
) -> KeyedStream[TradeSlice | Consumed]:
    """Return each key group's rows to one writer, and tell every writer which offsets were consumed."""
    rows = op.map(f"{step_id}_trades", trades, partial(_row_writer, writers))
    ranges = op.flat_map(f"{step_id}_consumed", consumed, partial(_range_writers, writers))
    return op.merge(step_id, rows, ranges)


def to_only_writer(step_id: str, items: Stream[X]) -> KeyedStream[X]:
    """Return all items to one writer."""
    return op.map(step_id, items, _only)


def _only(item: X) -> tuple[str, X]:
    return ONLY, item


def _row_writer(writers: int, item: tuple[str, TradeSlice]) -> tuple[str, TradeSlice]:
    _, piece = item
    return str(piece.group % writers), piece


def _range_writers(writers: int, consumed: Consumed) -> Iterable[tuple[str, Consumed]]:
    """Tell messages without a trade to one writer alone, so that they are counted once."""
    none = np.empty(0, dtype=np.int64)
    bare = replace(consumed, dead_letters=(), skipped=none)
    counting = consumed.partition % writers
    return [(str(writer), consumed if writer == counting else bare) for writer in range(writers)]
