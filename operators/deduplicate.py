"""Deduplication by id, for trades whose number does not say whether they were seen."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from k2.dedup.deduplicator import GroupDeduplicator
from k2.model.batch import TradeSlice
from k2.model.state_source import StateSource
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.metrics import DEDUP_IDS

__all__ = ["deduplicate"]

MICROSECONDS: Final = 1_000_000


def deduplicate(
    step_id: str, trades: KeyedStream[TradeSlice], window_seconds: int, history: StateSource
) -> KeyedStream[TradeSlice]:
    """Mark the trades whose id was stored within the window, measured on Kafka timestamps.

    The recovery snapshot holds clocks alone: at each start the ids are taken from the table's rows, those of the
    last two windows. So a replay, in whatever order, gives verdicts that fit the rows.
    """
    return op.stateful_batch(step_id, trades, partial(_DeduplicateLogic, window_seconds * MICROSECONDS, history))


class _DeduplicateLogic(StatefulBatchLogic[TradeSlice, TradeSlice, dict[str, Any]]):
    @reports_errors
    def __init__(self, window_us: int, history: StateSource, state: dict[str, Any] | None) -> None:
        self._window_us = window_us
        self._history: StateSource | None = history
        self._is_resumed = state is not None
        self._deduplicator = GroupDeduplicator(window_us, state)
        self._told = 0
        self._tell()
        if state is not None:
            history.resumed(self._deduplicator.positions)
            history.clocks(self._deduplicator.clocks)

    @reports_errors
    def on_batch(self, values: list[TradeSlice]) -> tuple[Iterable[TradeSlice], bool]:
        """Look at each slice, in the order in which they came."""
        self._catch_up(values[0].group)
        pieces = [self._deduplicator.deduplicate(piece) for piece in values]
        self._tell()
        return pieces, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        """Return the key group's clocks."""
        failpoint("deduplicate.snapshot")
        return self._deduplicator.snapshot()

    def _catch_up(self, group: int) -> None:
        """Take the ids from the table, once."""
        history, self._history = self._history, None
        if history is not None:
            self._deduplicator.absorb(history.ids(group, self._window_us, is_resumed=self._is_resumed))

    def _tell(self) -> None:
        DEDUP_IDS.inc(len(self._deduplicator) - self._told)
        self._told = len(self._deduplicator)
