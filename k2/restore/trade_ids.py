"""Trade ids at a start: from the blocks of checkpoints, and from the table's rows, hashed and spooled by key group."""

import secrets
import threading
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    IsNull,
    LessThanOrEqual,
    NotNull,
)
from pyiceberg.table import Table

from k2.dedup.trade_id_hash import KEY_BYTES, TradeIdHasher, table_key
from k2.dedup.window import WindowRules, rules_for, settled
from k2.model.key_groups import GROUPS
from k2.model.progress import Progress, TopicPartition
from k2.model.state_source import ID_BLOCKS_FORMAT, IdBlock, Positions, Reach, SealedIds, StoredIds
from k2.model.symbols import Symbols
from k2.ops.retry import retried
from k2.ops.settings import Settings
from k2.restore.checkpoints import Checkpoints
from k2.restore.content_columns import pair_numbers, short_fingerprints_of
from k2.restore.queries import open_engine
from k2.storage.catalog_errors import CATALOG_TRANSIENT
from k2.storage.checkpoints import CheckpointError, read_id_block
from k2.storage.row_filters import any_of, rows_from

__all__ = ["StoredTradeIds"]

_LOG: Final = structlog.get_logger()
_SPOOLED_BYTES_MAX: Final = 1 << 24
"""Above this size a key group's ids are spooled to a temporary file; those of other processes' groups stay there."""
_BATCH_ROWS: Final = 1 << 18
_ROW: Final = np.dtype([("id_key", "<i8", 3), ("time", "<i8"), ("symbol", "<i4"), ("source", "<i4")])


class Span(NamedTuple):
    """The time span of the ids to read of a topic partition, both bounds inclusive; microseconds since the epoch."""

    reached: int
    """The time of its clock."""
    first: int
    last: int = 2**63 - 1
    """Set if the table cannot have later ones."""


def _all_fit(checkpoints: Checkpoints, rules: WindowRules, key_check: str) -> bool:
    """Return whether all checkpoints have their ids, as far back as two windows reach, under that key."""
    return bool(checkpoints.groups) and all(
        one.ids is not None and _fits(one.ids, rules, key_check) for one in checkpoints.groups.values()
    )


def _fits(ids: SealedIds, rules: WindowRules, key_check: str) -> bool:
    return ids.format == ID_BLOCKS_FORMAT and ids.window_us >= rules.window_us and ids.key_check == key_check


def _read_block(table: Table, block: IdBlock) -> bytes:
    return retried("reading trade ids", lambda: read_id_block(table, block), also=CATALOG_TRANSIENT)


def _span(reached: int, rules: WindowRules) -> Span:
    return Span(reached, rules.floor(reached))


class _Reading(NamedTuple):
    """Which ids are read from the table's rows; groups that need the same ones are read together."""

    is_resumed: bool
    """Whether the clocks of recovered states decide which ids can still matter, rather than the times of the rows."""
    is_after_checkpoint: bool
    """Whether blocks have the ids up to the checkpoints, so that only later rows are read."""


class StoredTradeIds:
    """The ids of the table as it was when the process started; safe to use from several worker threads.

    A checkpoint has the ids of its group in blocks; then only the rows since are read from the table. If one group's
    checkpoint has none that fit, or a block cannot be read, the ids come from the rows of two windows.

    The clock of a topic partition determines which of its ids are read: the clock of the recovered states or, if they
    have none, the time that the table's own rows confirm. `written` is the table's offsets at the recovered epoch, by
    writer; None if unknown. If a partition has not moved since, no row is later than what the states have seen. So for
    a partition that fell silent long ago, newer files need not be read. Rows that the states have not seen were
    committed after the Iceberg sequence number `committed_after`.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table | None,
        progress: Progress,
        written: Mapping[str, Positions] | None,
        symbols: Symbols | None = None,
        committed_after: int = 0,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._committed_after = committed_after
        self._checkpoints = checkpoints
        self._settings = settings
        self._lock = threading.Lock()
        self.hash_key: Final = secrets.token_bytes(KEY_BYTES) if table is None else table_key(table.metadata.table_uuid)
        """The key of the hashes: the same in each process that reads the table."""
        self._hasher = TradeIdHasher(Symbols() if symbols is None else symbols, self.hash_key)
        self._table, self._progress, self._written = table, progress, written
        self._clocks: dict[TopicPartition, Reach] = {}
        self._spooled: dict[_Reading, _SpooledIds] = {}
        self._with_blocks: set[int] = set()
        """Groups whose ids, up to their checkpoint, were returned as blocks."""

    def report_clocks(self, clocks: Mapping[TopicPartition, Reach]) -> None:
        """Report the clocks of a group's recovered state; the latest of all groups is used."""
        with self._lock:
            for topic_partition, reach in clocks.items():
                known = self._clocks.get(topic_partition, reach)
                self._clocks[topic_partition] = Reach(
                    max(reach.reached, known.reached), max(reach.newest, known.newest)
                )

    def blocks(self, group: int, window_us: int, key_check: str) -> Sequence[tuple[IdBlock, bytes]]:
        """Return the blocks of a group's checkpoint with their bytes; none if they cannot be used, which is logged.

        Raises:
            UnreachableError: the store did not answer, after retries.
        """
        table, checkpoints = self._table, self._checkpoints
        if table is None or checkpoints is None or not _all_fit(checkpoints, rules_for(window_us), key_check):
            return ()
        checkpoint = checkpoints.groups.get(group)
        ids = None if checkpoint is None else checkpoint.ids
        try:
            blocks = [] if ids is None else [(block, _read_block(table, block)) for block in ids.blocks]
        except CheckpointError as error:
            effect = "ids are read from the rows of the table"
            _LOG.warning("checkpoint_unreadable", groups=[group], error=str(error), effect=effect)
            return ()
        with self._lock:
            self._with_blocks.add(group)
        return blocks

    def ids(self, group: int, window_us: int, *, is_resumed: bool) -> Iterable[StoredIds]:
        """Return a group's ids, without those that `blocks` has returned before.

        They are read for all groups at once, and again only if a group is repeated.
        """
        if self._table is None:
            return ()
        with self._lock:
            is_after_checkpoint = group in self._with_blocks
            # The group of a checkpoint with blocks has its clocks in there.
            reading = _Reading(is_resumed or is_after_checkpoint, is_after_checkpoint)
            spooled = self._spooled.get(reading)
            if spooled is None or group in spooled.taken:
                spooled = self._spooled[reading] = self._read(self._table, rules_for(window_us), reading)
            return list(spooled.take(group))

    def _spans(self, table: Table, rules: WindowRules, *, is_resumed: bool) -> dict[TopicPartition, Span]:
        clocks = self._clocks if is_resumed else {}
        ahead = self._ahead() if is_resumed else dict.fromkeys(self._stored(), 0)
        spans = {one: _span(reach.reached, rules) for one, reach in clocks.items()}
        spans |= {one: span._replace(last=clocks[one].newest) for one, span in spans.items() if one not in ahead}
        without_clock = {one: offset for one, offset in ahead.items() if one not in clocks}
        after = self._committed_after if is_resumed else 0
        for topic_partition, reached in self._read_settled(table, without_clock, rules, after).items():
            spans[topic_partition] = _span(reached, rules)
        return spans

    def _read(self, table: Table, rules: WindowRules, reading: _Reading) -> "_SpooledIds":
        """Read the ids of trades without a sequence number whose Kafka time is in their topic partition's span.

        Files of other times are skipped by their statistics, and manifests of seen rows by their age.

        Raises:
            TableError: the table has delete files that cannot be applied.
            UnreachableError: a file of the table cannot be read.
        """
        spans = self._spans(table, rules, is_resumed=reading.is_resumed)
        spooled = _SpooledIds(spans, self._hasher.symbols)
        if not spans:
            return spooled
        # Without a clock, the states have seen no row with an id only.
        committed_after = self._committed_after if reading.is_resumed and not self._clocks else 0
        row_filter = And(_BY_ID, _within(spans))
        offsets: Positions = {}
        if reading.is_after_checkpoint:
            assert self._checkpoints is not None, "blocks come from checkpoints"
            offsets, committed_after = self._checkpoints.positions, self._checkpoints.committed_after
            row_filter = And(row_filter, any_of(rows_from(one, offsets.get(one, 0)) for one in spans))
        with open_engine(self._settings) as engine:
            engine.register("trades", table, row_filter=row_filter, committed_after=committed_after)
            bounds = {
                "first": [one.first for one in spans.values()],
                "last": [one.last for one in spans.values()],
                "first_offset": [offsets.get(one, 0) for one in spans],
            }
            engine.register_arrow("spans", _as_arrow(spans, bounds))
            with engine.rows(_IDS, batch_rows=_BATCH_ROWS) as rows:
                for batch in rows.batches:
                    spooled.add(self._hashed(batch))
        return spooled

    def _hashed(self, batch: pa.RecordBatch) -> NDArray[np.void]:
        rows = np.empty(len(batch), dtype=_ROW)
        rows["symbol"] = pair_numbers(batch, "exchange", "symbol", self._hasher.symbols.intern)
        rows["id_key"][:, :2] = _id_hashes(batch["trade_id"], rows["symbol"].astype(np.int32), self._hasher)
        rows["id_key"][:, 2] = short_fingerprints_of(batch)
        rows["time"], rows["source"] = batch["time"].to_numpy(), batch["source"].to_numpy()
        return rows

    def _read_settled(
        self, table: Table, starts: Positions, rules: WindowRules, committed_after: int
    ) -> dict[TopicPartition, int]:
        """Return the Kafka time that each topic partition has certainly reached, by its last rows from `starts` on.

        Raises as `_read`.
        """
        if not starts:
            return {}
        from_offsets = any_of(rows_from(one, offset) for one, offset in starts.items())
        with open_engine(self._settings) as engine:
            engine.register("trades", table, row_filter=And(_BY_ID, from_offsets), committed_after=committed_after)
            engine.register_arrow("starts", _as_arrow(starts, {"first": [*starts.values()]}))
            last = {row["source"]: row["times"] for row in engine.query(_LAST, {"count": rules.confirmations})}
        return {one: settled(last.get(source, []), rules) for source, one in enumerate(starts)}

    def _stored(self) -> list[TopicPartition]:
        return [one for one in self._progress.partitions() if self._progress.counts(one).stored]

    def _ahead(self) -> dict[TopicPartition, int]:
        """Return the topic partitions with rows that recovered states may not have seen, and the first such offset."""
        if self._written is None:
            return dict.fromkeys(self._stored(), 0)
        ahead: dict[TopicPartition, int] = {}
        for writer, entries in self._progress.writers.items():
            written = self._written.get(writer, {})
            for topic_partition, entry in entries.items():
                seen = written.get(topic_partition, 0)
                if entry.offset > seen:
                    ahead[topic_partition] = min(seen, ahead.get(topic_partition, seen))
        return ahead


class _SpooledIds:
    """The ids of each key group, spooled until they are taken."""

    def __init__(self, spans: Mapping[TopicPartition, Span], symbols: Symbols) -> None:
        self._symbols = symbols
        self._spans = list(spans.items())
        self._files: defaultdict[int, IO[bytes]] = defaultdict(_spool)
        # Ids of groups that belong to other processes are never taken.
        weakref.finalize(self, _close, self._files)
        self.taken: set[int] = set()

    def add(self, rows: NDArray[np.void]) -> None:
        """Add rows to the spools of their symbols' groups."""
        groups = self._symbols.groups[rows["symbol"]]
        rows = _taken(rows, np.argsort(groups, kind="stable"))
        ends = np.cumsum(np.bincount(groups, minlength=GROUPS)).tolist()
        for group, (start, end) in enumerate(pairwise((0, *ends))):
            if start < end:
                self._files[group].write(rows[start:end].tobytes())

    def take(self, group: int) -> Iterator[StoredIds]:
        """Yield a group's ids by topic partition, and delete its spool."""
        self.taken.add(group)
        with self._files.pop(group, None) or _spool() as file:
            file.seek(0)
            rows = np.frombuffer(file.read(), dtype=_ROW)
        for source, (topic_partition, span) in enumerate(self._spans):
            own = _taken(rows, np.flatnonzero(rows["source"] == source))
            if len(own):
                symbols, times = own["symbol"].astype(np.int32), own["time"].astype(np.int64)
                id_keys = np.ascontiguousarray(own["id_key"])
                yield StoredIds(topic_partition, span.reached, symbols, self._symbols, id_keys, times)


def _taken(rows: NDArray[np.void], indices: NDArray[np.intp]) -> NDArray[np.void]:
    """Return some rows; NumPy copies rows of whole words several times faster than records."""
    words = rows.view(np.int64).reshape(len(rows), _ROW.itemsize // 8)
    return words.take(indices, axis=0).view(_ROW).reshape(-1)


def _spool() -> IO[bytes]:
    return SpooledTemporaryFile(_SPOOLED_BYTES_MAX)


def _close(files: Mapping[int, IO[bytes]]) -> None:
    for file in files.values():
        file.close()


_IDS: Final = """
    SELECT source, exchange, symbol, trade_id, price, quantity, side,
           epoch_us(coalesce(kafka_timestamp, timestamp)) AS time
    FROM trades JOIN spans USING (topic, partition)
    WHERE session = 0 AND trade_id IS NOT NULL AND epoch_us(coalesce(kafka_timestamp, timestamp)) BETWEEN first AND last
      AND "offset" >= first_offset
"""

_LAST: Final = """
    SELECT source, max_by(epoch_us(coalesce(kafka_timestamp, timestamp)), "offset", $count) AS times
    FROM trades JOIN starts USING (topic, partition)
    WHERE session = 0 AND trade_id IS NOT NULL AND "offset" >= first
    GROUP BY source
"""


def _as_arrow(sources: Collection[TopicPartition], bounds: Mapping[str, list[int]]) -> pa.Table:
    """Return topic partitions as a table, with their position as `source`, and their bounds."""
    return pa.table(
        {
            "source": pa.array(range(len(sources)), pa.int32()),
            "topic": pa.array([one.topic for one in sources], pa.string()),
            "partition": pa.array([one.partition for one in sources], pa.int32()),
        }
        | {name: pa.array(values, pa.int64()) for name, values in bounds.items()}
    )


# PyIceberg's type hints lack its constructors.
_BY_ID: Final = And(EqualTo("session", 0), NotNull("trade_id"))  # type: ignore[call-arg,arg-type]
_TIME_MAX: Final = 253_402_300_799_999_999
"""The end of the year 9999."""


def _within(spans: Mapping[TopicPartition, Span]) -> BooleanExpression:
    """Return a filter for the spans' times in any topic partition: the fewest intervals that cover them."""
    intervals: list[tuple[int, int]] = []
    for first, last in sorted((span.first, span.last) for span in spans.values()):
        if intervals and first <= intervals[-1][1]:
            intervals[-1] = intervals[-1][0], max(intervals[-1][1], last)
        else:
            intervals.append((first, last))
    is_null = IsNull("kafka_timestamp")  # type: ignore[arg-type,call-arg]
    return any_of([is_null, *(_between(*interval) for interval in intervals)])


def _between(first: int, last: int) -> BooleanExpression:
    """Return a filter for the rows between two times, without bounds that PyIceberg cannot represent."""
    bounds: list[BooleanExpression] = []
    if first > 0:
        bounds.append(GreaterThanOrEqual("kafka_timestamp", min(first, _TIME_MAX)))  # type: ignore[call-arg,arg-type]
    if last <= _TIME_MAX:
        bounds.append(LessThanOrEqual("kafka_timestamp", last))  # type: ignore[call-arg,arg-type]
    return And(AlwaysTrue(), AlwaysTrue(), *bounds)


def _id_hashes(ids: "pa.Array[Any]", symbols: NDArray[np.int32], hasher: TradeIdHasher) -> NDArray[np.int64]:
    """Return int64[n, 2], the trade-id hashes; `ids` must not be a slice of another array."""
    _, offsets, text = ids.cast(pa.large_string()).buffers()
    assert offsets is not None
    bounds = np.frombuffer(memoryview(offsets), dtype=np.int64)[: len(ids) + 1]
    # A copy can be written, as all arrays that rules are compiled for.
    data = np.frombuffer(bytearray(text or b""), dtype=np.uint8)
    return hasher.of(data, bounds[:-1], np.diff(bounds).astype(np.int32), symbols)
