"""Deduplication of trades by id: each id is stored once within a window of Kafka time."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.dedup.id_blocks import SealedBlocks, decode_block
from k2.dedup.id_log import ClockState, IdLog
from k2.dedup.trade_id_hash import KEY_BYTES, TradeIdHasher
from k2.dedup.window import rules_for
from k2.model.batch import NULL_TIME, TradeSlice
from k2.model.content import ContentColumns, fingerprints
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.state_source import IdBlock, Positions, Reach, SealedIds, StoredIds
from k2.model.symbols import Symbols
from k2.model.verdicts import STORED
from k2.venues import VENUES

__all__ = ["FORMAT", "GroupDeduplicator", "clocks_of", "short_fingerprints"]

FORMAT: Final = 2
_SHORT: Final = 0xFFFF_FFFF
TIME_MAX: Final = 2**61
"""Later times (73,000 years) are clipped to this one, so that sums stay within 64 bits."""


class GroupDeduplicator:
    """The stored trade ids of one key group's symbols, as far back as duplicates are detected.

    A trade is a duplicate if a trade of the same exchange, symbol and id was stored with a Kafka timestamp at most one
    window before or after its own. If such trades were stored with other content only (price, quantity and side,
    compared by 32 bits of their fingerprint), it is a conflict. Exchange, symbol and id are compared by a keyed 128-bit
    hash. Kafka timestamps do not change on replay, so verdicts do not change either. A row without a Kafka timestamp
    uses its venue time, which is in the table as well.

    Ids are held by topic partition until the partition's clock (`k2.dedup.window.Clock`) is two windows ahead of them.
    They expire in buckets of 1/144 window, without a scan. Verdicts are therefore exact while a trade is at most one
    window older than the confirmed time of the partitions that have its symbol. Partitions of other symbols have no
    influence, whether they are ahead or behind.

    The state of `snapshot` contains positions and clocks, but no ids: at a start, `restore_blocks` takes the ids of a
    checkpoint, and `absorb` those of the table's rows.
    """

    def __init__(
        self, window_us: int, state: dict[str, Any] | None = None, hasher: TradeIdHasher | None = None
    ) -> None:
        """Start empty, or from a state returned by `snapshot`, possibly with another window.

        The deduplicators of a process share one `hasher`; without it, this one has its own, with a key of zeros.

        Raises:
            StateError: the state was written in a format that this version does not read.
        """
        self._rules = rules_for(window_us)
        self._hasher = TradeIdHasher(Symbols(), bytes(KEY_BYTES)) if hasher is None else hasher
        self._logs: dict[TopicPartition, IdLog] = {}
        self._blocks = SealedBlocks()
        self._positions: dict[TopicPartition, int] = {}
        if state is not None:
            self._restore(state)

    def __len__(self) -> int:
        """Return the number of held ids."""
        return sum(map(len, self._logs.values()))

    @property
    def size_bytes(self) -> int:
        """Memory used by the ids, bytes."""
        return sum(log.size_bytes for log in self._logs.values())

    @property
    def positions(self) -> Positions:
        """Next offset of this state in each topic partition."""
        return self._positions

    @property
    def clocks(self) -> Mapping[TopicPartition, Reach]:
        """Kafka time reached in each topic partition."""
        return {
            topic_partition: Reach(log.clock.reached, log.clock.newest) for topic_partition, log in self._logs.items()
        }

    def restore_blocks(self, blocks: Sequence[tuple[IdBlock, bytes]]) -> None:
        """Hold the ids of a checkpoint, before those of `absorb`: blocks that `seal` returned, under the same key.

        Raises:
            ValueError: the bytes of a block are not one; nothing has changed.
        """
        decoded = [(block, decode_block(data)) for block, data in blocks]
        counts: Counter[TopicPartition] = Counter()
        symbols: defaultdict[TopicPartition, set[tuple[str, str]]] = defaultdict(set)
        for part in (part for _, parts in decoded for part in parts):
            counts[part.topic_partition] += len(part.entries.times)
            symbols[part.topic_partition].update(part.symbols)
        for topic_partition, count in counts.items():
            log = self._logs.setdefault(topic_partition, IdLog(self._rules))
            names = [self._hasher.symbols.intern(*name) for name in symbols[topic_partition]]
            log.reserve(np.array(names, dtype=np.int32), count)
        for block, parts in decoded:
            firsts = {part.topic_partition: self._logs[part.topic_partition].entry_range[1] for part in parts}
            for part in parts:
                self._logs[part.topic_partition].restore(part.entries)
            self._blocks.add(block, {one: (first, self._logs[one].entry_range[1]) for one, first in firsts.items()})

    def seal(self) -> tuple[SealedIds, bytes | None]:
        """Return the held ids as blocks, and the bytes of the newest block if it is a new one.

        The next call refers to that block, so its bytes must be written, or the process must end.
        """
        blocks, data = self._blocks.seal(self._logs, self._hasher.symbols)
        return SealedIds(self._rules.window_us, self._hasher.key_check, blocks), data

    def absorb(self, stored: Iterable[StoredIds]) -> None:
        """Add the ids in the table, before the first row is judged.

        A topic partition without a clock gets the clock of the table.
        """
        for ids in stored:
            log = self._logs.setdefault(ids.topic_partition, IdLog(self._rules))
            if not log.clock.reached:
                log.start_clock(ids.reached)
            symbols = self._hasher.symbols.ids_of(ids.symbols, ids.names)
            log.absorb(symbols, ids.id_keys, np.clip(ids.times, 0, TIME_MAX))

    def deduplicate(self, trade_slice: TradeSlice) -> TradeSlice:
        """Return the slice with the duplicates and conflicts by trade id marked.

        Rows with a tracked sequence number, rows without an id, and rows that are not `STORED` keep their verdict. The
        given slice is not changed.
        """
        slice_indices = _rows_by_id(trade_slice)
        if not len(slice_indices):
            return trade_slice
        trade_slice = trade_slice.with_ids_of(self._hasher.symbols)
        topic_partition = trade_slice.batch.source.topic_partition
        self._positions[topic_partition] = trade_slice.batch.offset(int(trade_slice.rows[-1])) + 1
        found = self._judge(topic_partition, trade_slice, slice_indices)
        if not found.any():
            return trade_slice
        verdicts = trade_slice.verdicts.copy()
        verdicts[slice_indices] = found
        return replace(trade_slice, verdicts=verdicts)

    def _judge(
        self, topic_partition: TopicPartition, trade_slice: TradeSlice, slice_indices: NDArray[np.intp]
    ) -> NDArray[np.uint8]:
        columns, rows = trade_slice.batch.columns, trade_slice.rows[slice_indices]
        symbols, times = columns.symbols[rows], _times(trade_slice, rows)
        id_keys = np.empty((len(rows), 3), dtype=np.int64)
        id_keys[:, :2] = self._hasher.of(columns.text, columns.id_starts[rows], columns.id_sizes[rows], symbols)
        id_keys[:, 2] = short_fingerprints(columns.prices[rows], columns.quantities[rows], columns.sides[rows])
        verdicts = np.full(len(rows), STORED, dtype=np.uint8)
        own = self._logs.get(topic_partition)
        if own is None:
            own = self._logs[topic_partition] = IdLog(self._rules)
        for log in self._logs.values():
            if log is not own:
                log.mark(symbols, id_keys, times, verdicts)
        own.judge(symbols, id_keys, times, verdicts)
        return verdicts

    def snapshot(self) -> dict[str, object]:
        """Return the state as builtins, with symbols by name; later rows do not change the returned value."""
        return {
            "format": FORMAT,
            "positions": [
                [topic_partition.topic, topic_partition.partition, offset]
                for topic_partition, offset in self._positions.items()
            ],
            "clocks": [
                [topic_partition.topic, topic_partition.partition, *log.clock]
                for topic_partition, log in self._logs.items()
            ],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise StateError(
                f"the recovery store's ids have format {state.get('format')!r}; this version reads {FORMAT}:"
                " run the version that wrote it, or start without that store to rebuild the state"
            )
        self._positions = {TopicPartition(topic, partition): offset for topic, partition, offset in state["positions"]}
        self._logs = {
            TopicPartition(topic, partition): IdLog(self._rules, ClockState(*clock))
            for topic, partition, *clock in state["clocks"]
        }


def clocks_of(state: Mapping[str, Any]) -> Mapping[TopicPartition, Reach]:
    """Return the Kafka time reached in each topic partition by a state that `GroupDeduplicator.snapshot` returned."""
    return {TopicPartition(topic, partition): Reach(*clock[:2]) for topic, partition, *clock in state["clocks"]}


def short_fingerprints(
    prices: NDArray[np.uint64], quantities: NDArray[np.uint64], sides: NDArray[np.int8]
) -> NDArray[np.int64]:
    """Return int64[n]: the fingerprints of n trades without their ids, cut to 32 bits.

    They distinguish a conflict from a duplicate among trades of one id, so one conflict in 2^32 is taken for a
    duplicate. Different ids are never taken for each other because of them.

    Args:
        prices: uint64[n, 2], low word first.
        quantities: uint64[n, 2], low word first.
        sides: int8[n].
    """
    count = len(sides)
    zeros, text = np.zeros(count, dtype=np.int64), np.empty(0, dtype=np.uint8)
    columns = ContentColumns(zeros, prices, quantities, sides, text, zeros, np.full(count, -1, dtype=np.int32))
    return fingerprints(columns) & _SHORT


def _times(trade_slice: TradeSlice, rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return int64[m]: the Kafka time of each row, or its venue time if there is none."""
    times = trade_slice.batch.kafka_timestamps_of(rows)
    return np.clip(np.where(times == NULL_TIME, trade_slice.batch.columns.timestamps[rows], times), 0, TIME_MAX)


def _rows_by_id(trade_slice: TradeSlice) -> NDArray[np.intp]:
    """Return intp[k]: indices in a slice of the `STORED` rows that only their id identifies."""
    columns = trade_slice.batch.columns
    is_selected = np.ones(len(trade_slice), dtype=np.bool_)
    if VENUES[trade_slice.batch.source.venue].is_contiguous:
        is_selected = ~columns.has_sequence[trade_slice.rows]
        if not is_selected.any():
            return np.empty(0, dtype=np.intp)
    return np.flatnonzero(is_selected & (columns.id_sizes[trade_slice.rows] >= 0) & (trade_slice.verdicts == STORED))
