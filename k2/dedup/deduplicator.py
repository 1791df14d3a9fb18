"""Trades known by their id alone: one is stored once within a window of Kafka time."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.dedup.id_log import ClockState, IdLog
from k2.dedup.trade_id_hash import TRADE_ID_HASHER
from k2.dedup.window import rules_for
from k2.model.batch import NULL_TIME, TradeSlice
from k2.model.content import ContentColumns, contents
from k2.model.errors import StateError
from k2.model.progress import TopicPartition
from k2.model.state_source import Positions, Reach, SeenIds
from k2.model.verdicts import STORED
from k2.venues import VENUES

__all__ = ["GroupDeduplicator", "short_contents"]

FORMAT: Final = 2
_SHORT: Final = 0xFFFF_FFFF
TIME_MAX: Final = 2**61
"""Times beyond it, some 73,000 years on, count as it, so that sums stay within 64 bits."""


class GroupDeduplicator:
    """The ids stored of one key group's symbols, as far back as a duplicate can be told.

    A trade is a duplicate if one of the same exchange, symbol and id was stored under a Kafka
    timestamp at most a window before or after its own; if only with other content (price, quantity and side: 32 bits
    of their fingerprint), it is a conflict. The three are compared by 128 bits of a hash under a
    secret key. Kafka timestamps do not change on replay, so neither do verdicts. A row
    without one counts by its venue's time, which is in the table as well.

    Ids are held, by topic partition, until that partition's clock (`k2.dedup.window.Clock`) is two windows beyond
    them, and let go by buckets of a 144th of a window, at no cost. So verdicts are exact while a trade is at
    most one window older than what was believed to be reached of the partitions that bear its
    symbol; partitions of other symbols, ahead or behind, change nothing.

    The state holds positions and clocks alone, no ids: what was stored before is in the table, from where
    `absorb` takes it at a start.
    """

    def __init__(self, window_us: int, state: dict[str, Any] | None = None) -> None:
        """Start anew, or from what `snapshot` gave, be it under another window.

        Raises:
            StateError: the state was written in a format that this version does not read.
        """
        self._rules = rules_for(window_us)
        self._logs: dict[TopicPartition, IdLog] = {}
        self._positions: dict[TopicPartition, int] = {}
        if state is not None:
            self._restore(state)

    def __len__(self) -> int:
        """Return the number of ids held."""
        return sum(map(len, self._logs.values()))

    @property
    def size_bytes(self) -> int:
        """The memory that the ids take."""
        return sum(log.size_bytes for log in self._logs.values())

    @property
    def positions(self) -> Positions:
        """How far this state is in each topic partition."""
        return self._positions

    @property
    def clocks(self) -> Mapping[TopicPartition, Reach]:
        """How far each topic partition is in Kafka time."""
        return {where: Reach(log.clock.reached, log.clock.newest) for where, log in self._logs.items()}

    def absorb(self, seen: Iterable[SeenIds]) -> None:
        """Hold ids that are in the table, before the first row is judged.

        A topic partition whose clock is not known gets that of the table.
        """
        for ids in seen:
            log = self._logs.get(ids.where)
            if log is None or (ids.reached and not log.clock.reached):
                log = self._logs[ids.where] = IdLog(self._rules, ClockState(ids.reached))
            log.absorb(ids.symbols, ids.identities, np.clip(ids.times, 0, TIME_MAX))

    def deduplicate(self, piece: TradeSlice) -> TradeSlice:
        """Mark the rows that were stored already, or with other content, of those with an id and no tracked number.

        A row with a tracked number, without an id, or not to be stored anyhow is left alone, and
        so is the slice given.
        """
        places = _places_by_id(piece)
        if not len(places):
            return piece
        source = piece.batch.source
        where = TopicPartition(source.topic, source.partition)
        self._positions[where] = piece.batch.offset(int(piece.rows[-1])) + 1
        found = self._judge(where, piece, places)
        if not found.any():
            return piece
        verdicts = piece.verdicts.copy()
        verdicts[places] = found
        return replace(piece, verdicts=verdicts)

    def _judge(self, where: TopicPartition, piece: TradeSlice, places: NDArray[np.intp]) -> NDArray[np.uint8]:
        columns, rows = piece.batch.columns, piece.rows[places]
        symbols, times = columns.symbols[rows], _times(piece, rows)
        identities = np.empty((len(rows), 3), dtype=np.int64)
        identities[:, :2] = TRADE_ID_HASHER.of(columns.text, columns.id_starts[rows], columns.id_sizes[rows], symbols)
        identities[:, 2] = short_contents(columns.prices[rows], columns.quantities[rows], columns.sides[rows])
        verdicts = np.full(len(rows), STORED, dtype=np.uint8)
        own = self._logs.get(where)
        if own is None:
            own = self._logs[where] = IdLog(self._rules)
        for log in self._logs.values():
            if log is not own:
                log.mark(symbols, identities, times, verdicts)
        own.judge(symbols, identities, times, verdicts)
        return verdicts

    def snapshot(self) -> dict[str, object]:
        """Return the state as builtins alone, by names; later rows do not change what was given."""
        return {
            "format": FORMAT,
            "positions": [[where.topic, where.partition, offset] for where, offset in self._positions.items()],
            "clocks": [[where.topic, where.partition, *log.clock] for where, log in self._logs.items()],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise StateError(
                f"the recovery store's ids have format {state.get('format')!r}, this version reads {FORMAT}:"
                " run the version that wrote it, or start without that store to rebuild the state"
            )
        self._positions = {TopicPartition(topic, part): offset for topic, part, offset in state["positions"]}
        self._logs = {
            TopicPartition(topic, part): IdLog(self._rules, ClockState(*clock))
            for topic, part, *clock in state["clocks"]
        }


def short_contents(
    prices: NDArray[np.uint64], quantities: NDArray[np.uint64], sides: NDArray[np.int8]
) -> NDArray[np.int64]:
    """Return int64[n]: 32 bits of the content of n trades, uint64[n, 2] twice and int8[n], without their ids.

    They tell a conflict from a duplicate among trades of one id. So one conflict in four thousand million passes for a
    duplicate; two ids never do.
    """
    count = len(sides)
    none, text = np.zeros(count, dtype=np.int64), np.empty(0, dtype=np.uint8)
    columns = ContentColumns(none, prices, quantities, sides, text, none, np.full(count, -1, dtype=np.int32))
    return contents(columns) & _SHORT


def _times(piece: TradeSlice, rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the time by which each of some rows counts."""
    columns, messages = piece.batch.columns, piece.batch.source
    times = messages.kafka_timestamps[columns.messages[rows]]
    return np.clip(np.where(times == NULL_TIME, columns.timestamps[rows], times), 0, TIME_MAX)


def _places_by_id(piece: TradeSlice) -> NDArray[np.intp]:
    """Return the places in a slice of the rows that nothing but their id can tell from others."""
    columns = piece.batch.columns
    chosen = np.ones(len(piece), dtype=np.bool_)
    if VENUES[piece.batch.source.venue].is_contiguous:
        chosen = ~columns.has_sequence[piece.rows]
        if not chosen.any():
            return np.empty(0, dtype=np.intp)
    return np.flatnonzero(chosen & (columns.id_sizes[piece.rows] >= 0) & (piece.verdicts == STORED))
