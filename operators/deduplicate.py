"""Deduplication by id, for trades whose number does not say whether they were seen."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from runtime.metrics import DEDUP_IDS
from trades.batch import TradeSlice
from trades.deduplication import GroupDeduplicator

__all__ = ["deduplicate"]

MICROSECONDS: Final = 1_000_000


def deduplicate(step_id: str, trades: KeyedStream[TradeSlice], window_seconds: int) -> KeyedStream[TradeSlice]:
    """Mark the trades whose id was stored within the window, measured on Kafka timestamps.

    State is part of the recovery snapshot; a replay of the same offsets gives the same verdicts.
    """
    return op.stateful_batch(step_id, trades, partial(_DeduplicateLogic, window_seconds * MICROSECONDS))


class _DeduplicateLogic(StatefulBatchLogic[TradeSlice, TradeSlice, dict[str, Any]]):
    def __init__(self, window_us: int, state: dict[str, Any] | None) -> None:
        self._deduplicator = GroupDeduplicator(window_us, state)
        self._told = 0
        self._tell()

    def on_batch(self, values: list[TradeSlice]) -> tuple[Iterable[TradeSlice], bool]:
        """Look at each slice, in the order in which they came."""
        pieces = [self._deduplicator.deduplicate(piece) for piece in values]
        self._tell()
        return pieces, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        """Give the key group's state."""
        return self._deduplicator.snapshot()

    def _tell(self) -> None:
        DEDUP_IDS.inc(len(self._deduplicator) - self._told)
        self._told = len(self._deduplicator)
