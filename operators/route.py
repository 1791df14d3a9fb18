"""Route operators: assign each item to a writer, regardless of the number of workers."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from k2.model.batch import TradeSlice
from k2.model.connections import GroupConnections
from k2.model.consumed import Consumed
from k2.model.correction import Correction
from k2.model.feeds import GroupFeeds
from k2.model.key_groups import group_of

__all__ = ["ONLY", "to_only_writer", "to_writers"]

X = TypeVar("X")
G = TypeVar("G", GroupConnections, GroupFeeds)

ONLY: Final = "0"
"""Key of the writer of a sink that has only one."""


def to_writers(
    step_id: str,
    trades: KeyedStream[TradeSlice],
    consumed: Stream[Consumed],
    writers: int,
    connections: KeyedStream[GroupConnections] | None = None,
    feeds: KeyedStream[GroupFeeds] | None = None,
) -> KeyedStream[TradeSlice | Consumed | GroupConnections | GroupFeeds]:
    """Key what belongs to a key group by its writer, and send the consumed offsets to every writer."""
    rows = op.map(f"{step_id}_trades", trades, partial(_row_writer, writers))
    ranges = op.flat_map(f"{step_id}_consumed", consumed, partial(_range_writers, writers))
    states: list[Any] = []
    if connections is not None:
        states.append(op.map(f"{step_id}_connections", connections, partial(_group_writer, writers)))
    if feeds is not None:
        states.append(op.map(f"{step_id}_feeds", feeds, partial(_group_writer, writers)))
    return op.merge(step_id, rows, ranges, *states)


def to_only_writer(step_id: str, items: Stream[X], *others: Stream[X] | None) -> KeyedStream[X]:
    """Key all items by the only writer."""
    present = [one for one in others if one is not None]
    every = op.merge(f"{step_id}_all", items, *present) if present else items
    return op.map(step_id, every, _only)


def _only(item: X) -> tuple[str, X]:
    return ONLY, item


def _row_writer(writers: int, item: tuple[str, TradeSlice]) -> tuple[str, TradeSlice]:
    _, trade_slice = item
    return str(trade_slice.group % writers), trade_slice


def _group_writer(writers: int, item: tuple[str, G]) -> tuple[str, G]:
    _, state = item
    return str(state.group % writers), state


def _range_writers(writers: int, consumed: Consumed) -> Iterable[tuple[str, Consumed]]:
    """Send the offset range to every writer; only one gets the messages without a trade, so they are counted once.

    A correction goes to the writer of its symbol, so that copies from several partitions meet.
    """
    range_only = replace(consumed, dead_letters=(), skipped=np.empty(0, dtype=np.int64), messages=0, corrections=())
    counting_writer = consumed.partition % writers
    ranges = {writer: consumed if writer == counting_writer else range_only for writer in range(writers)}
    if consumed.corrections and writers > 1:
        owners = [_owner(one.correction, writers) for one in consumed.corrections]
        for writer, one in ranges.items():
            own = tuple(placed for placed, owner in zip(consumed.corrections, owners, strict=True) if owner == writer)
            ranges[writer] = replace(one, corrections=own)
    return [(str(writer), one) for writer, one in ranges.items()]


def _owner(correction: Correction, writers: int) -> int:
    return group_of(correction.exchange, correction.symbol) % writers
