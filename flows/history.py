"""The history that the rules ask for, read from the tables by DuckDB."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression

from connectors.iceberg.filters import any_of, rows_from
from connectors.iceberg.progress import progress_of
from flows.columns import contents_of, pair_numbers
from flows.ids import TableIds
from query.gaps import missing_ranges
from query.pool import open_engine
from runtime.catalog import find_table
from runtime.settings import Settings
from trades.groups import group_of
from trades.history import NO_TRADES, Ledger, Positions, Reach, SeenIds, SeenSession, SeenTrades, SessionKey
from trades.off_book import joined, off_book_in
from trades.progress import Progress, TopicPartition
from trades.recent_kernel import RECENT

__all__ = ["TableHistory"]

Row = dict[str, Any]
Seen = TypeVar("Seen")

QUERY_SECONDS_MAX: Final = 3600.0
"""A start may read a whole table, for which a user's query has no time."""


class TableHistory:
    """The tables as they were when the process began; safe to use from several worker threads.

    Where states were resumed from a recovery store, only rows from the furthest of their positions on are read (files
    below are left out by their statistics); else the whole table is, by grouped queries. Ids are no part of the states:
    those of the last two windows are always read (`flows.ids`). `written` says how far the table was, by writer, at
    the recovered epoch; None where that is not known.
    """

    def __init__(self, settings: Settings, written: Mapping[str, Positions] | None = None) -> None:
        self._settings = settings.model_copy(update={"query_timeout_seconds": QUERY_SECONDS_MAX})
        self._lock = threading.Lock()
        self._floor: dict[TopicPartition, int] = {}
        self._trades = find_table(settings, "trades")
        self._progress = Progress() if self._trades is None else progress_of(self._trades)
        self._sessions: Mapping[int, list[SeenSession]] | None = None
        self._off_book = [] if self._trades is None else off_book_in(self._trades.metadata.properties)
        self._recent: Mapping[int, SeenTrades] | None = None
        self._ids = TableIds(self._trades, self._progress, written)
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
        """Give the numbers in the table that recovered states may not know, the sessions of a symbol ascending."""
        with self._lock:
            if self._sessions is None:
                rows = map(_as_session, self._query_trades(_SESSIONS))
                skipped = (seen for seen in self._off_book if seen.offset >= self._floor.get(seen.where, 0))
                self._sessions = _by_group(joined((*rows, *skipped)), lambda seen: seen.key[:2])
            return self._sessions.get(group, ())

    def recent(self, group: int) -> SeenTrades:
        """Give the newest trades likewise, by which others are known to be in conflict."""
        with self._lock:
            if self._recent is None:
                self._recent = self._read_recent()
            return self._recent.get(group, NO_TRADES)

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[SeenIds]:
        """Give the ids in the table whose Kafka time can still matter to a window."""
        return self._ids.ids(group, window_us, is_resumed=is_resumed)

    def ledger(self) -> Ledger:
        """Give what the ledger says, once it was brought back to the trades that are in the table."""
        with self._lock:
            if self._ledger is None:
                self._ledger = self._read_ledger()
            return self._ledger

    def _read_recent(self) -> Mapping[int, SeenTrades]:
        rows = self._ahead(_RECENT, {"kept": RECENT})
        trades = NO_TRADES if rows is None else _as_trades(rows)
        groups = np.array([group_of(*name) for name in trades.names], dtype=np.int64)
        return {group: trades.of(groups == group) for group in np.unique(groups).tolist()}

    def _query_trades(self, sql: str) -> list[Row]:
        rows = self._ahead(sql)
        return [] if rows is None else rows.to_pylist()

    def _ahead(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table | None:
        """Query what of the table the states may not know; None where that is nothing."""
        if self._trades is None or not self._is_behind():
            return None
        with open_engine(self._settings) as engine:
            engine.show("trades", self._trades, where=_from(self._floor, self._progress))
            # Also as the job's own partitions: compacted files hold the rows of other writers beside ours.
            positions = {where: self._floor.get(where, 0) for where in self._progress.partitions()}
            engine.show_arrow("positions", _as_arrow(positions))
            return engine.table(sql, parameters)

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
            engine.show("sequence_events", table)
            started = engine.query(_STARTED)
            missing = missing_ranges(engine)
        return Ledger(frozenset(map(_session_key, started)), missing)


# Where a session's numbers have no hole they are one range; only the others' rows are looked at one by one.
_SESSIONS: Final = """
    WITH ahead AS (
        SELECT exchange, symbol, session, sequence, epoch_us(timestamp) AS seen_at, topic, partition, "offset"
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

# The newest are those stored last: within a partition by offset, between partitions by the Kafka time reached there
# (a producer that sends old trades again may give them falling times).
_RECENT: Final = """
    WITH newest AS (
        SELECT exchange, symbol, session, sequence, price, quantity, side, epoch_us(timestamp) AS timestamp,
               topic, partition, "offset", "index", kafka_timestamp
        FROM trades JOIN positions USING (topic, partition)
        WHERE session > 0 AND "offset" >= next_offset
        QUALIFY row_number() OVER (
            PARTITION BY exchange, symbol, topic, partition ORDER BY "offset" DESC, "index" DESC
        ) <= $kept
    ), reaching AS (
        SELECT *, max(kafka_timestamp) OVER (
                   PARTITION BY exchange, symbol, topic, partition ORDER BY "offset", "index"
               ) AS reached
        FROM newest
    ), aged AS (
        SELECT *, row_number() OVER (
                   PARTITION BY exchange, symbol
                   ORDER BY reached DESC NULLS LAST, topic, partition, "offset" DESC, "index" DESC
               ) AS age
        FROM reaching
    )
    SELECT * FROM aged WHERE age <= $kept ORDER BY age DESC
"""

_STARTED: Final = "SELECT DISTINCT exchange, symbol, session FROM sequence_events WHERE event = 'session_started'"


def _from(floor: Positions, progress: Progress) -> BooleanExpression:
    """Give the rows from `floor` on as Iceberg asks for them; a partition that is not in it counts whole."""
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


def _as_trades(rows: pa.Table) -> SeenTrades:
    names: dict[tuple[str, str], int] = {}
    batches = rows.combine_chunks().to_batches()
    if not batches:
        return NO_TRADES
    (batch,) = batches
    numbers = pair_numbers(batch, "exchange", "symbol", lambda *name: names.setdefault(name, len(names)))
    return SeenTrades(
        list(names),
        numbers.astype(np.int64),
        batch["session"].to_numpy().astype(np.int64),
        batch["sequence"].to_numpy(),
        contents_of(batch["price"], batch["quantity"], batch["side"], batch["timestamp"].to_numpy()),
    )


def _by_group(seen: Iterable[Seen], name_of: Callable[[Seen], tuple[str, str]]) -> Mapping[int, list[Seen]]:
    groups: defaultdict[int, list[Seen]] = defaultdict(list)
    group_of_name = cache(group_of)
    for one in seen:
        groups[group_of_name(*name_of(one))].append(one)
    return groups
