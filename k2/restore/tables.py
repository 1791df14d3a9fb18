"""The state source that reads the tables with DuckDB."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import structlog
from pyiceberg.expressions import BooleanExpression

from k2.dedup.deduplicator import clocks_of
from k2.iceberg.table_progress import progress_of
from k2.model.key_groups import group_of
from k2.model.progress import Progress, TopicPartition
from k2.model.state_source import (
    AnnouncedNumber,
    GroupState,
    IdBlock,
    Ledger,
    NumberDoubt,
    Positions,
    Reach,
    SessionKey,
    StoredContents,
    StoredIds,
    StoredSession,
    WantedContents,
)
from k2.model.symbols import Symbols
from k2.ops.metrics import STATE_REBUILT
from k2.ops.retry import retried
from k2.ops.settings import Settings
from k2.restore.checkpoints import Checkpoints, find_checkpoints
from k2.restore.contents import read_contents
from k2.restore.queries import open_engine
from k2.restore.recovery_store import NO_STORE, ResumeInfo
from k2.restore.trade_ids import StoredTradeIds
from k2.sequencing.non_market import joined
from k2.storage.catalog import find_table
from k2.storage.catalog_errors import CATALOG_TRANSIENT
from k2.storage.removed_rows import read_removed_numbers
from k2.storage.row_filters import any_of, rows_from
from k2.storage.table_properties import ANNOUNCED_NUMBERS, CHECKPOINTS, DOUBTS, NON_MARKET_NUMBERS, REMOVED_ROWS

__all__ = ["TableStateSource"]

Row = dict[str, Any]
_LOG: Final = structlog.get_logger()

QUERY_SECONDS_MAX: Final = 3600.0
"""A start may read a whole table, which takes longer than a user's query may."""


class TableStateSource:
    """The tables as they were when the process started; safe to use from several worker threads.

    If states were resumed from a recovery store, only rows from the highest of their positions on are read (files below
    are skipped by their statistics). Otherwise the states come from the checkpoints in the warehouse, and the rows from
    the lowest of their positions on are read. Without checkpoints the whole table is, by grouped queries. In all cases
    trade ids come from the checkpoints, and from the rows since (`k2.restore.trade_ids`).
    """

    def __init__(self, settings: Settings, resume_info: ResumeInfo = NO_STORE, symbols: Symbols | None = None) -> None:
        self._settings = settings.model_copy(update={"query_timeout_seconds": QUERY_SECONDS_MAX})
        self._lock = threading.Lock()
        self._resumed_offsets: dict[TopicPartition, int] = {}
        self._trades = find_table(settings, "trades")
        self._progress = Progress() if self._trades is None else progress_of(self._trades)
        self._sessions: Mapping[int, list[StoredSession]] | None = None
        properties = {} if self._trades is None else self._trades.metadata.properties
        self._non_market = [session for one in NON_MARKET_NUMBERS.read_all(properties) for session in one.sessions()]
        self._removed = self._read_removed(properties)
        self._doubts = [doubt for one in DOUBTS.read_all(properties) for doubt in one.each()]
        self._announced = [number for one in ANNOUNCED_NUMBERS.read_all(properties) for number in one.each()]
        self._ledger: Ledger | None = None
        found = self._find_checkpoints(is_resumed=resume_info.is_resumed)
        self._checkpoints = None if resume_info.is_resumed else found
        self._committed_after = 0 if self._checkpoints is None else self._checkpoints.committed_after
        self._ids = StoredTradeIds(
            self._settings,
            self._trades,
            self._progress,
            self._written(resume_info),
            symbols,
            self._committed_after,
            found,
        )
        if self._checkpoints is not None:
            self._resumed_offsets.update(self._checkpoints.positions)
            for checkpoint in self._checkpoints.groups.values():
                self._ids.report_clocks(clocks_of(checkpoint.deduplicate))

    def _read_removed(self, properties: Mapping[str, str]) -> list[StoredSession]:
        """Return the numbers of rows that were removed since, which no rule may take for missing."""
        if self._trades is None:
            return []
        table, removed = self._trades, REMOVED_ROWS.read(properties)
        return retried("reading removed numbers", lambda: read_removed_numbers(table, removed), also=CATALOG_TRANSIENT)

    def _find_checkpoints(self, *, is_resumed: bool) -> Checkpoints | None:
        """Return the checkpoints to start from: None if one is missing, or if a recovery store needs no ids of them."""
        STATE_REBUILT.set(0)
        if self._trades is None:
            return None
        named = CHECKPOINTS.read_all(self._trades.metadata.properties)
        if is_resumed and not any(one.has_ids for one in named):
            return None
        found = find_checkpoints(self._trades, self._progress, self._settings.writers)
        if is_resumed:
            return found
        if found.groups:
            _LOG.info("checkpoints_read", groups=len(found.groups), offsets_after=found.offsets_after)
            return found
        if found.missing:
            _LOG.warning("checkpoints_incomplete", missing=found.missing, effect="reading the whole table")
        return None

    def _written(self, resume_info: ResumeInfo) -> Mapping[str, Positions] | None:
        """Return what the states have seen of each writer's rows; None if that is not known."""
        if self._checkpoints is None:
            return resume_info.written
        return {one: self._checkpoints.of_writer(one, self._settings.writers) for one in self._progress.writers}

    def checkpoint(self, group: int) -> GroupState | None:
        """Return the state of a group from its checkpoint; None if there is none, or a store was resumed."""
        found = None if self._checkpoints is None else self._checkpoints.groups.get(group)
        return None if found is None else GroupState(found.sequence, found.deduplicate)

    def report_positions(self, positions: Positions) -> None:
        """Report the positions of a group's recovered state; called for all groups before the first read."""
        with self._lock:
            for topic_partition, offset in positions.items():
                self._resumed_offsets[topic_partition] = max(offset, self._resumed_offsets.get(topic_partition, offset))

    def report_clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Report the clocks of a group's recovered state."""
        self._ids.report_clocks(clocks)

    def sessions(self, group: int) -> Iterable[StoredSession]:
        """Return the numbers in the table that recovered states may lack; the sessions of a symbol are ascending."""
        with self._lock:
            if self._sessions is None:
                # Whether a peer's store has states for this process is known only now.
                STATE_REBUILT.set(not self._resumed_offsets and bool(self._progress.partitions()))
                rows = self._read_sessions()
                skipped = (
                    session
                    for session in (*self._non_market, *self._removed)
                    if session.offset >= self._resumed_offsets.get(session.topic_partition, 0)
                )
                self._sessions = _by_group(joined((*rows, *skipped)))
            return self._sessions.get(group, ())

    def contents(self, wanted: Sequence[WantedContents], floor: int) -> StoredContents:
        """Read the contents stored for the wanted numbers from the current table.

        `floor` is a Kafka time, microseconds since the epoch; older trades are included only if wanted at any age.
        """
        with self._lock:
            return read_contents(self._settings, wanted, floor, self._non_market)

    def committed(self, group: int) -> Positions:
        """Return the first offset of each topic partition that is not in the table for a group's rows."""
        entries = self._progress.of(str(group % self._settings.writers))
        return {topic_partition: entry.offset for topic_partition, entry in entries.items()}

    def announced(self, group: int) -> Iterable[AnnouncedNumber]:
        """Return the announced numbers of a group's symbols that the table has recorded."""
        return [one for one in self._announced if group_of(one.key.exchange, one.key.symbol) == group]

    def doubts(self, group: int) -> Iterable[NumberDoubt]:
        """Return the doubts of a group's symbols that the table has recorded."""
        return [one for one in self._doubts if group_of(one.exchange, one.symbol) == group]

    @property
    def id_hash_key(self) -> bytes:
        """The key by which trade ids are hashed."""
        return self._ids.hash_key

    def id_blocks(self, group: int, window_us: int, key_check: str) -> Sequence[tuple[IdBlock, bytes]]:
        """Return the blocks of a group's ids in its newest checkpoint; none if they do not fit, or cannot be read."""
        return self._ids.blocks(group, window_us, key_check)

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[StoredIds]:
        """Return the ids in the table whose Kafka time can still matter to a window, without those of blocks."""
        return self._ids.ids(group, window_us, is_resumed=is_resumed)

    def ledger(self) -> Ledger:
        """Return the sessions and missing ranges of the ledger; call this after the ledger is rolled back."""
        with self._lock:
            if self._ledger is None:
                self._ledger = self._read_ledger()
            return self._ledger

    def _read_sessions(self) -> list[StoredSession]:
        """Query the sessions in the table that the states may lack."""
        if self._trades is None or not self._is_behind():
            return []
        from k2.query.stored_sessions import stored_sessions  # noqa: PLC0415  as in `k2.restore.queries`

        with open_engine(self._settings) as engine:
            row_filter = _rows_from_offsets(self._resumed_offsets, self._progress)
            engine.register("trades", self._trades, row_filter=row_filter, committed_after=self._committed_after)
            # Joined with the job's own partitions as well: compacted files also have rows of other writers.
            positions = {one: self._resumed_offsets.get(one, 0) for one in self._progress.partitions()}
            return stored_sessions(engine, positions)

    def _is_behind(self) -> bool:
        """Whether the table may have rows that the states lack."""
        return any(
            entry.offset > self._resumed_offsets.get(topic_partition, 0)
            for entries in self._progress.writers.values()
            for topic_partition, entry in entries.items()
            if entry.stored
        )

    def _read_ledger(self) -> Ledger:
        table = find_table(self._settings, "sequence_events")
        if table is None:
            return Ledger(frozenset(), {})
        from k2.query.gaps import missing_ranges  # noqa: PLC0415  as in `k2.restore.queries`

        with open_engine(self._settings) as engine:
            engine.register("sequence_events", table)
            started = engine.query(_STARTED)
            missing = missing_ranges(engine)
        return Ledger(frozenset(map(_session_key, started)), missing)


_STARTED: Final = "SELECT DISTINCT exchange, symbol, session FROM sequence_events WHERE event = 'session_started'"


def _rows_from_offsets(offsets: Positions, progress: Progress) -> BooleanExpression:
    """Return a filter for the rows from `offsets` on; of a topic partition that is not in it, for all rows."""
    return any_of(rows_from(one, offsets.get(one, 0)) for one in progress.partitions())


def _session_key(row: Row) -> SessionKey:
    return SessionKey(row["exchange"], row["symbol"], row["session"])


def _by_group(sessions: Iterable[StoredSession]) -> Mapping[int, list[StoredSession]]:
    groups: defaultdict[int, list[StoredSession]] = defaultdict(list)
    group_of_name = cache(group_of)
    for session in sessions:
        groups[group_of_name(session.key.exchange, session.key.symbol)].append(session)
    return groups
