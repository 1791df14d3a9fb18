"""Trades known by their id alone: one is stored once within a window of Kafka time."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trades.batch import NULL_TIME, TradeSlice
from trades.errors import StateError
from trades.history import Positions, SeenId
from trades.progress import TopicPartition
from trades.symbols import SYMBOLS
from trades.tracker import is_contiguous
from trades.verdicts import DUPLICATE, STORED

__all__ = ["GroupDeduplicator"]

FORMAT: Final = 1
BUCKETS: Final = 24
"""Into how many buckets of time a window is cut."""
WINDOWS_HELD: Final = 2
"""For how many windows an id is held."""

CONFIRMATIONS: Final = 100
"""So many rows in turn must be more than a window ahead before the clock follows: one wrong time must not make the
ids of the right ones too old to hold. Until it does, nothing is dropped."""

Source = tuple[str, int]
"""A topic partition."""
Ids = dict[bytes, int]
"""Ids stored within a bucket of time, and the Kafka timestamp of each."""


@dataclass(slots=True)
class _Clock:
    """The newest Kafka timestamp that a source gave, and the oldest bucket still held of it."""

    newest: int
    reached: int
    """The newest that is believed: expiry goes by it."""
    floor: int
    ahead: int = 0
    """How many rows in turn were more than a window ahead of what is believed."""


@dataclass(slots=True)
class _SymbolIds:
    """The ids of one symbol: by source, by bucket."""

    sources: dict[Source, dict[int, Ids]] = field(default_factory=dict)


class GroupDeduplicator:
    """The ids stored of one key group's symbols, as far back as a duplicate can be told.

    A trade is a duplicate if one of the same exchange, symbol and id was stored under a Kafka
    timestamp at most a window before or after its own. Ids are compared byte by byte, so no two
    ever collide. Kafka timestamps do not change on replay, so neither do verdicts.

    Ids lie in buckets of a 24th of a window, by topic partition, and are held until that partition's
    newest timestamp is two windows on: whole buckets are dropped, no id is looked at. A time more than a
    window ahead moves nothing until a hundred rows in turn bear such. So verdicts
    are exact while a trade is at most one window older than the newest one read of any partition
    that bears its symbol; partitions of other symbols, ahead or behind, change nothing. A row
    without a Kafka timestamp counts as the newest of its partition (as 0 before there is one).

    Memory: about 150 bytes and the id's own length for each id of two windows, all of it in each
    snapshot.
    """

    def __init__(self, window_us: int, state: dict[str, Any] | None = None) -> None:
        """Start anew, or from what `snapshot` gave, be it under another window.

        Raises:
            StateError: the state was written in a format that this version does not read.
        """
        self._window_us = window_us
        self._bucket_us = max(window_us // BUCKETS, 1)
        self._clocks: dict[Source, _Clock] = {}
        self._symbols: dict[int, _SymbolIds] = {}
        self._count = 0
        self._positions: dict[TopicPartition, int] = {}
        if state is not None:
            self._restore(state)

    def __len__(self) -> int:
        """Give the number of ids held."""
        return self._count

    @property
    def positions(self) -> Positions:
        """How far this state is in each topic partition."""
        return self._positions

    def absorb(self, seen: Iterable[SeenId]) -> None:
        """Hold ids that are in the table though this state was not there to see them stored."""
        for one in seen:
            source = one.where.topic, one.where.partition
            clock = self._clocks.setdefault(source, self._clock(0, 0))
            symbol = SYMBOLS.intern(one.exchange, one.symbol)
            self._add(source, symbol, one.trade_id.encode(), self._advance(clock, one.kafka_timestamp))
        for source, clock in self._clocks.items():
            self._expire(source, clock.floor)

    def deduplicate(self, piece: TradeSlice) -> TradeSlice:
        """Mark the rows that were stored already, among those that have an id and no tracked number.

        A row with a tracked number, without an id, or not to be stored anyhow is left alone, and
        so is the slice given.
        """
        places = _places_by_id(piece)
        if not len(places):
            return piece
        source = piece.batch.source
        self._positions[TopicPartition(source.topic, source.partition)] = piece.batch.offset(int(piece.rows[-1])) + 1
        duplicates = self._find(piece, places)
        if not duplicates:
            return piece
        verdicts = piece.verdicts.copy()
        verdicts[duplicates] = DUPLICATE
        return replace(piece, verdicts=verdicts)

    def _find(self, piece: TradeSlice, places: NDArray[np.intp]) -> list[int]:
        columns, messages = piece.batch.columns, piece.batch.source
        rows = piece.rows[places]
        text = columns.text.data
        source = messages.topic, messages.partition
        clock = self._clocks.setdefault(source, self._clock(0, 0))
        floor_before = clock.floor
        each = zip(
            places.tolist(),
            columns.symbols[rows].tolist(),
            columns.id_starts[rows].tolist(),
            columns.id_sizes[rows].tolist(),
            messages.kafka_timestamps[columns.messages[rows]].tolist(),
            strict=True,
        )
        duplicates = [
            place
            for place, symbol, start, size, timestamp in each
            if not self._add(source, symbol, bytes(text[start : start + size]), self._advance(clock, timestamp))
        ]
        if clock.floor > floor_before:
            self._expire(source, clock.floor)
        return duplicates

    def _add(self, source: Source, symbol: int, trade_id: bytes, at: int) -> bool:
        """Hold an id from now on; tell whether it was not stored within a window of that time."""
        ids = self._symbols.setdefault(symbol, _SymbolIds())
        if self._is_stored(ids, trade_id, at):
            return False
        bucket = at // self._bucket_us
        if bucket >= self._clocks[source].floor:
            ids.sources.setdefault(source, {}).setdefault(bucket, {})[trade_id] = at
            self._count += 1
        return True

    def _clock(self, newest: int, reached: int, ahead: int = 0) -> _Clock:
        return _Clock(newest, reached, self._floor(reached), ahead)

    def _floor(self, reached: int) -> int:
        return (reached - WINDOWS_HELD * self._window_us) // self._bucket_us

    def _advance(self, clock: _Clock, timestamp: int) -> int:
        """Move a source's clock to a row; give the time that the row counts as."""
        if timestamp == NULL_TIME:
            return clock.newest
        clock.newest = max(clock.newest, timestamp)
        clock.ahead = clock.ahead + 1 if timestamp > clock.reached + self._window_us else 0
        if timestamp > clock.reached and (not clock.ahead or clock.ahead >= CONFIRMATIONS):
            clock.reached, clock.ahead = timestamp, 0
            clock.floor = self._floor(timestamp)
        return timestamp

    def _is_stored(self, ids: _SymbolIds, trade_id: bytes, at: int) -> bool:
        """Tell whether an id was stored within a window of a time.

        A bucket below its source's floor is passed over though it is not yet dropped, so that a
        verdict does not depend on when it is.
        """
        first, last = (at - self._window_us) // self._bucket_us, (at + self._window_us) // self._bucket_us
        for source, buckets in ids.sources.items():
            floor = max(first, self._clocks[source].floor)
            for bucket, held in buckets.items():
                if floor <= bucket <= last:
                    stored_at = held.get(trade_id)
                    if stored_at is not None and abs(stored_at - at) <= self._window_us:
                        return True
        return False

    def _expire(self, source: Source, floor: int) -> None:
        for number in list(self._symbols):
            ids = self._symbols[number]
            buckets = ids.sources.get(source, {})
            for bucket in [bucket for bucket in buckets if bucket < floor]:
                self._count -= len(buckets.pop(bucket))
            if not buckets:
                ids.sources.pop(source, None)
            if not ids.sources:
                del self._symbols[number]

    def snapshot(self) -> dict[str, object]:
        """Give the state as builtins alone, by names; later rows do not change what was given."""
        return {
            "format": FORMAT,
            "bucket_us": self._bucket_us,
            "positions": [[where.topic, where.partition, offset] for where, offset in self._positions.items()],
            "newest": [[*source, clock.newest, clock.reached, clock.ahead] for source, clock in self._clocks.items()],
            "symbols": [
                [*SYMBOLS.name(number), *source, {bucket: dict(held) for bucket, held in buckets.items()}]
                for number, ids in self._symbols.items()
                for source, buckets in ids.sources.items()
            ],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state.get("format") != FORMAT:
            raise StateError(
                f"the recovery store's ids have format {state.get('format')!r}, this version reads {FORMAT}:"
                " run the version that wrote it, or start without that store to rebuild the state"
            )
        self._positions = {TopicPartition(topic, part): offset for topic, part, offset in state["positions"]}
        self._clocks = {
            (topic, partition): self._clock(newest, reached, ahead)
            for topic, partition, newest, reached, ahead in state["newest"]
        }
        for exchange, symbol, topic, partition, buckets in state["symbols"]:
            ids = self._symbols.setdefault(SYMBOLS.intern(exchange, symbol), _SymbolIds())
            ids.sources[topic, partition] = self._rebucketed(buckets, state["bucket_us"])
        self._count = sum(
            len(held) for ids in self._symbols.values() for buckets in ids.sources.values() for held in buckets.values()
        )
        for source, clock in self._clocks.items():
            self._expire(source, clock.floor)

    def _rebucketed(self, buckets: dict[int, Ids], bucket_us: int) -> dict[int, Ids]:
        """Give buckets of this window's size; where a longer one joins two of an id, the newer stays."""
        if bucket_us == self._bucket_us:
            return {bucket: dict(held) for bucket, held in buckets.items()}
        fitted: dict[int, Ids] = {}
        for _, held in sorted(buckets.items()):
            for trade_id, at in held.items():
                fitted.setdefault(at // self._bucket_us, {})[trade_id] = at
        return fitted


def _places_by_id(piece: TradeSlice) -> NDArray[np.intp]:
    """Give the places in a slice of the rows that nothing but their id can tell from others."""
    columns = piece.batch.columns
    chosen = np.ones(len(piece), dtype=np.bool_)
    if is_contiguous(piece.batch):
        chosen = ~columns.has_sequence[piece.rows]
        if not chosen.any():
            return np.empty(0, dtype=np.intp)
    return np.flatnonzero(chosen & (columns.id_sizes[piece.rows] >= 0) & (piece.verdicts == STORED))
