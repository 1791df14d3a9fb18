"""Conflicts of a writer's running epoch: pending until the stored trades that they contradict are looked up."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, In, LessThanOrEqual
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table

from k2.iceberg.column_buffer import ColumnBuffer
from k2.model.batch import TradeSlice
from k2.model.decimals import parse_decimal
from k2.model.trade import SIDES
from k2.sequencing.conflicts import Conflict, Content, NotFound, StoredKey, conflicts_in
from k2.storage.dead_letters.queue import DeadLetterQueue
from k2.storage.row_filters import any_of

__all__ = ["LOOKUPS_MAX", "LOOKUP_SECONDS_MAX", "PendingConflicts"]

LOOKUPS_MAX: Final = 1_000
"""Stored trades looked up per commit. A restart of numbering causes two conflicts per symbol. If there are far more,
their dead letters are repetitive, and the commit must not wait for them."""
PENDING_BYTES_MAX: Final = 8 * 2**20
"""Bytes of message keys and values that are pending until the commit: the same limit as for pending dead letters."""
LOOKUP_SECONDS_MAX: Final = 5.0
"""Time that a commit waits for the lookup: half of an epoch of 10 s."""
PAUSE_FACTOR: Final = 10
"""After a lookup of more than a second, lookups pause ten times as long, so they take a tenth of the time at most."""
_PAUSED_SECONDS_MIN: Final = 1.0
_COLUMNS: Final = ("exchange", "symbol", "session", "sequence", "trade_id", "price", "quantity", "side")

_log = structlog.get_logger()


class PendingConflicts:
    """The conflicts of one writer's epoch.

    A stored trade is looked up first among the rows of the epoch, then, once per commit, in the data files. If a lookup
    fails or takes too long, the dead letters lack their stored values, and nothing else happens.
    """

    def __init__(
        self, dead_letters: DeadLetterQueue, table: Callable[[], Table], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Append to `dead_letters`; `table` returns the table to read, as it is at the lookup."""
        self._dead_letters = dead_letters
        self._table = table
        self._clock = clock
        self._pending: list[Conflict] = []
        self._pending_bytes = 0
        self._found: dict[StoredKey, Content] = {}
        self._paused_until = clock()

    def add(self, trade_slice: TradeSlice, indices: NDArray[np.int64]) -> None:
        """Hold a slice's conflicts until the commit; beyond the limits, append their dead letters at once."""
        beyond = []
        for conflict in conflicts_in(trade_slice, indices):
            size = len(conflict.message.key or "") + len(conflict.message.value or "")
            if len(self._pending) < LOOKUPS_MAX and self._pending_bytes + size <= PENDING_BYTES_MAX:
                self._pending.append(conflict)
                self._pending_bytes += size
            else:
                beyond.append(conflict.dead_letter(NotFound.NOT_READ))
        self._dead_letters.append(beyond)

    def find_in_buffer(self, buffer: ColumnBuffer) -> None:
        """Look up the stored trades among the epoch's rows; call this before the buffer is drained."""
        if wanted := self._wanted():
            self._found.update(buffer.find(wanted))

    def resolve(self, files: Sequence[DataFile]) -> None:
        """Look up the remaining trades in the epoch's `files` and in the table, and append all dead letters."""
        absence = NotFound.ABSENT if self._find_in_table(files) else NotFound.NOT_READ
        self._dead_letters.append(
            [conflict.dead_letter(self._found.get(conflict.key, absence)) for conflict in self._pending]
        )
        self._pending, self._pending_bytes, self._found = [], 0, {}

    def _wanted(self) -> set[StoredKey]:
        return {conflict.key for conflict in self._pending} - self._found.keys()

    def _find_in_table(self, files: Sequence[DataFile]) -> bool:
        """Look up the remaining trades; return whether each was found or is known to be absent."""
        wanted = self._wanted()
        if not wanted or self._clock() < self._paused_until:
            return not wanted
        started = self._clock()
        lookup = _Lookup(self._table(), files, wanted, started + LOOKUP_SECONDS_MAX, self._clock)
        self._found.update(lookup.wait(LOOKUP_SECONDS_MAX))
        seconds = self._clock() - started
        if seconds > _PAUSED_SECONDS_MIN:
            self._paused_until = started + seconds * (1 + PAUSE_FACTOR)
        return lookup.is_complete


class _Lookup:
    """One lookup, in its own thread: a store that hangs must not delay the commit."""

    def __init__(
        self,
        table: Table,
        files: Sequence[DataFile],
        wanted: Collection[StoredKey],
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self.is_complete = False
        self._table = table
        self._files = files
        self._wanted = wanted
        self._deadline = deadline
        self._clock = clock
        self._found: dict[StoredKey, Content] = {}

    def wait(self, seconds: float) -> dict[StoredKey, Content]:
        """Run the lookup, and return what is found within `seconds`."""
        thread = threading.Thread(target=self._run, name="conflict-lookup", daemon=True)
        thread.start()
        thread.join(seconds)
        if not self.is_complete:
            _log.warning("conflict_lookup_incomplete", found=len(self._found), wanted=len(self._wanted))
        # A thread that is late may still add to `_found`.
        return {key: content for key in self._wanted if (content := self._found.get(key)) is not None}

    def _run(self) -> None:
        try:
            self.is_complete = self._read()
        except Exception as error:  # noqa: BLE001  whatever fails, the dead letters only lack stored values
            _log.warning("conflict_lookup_failed", error=repr(error))

    def _read(self) -> bool:
        # One scan, so one snapshot for projection and plan. Newest days first: most conflicts are with recent trades.
        scan = self._table.scan(row_filter=any_of(_filters(self._wanted)), selected_fields=_COLUMNS)
        reader = ArrowScan(scan.table_metadata, scan.io, scan.projection(), scan.row_filter)
        tasks = [*map(FileScanTask, self._files), *sorted(scan.plan_files(), key=_day_of, reverse=True)]
        for task in tasks:
            if len(self._found) == len(self._wanted):
                break
            if self._clock() >= self._deadline:
                return False
            for batch in reader.to_record_batches([task]):
                self._add_wanted(batch.to_pylist())
        return True

    def _add_wanted(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            session = row["session"] or 0
            key = StoredKey(row["exchange"], row["symbol"], session, row["sequence"] if session else row["trade_id"])
            if key in self._wanted:
                self._found.setdefault(key, _content_of(row))


def _content_of(row: dict[str, Any]) -> Content:
    return Content(_scaled(row["price"]), _scaled(row["quantity"]), SIDES.index(row["side"]), row["trade_id"])


def _scaled(value: Decimal) -> int:
    # Parsed as text: Python rounds decimal arithmetic to 28 digits.
    return parse_decimal(f"{value:f}")


def _day_of(task: FileScanTask) -> int:
    day = task.file.partition[0] if len(task.file.partition) else None
    return day if isinstance(day, int) else 0


def _filters(wanted: Collection[StoredKey]) -> Iterator[BooleanExpression]:
    """Yield filters that select at least the wanted rows, and are cheap to evaluate whatever the number of keys."""
    by_number = [key for key in wanted if key.session]
    by_id = [key for key in wanted if not key.session]
    if by_number:
        numbers = {key.number for key in by_number}
        # PyIceberg prunes files by bounds, but not by a set of more than 200 values.
        yield And(
            *_names(by_number),
            GreaterThanOrEqual("sequence", min(numbers)),  # type: ignore[call-arg,arg-type]
            LessThanOrEqual("sequence", max(numbers)),  # type: ignore[call-arg,arg-type]
            In("sequence", numbers),  # type: ignore[call-arg,arg-type]
        )
    if by_id:
        yield And(*_names(by_id), In("trade_id", {key.number for key in by_id}))  # type: ignore[call-arg,arg-type]


def _names(keys: Collection[StoredKey]) -> tuple[BooleanExpression, BooleanExpression]:
    return (
        In("exchange", {key.exchange for key in keys}),  # type: ignore[call-arg,arg-type]
        In("symbol", {key.symbol for key in keys}),  # type: ignore[call-arg,arg-type]
    )
