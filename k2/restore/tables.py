"""The history that the rules ask for, read from the tables by DuckDB."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression

from k2.iceberg.row_filters import any_of, rows_from
from k2.iceberg.table_progress import progress_of
from k2.model.key_groups import group_of
from k2.model.progress import Progress, TopicPartition
from k2.model.state_source import (
    Ledger,
    NumberDoubt,
    Positions,
    Reach,
    SeenIds,
    SeenSession,
    SessionKey,
    StoredContents,
    WantedContents,
)
from k2.model.times import TIME_AHEAD_TOLERANCE_US
from k2.ops.settings import Settings
from k2.query.gaps import missing_ranges
from k2.query.pool import open_engine
from k2.restore.contents import read_contents
from k2.restore.trade_ids import StoredTradeIds
from k2.sequencing.doubts import doubts_in
from k2.sequencing.non_market import joined, non_market_in
from k2.storage.catalog import find_table

__all__ = ["TableStateSource"]

Row = dict[str, Any]
Seen = TypeVar("Seen")

QUERY_SECONDS_MAX: Final = 3600.0
"""A start may read a whole table, for which a user's query has no time."""


class TableStateSource:
    """The tables as they were when the process began; safe to use from several worker threads.

    Where states were resumed from a recovery store, only rows from the furthest of their positions on are read (files
    below are left out by their statistics); else the whole table is, by grouped queries. Ids are no part of the states:
    those of the last two windows are always read (`k2.restore.trade_ids`). `written` says how far the table was, by
    writer, at the recovered epoch; None where that is not known.
    """

    def __init__(self, settings: Settings, written: Mapping[str, Positions] | None = None) -> None:
        self._settings = settings.model_copy(update={"query_timeout_seconds": QUERY_SECONDS_MAX})
        self._lock = threading.Lock()
        self._floor: dict[TopicPartition, int] = {}
        self._trades = find_table(settings, "trades")
        self._progress = Progress() if self._trades is None else progress_of(self._trades)
        self._sessions: Mapping[int, list[SeenSession]] | None = None
        properties = {} if self._trades is None else self._trades.metadata.properties
        self._off_book = non_market_in(properties)
        self._doubts = doubts_in(properties)
        self._ids = StoredTradeIds(self._trades, self._progress, written)
        self._ledger: Ledger | None = None

    def resumed(self, positions: Positions) -> None:
        """Hear how far a group's recovered state is; all are told of before the first is asked for."""
        with self._lock:
            for where, offset in positions.items():
                self._floor[where] = max(offset, self._floor.get(where, offset))

    def clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Hear how far a group's recovered state is in time."""
        self._ids.clocks(clocks)

    def sessions(self, group: int) -> Iterable[SeenSession]:
        """Return the numbers in the table that recovered states may not know, the sessions of a symbol ascending."""
        with self._lock:
            if self._sessions is None:
                rows = map(_as_session, self._read_sessions())
                skipped = (seen for seen in self._off_book if seen.offset >= self._floor.get(seen.topic_partition, 0))
                self._sessions = _by_group(joined((*rows, *skipped)), lambda seen: seen.key[:2])
            return self._sessions.get(group, ())

    def contents(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:
        """Look up what the table stores under some numbers, now.

        `floor` is the Kafka time, microseconds since the epoch, below which a trade is only wanted at any age.
        """
        with self._lock:
            return read_contents(self._settings, wanted, floor, self._off_book)

    def committed(self, group: int) -> Positions:
        """Return the first offset of each topic partition that is not in the table for a group's rows."""
        entries = self._progress.of(str(group % self._settings.writers))
        return {where: entry.offset for where, entry in entries.items()}

    def doubts(self, group: int) -> Iterable[NumberDoubt]:
        """Return the conflicts of a group's symbols that are not settled by what is in the table."""
        return [one for one in self._doubts if group_of(one.exchange, one.symbol) == group]

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[SeenIds]:
        """Return the ids in the table whose Kafka time can still matter to a window."""
        return self._ids.ids(group, window_us, is_resumed=is_resumed)

    def ledger(self) -> Ledger:
        """Return what the ledger says, once it was brought back to the trades that are in the table."""
        with self._lock:
            if self._ledger is None:
                self._ledger = self._read_ledger()
            return self._ledger

    def _read_sessions(self) -> list[Row]:
        """Query what of the table the states may not know."""
        if self._trades is None or not self._is_behind():
            return []
        with open_engine(self._settings) as engine:
            engine.register("trades", self._trades, row_filter=_from(self._floor, self._progress))
            # Also as the job's own partitions: compacted files hold the rows of other writers next to ours.
            positions = {where: self._floor.get(where, 0) for where in self._progress.partitions()}
            engine.register_arrow("positions", _as_arrow(positions))
            return engine.table(_SESSIONS, {"tolerance": TIME_AHEAD_TOLERANCE_US}).to_pylist()

    def _is_behind(self) -> bool:
        """Whether the table may hold rows that the states do not know."""
        return any(
            entry.offset > self._floor.get(where, 0)
            for entries in self._progress.writers.values()
            for where, entry in entries.items()
            if entry.stored
        )

    def _read_ledger(self) -> Ledger:
        table = find_table(self._settings, "sequence_events")
        if table is None:
            return Ledger(frozenset(), {})
        with open_engine(self._settings) as engine:
            engine.register("sequence_events", table)
            started = engine.query(_STARTED)
            missing = missing_ranges(engine)
        return Ledger(frozenset(map(_session_key, started)), missing)


# Where a session's numbers have no hole they are one range; only the others' rows are looked at one by one.
_SESSIONS: Final = """
    WITH ahead AS (
        SELECT exchange, symbol, session, sequence, topic, partition, "offset",
               CASE WHEN epoch_us(timestamp) > epoch_us(kafka_timestamp) + $tolerance THEN epoch_us(kafka_timestamp)
                    ELSE epoch_us(timestamp) END AS seen_at
        FROM trades JOIN positions USING (topic, partition)
        WHERE session > 0 AND "offset" >= next_offset
    ), sums AS (
        SELECT exchange, symbol, session, min(sequence) AS first, max(sequence) AS last, count(*) AS numbers,
               max(seen_at) AS latest, min(seen_at) AS earliest,
               max_by(topic, seen_at) AS topic, max_by(partition, seen_at) AS partition,
               max_by("offset", seen_at) AS "offset"
        FROM ahead GROUP BY exchange, symbol, session
    ), sums_with_holes AS (
        SELECT * FROM sums WHERE numbers <> last::HUGEINT - first + 1
    ), holed AS (
        SELECT exchange, symbol, session, sequence,
               sequence::HUGEINT - row_number() OVER numbers AS island
        FROM ahead SEMI JOIN sums_with_holes USING (exchange, symbol, session)
        WINDOW numbers AS (PARTITION BY exchange, symbol, session ORDER BY sequence)
    ), islands AS (
        SELECT exchange, symbol, session, min(sequence) AS low, max(sequence) AS high
        FROM holed GROUP BY exchange, symbol, session, island
    ), ranges AS (
        SELECT exchange, symbol, session, list(low ORDER BY low) AS lows, list(high ORDER BY low) AS highs
        FROM islands GROUP BY exchange, symbol, session
    )
    SELECT exchange, symbol, session, latest, earliest, topic, partition, "offset",
           coalesce(lows, [first]) AS lows, coalesce(highs, [last]) AS highs
    FROM sums LEFT JOIN ranges USING (exchange, symbol, session)
    ORDER BY exchange, symbol, session
"""

_STARTED: Final = "SELECT DISTINCT exchange, symbol, session FROM sequence_events WHERE event = 'session_started'"


def _from(floor: Positions, progress: Progress) -> BooleanExpression:
    """Return the rows from `floor` on as Iceberg asks for them; a partition that is not in it counts whole."""
    return any_of(rows_from(where, floor.get(where, 0)) for where in progress.partitions())


def _as_arrow(positions: Positions) -> pa.Table:
    return pa.table(
        {
            "topic": pa.array([where.topic for where in positions], pa.string()),
            "partition": pa.array([where.partition for where in positions], pa.int32()),
            "next_offset": pa.array(positions.values(), pa.int64()),
        }
    )


def _session_key(row: Row) -> SessionKey:
    return SessionKey(row["exchange"], row["symbol"], row["session"])


def _as_session(row: Row) -> SeenSession:
    where = TopicPartition(row["topic"], row["partition"])
    ranges = tuple(zip(row["lows"], row["highs"], strict=True))
    return SeenSession(_session_key(row), ranges, row["latest"], row["earliest"], where, row["offset"])


def _by_group(seen: Iterable[Seen], name_of: Callable[[Seen], tuple[str, str]]) -> Mapping[int, list[Seen]]:
    groups: defaultdict[int, list[Seen]] = defaultdict(list)
    group_of_name = cache(group_of)
    for one in seen:
        groups[group_of_name(*name_of(one))].append(one)
    return groups
