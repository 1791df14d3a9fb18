"""Deduplicate operator: finds duplicates by trade id, among trades whose sequence number does not reveal them."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from k2.dedup.deduplicator import GroupDeduplicator
from k2.dedup.trade_id_hash import TradeIdHasher
from k2.model.batch import TradeSlice
from k2.model.state_source import StateSource
from k2.model.symbols import Symbols
from k2.model.times import SECOND_US
from k2.ops.error_boundary import reports_errors
from k2.ops.failpoints import failpoint
from k2.ops.metrics import DEDUP_IDS

__all__ = ["deduplicate"]


def deduplicate(
    step_id: str, trades: KeyedStream[TradeSlice], window_seconds: int, state_source: StateSource, symbols: Symbols
) -> KeyedStream[TradeSlice]:
    """Mark trades whose id was already stored within the deduplication window, measured in Kafka timestamps.

    The recovery snapshot has only the clocks. At each start the ids of the last two windows are read from the newest
    checkpoint and the table's rows since, so the verdicts of a replay agree with the stored rows, in whatever order
    partitions are replayed.
    """
    hasher = TradeIdHasher(symbols, state_source.id_hash_key)
    logic = partial(_DeduplicateLogic, window_seconds * SECOND_US, state_source, hasher)
    return op.stateful_batch(step_id, trades, logic)


class _DeduplicateLogic(StatefulBatchLogic[TradeSlice, TradeSlice, dict[str, Any]]):
    @reports_errors
    def __init__(
        self, window_us: int, state_source: StateSource, hasher: TradeIdHasher, state: dict[str, Any] | None
    ) -> None:
        self._window_us, self._hasher = window_us, hasher
        self._state_source: StateSource | None = state_source
        self._is_resumed = state is not None
        self._deduplicator = GroupDeduplicator(window_us, state, hasher)
        self._reported_ids = 0
        self._report_ids()
        if state is not None:
            state_source.report_positions(self._deduplicator.positions)
            state_source.report_clocks(self._deduplicator.clocks)

    @reports_errors
    def on_batch(self, values: list[TradeSlice]) -> tuple[Iterable[TradeSlice], bool]:
        """Deduplicate the slices in order."""
        self._catch_up(values[0].group)
        slices = [self._deduplicator.deduplicate(self._with_state(trade_slice)) for trade_slice in values]
        self._report_ids()
        return slices, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        """Return the clocks of the key group."""
        failpoint("deduplicate.snapshot")
        return self._deduplicator.snapshot()

    def _catch_up(self, group: int) -> None:
        """Read the ids from the checkpoint and the table, before the first slice only."""
        state_source, self._state_source = self._state_source, None
        if state_source is None:
            return
        checkpoint = None if self._is_resumed else state_source.checkpoint(group)
        if checkpoint is not None:
            self._deduplicator = GroupDeduplicator(self._window_us, checkpoint.deduplicate, self._hasher)
            self._is_resumed = True
        blocks = state_source.id_blocks(group, self._window_us, self._hasher.key_check)
        self._deduplicator.restore_blocks(blocks)
        self._deduplicator.absorb(state_source.ids(group, self._window_us, is_resumed=self._is_resumed))

    def _with_state(self, trade_slice: TradeSlice) -> TradeSlice:
        """Return the slice with the state of this step added, if a checkpoint is due."""
        if trade_slice.state is None:
            return trade_slice
        ids, new_ids = self._deduplicator.seal()
        state = trade_slice.state._replace(deduplicate=self._deduplicator.snapshot(), ids=ids, new_ids=new_ids)
        return replace(trade_slice, state=state)

    def _report_ids(self) -> None:
        DEDUP_IDS.inc(len(self._deduplicator) - self._reported_ids)
        self._reported_ids = len(self._deduplicator)
