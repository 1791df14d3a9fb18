"""A writer's books: what of each topic partition is in, and what the running epoch adds to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.iceberg.fence import Entries
from k2.model.batch import TradeSlice
from k2.model.consumed import Consumed
from k2.model.dead_letter import DeadLetter
from k2.model.errors import StateError
from k2.model.progress import Counts, PartitionProgress, TopicPartition
from k2.model.verdicts import CONFLICT, DUPLICATE, SKIPPED, STORED

__all__ = ["PartitionCounts", "check_recovered", "check_resume", "resume_state"]

STATE_FORMAT: Final = 1
_NOWHERE: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


@dataclass
class _Page:
    """One topic partition in the running epoch."""

    base: int
    """First offset that is not in the table."""
    next_offset: int
    """First offset behind what the epoch has been told of."""
    start: int = 0
    """First offset that was ever read."""
    last_row_offset: int = -1
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    skipped: int = 0

    def move(self) -> PartitionProgress:
        """Return the next offset and this epoch's counts."""
        received = self.stored + self.duplicates + self.dead_letters + self.skipped
        return PartitionProgress(
            self.next_offset, received, self.stored, self.duplicates, self.dead_letters, self.skipped, self.start
        )

    @property
    def moved(self) -> bool:
        """Whether the epoch brought anything that is not in the table yet."""
        return self.next_offset > self.base or self.move().counts != Counts()


@dataclass
class PartitionCounts:
    """What one writer committed, and the pages of the running epoch."""

    committed: Entries
    _pages: dict[TopicPartition, _Page] = field(default_factory=dict)

    def tell(self, consumed: Consumed) -> list[DeadLetter]:
        """Note a range of offsets as read, and its messages without a trade; what is in already counts nothing.

        Gives the letters that count.

        Raises:
            StateError: messages lie between what is in and the range: nobody read them.
        """
        where = TopicPartition(consumed.topic, consumed.partition)
        page = self._page(where)
        if consumed.first_offset > page.next_offset:
            self._begin(where, page, consumed.first_offset)
        page.next_offset = max(page.next_offset, consumed.next_offset)
        page.skipped += int(np.count_nonzero(consumed.skipped >= page.base))
        letters = [letter for letter in consumed.dead_letters if letter.offset >= page.base]
        page.dead_letters += len(letters)
        return letters

    def count(self, piece: TradeSlice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count a slice's rows by verdict; give the places in it of those to store, and of conflicts.

        Rows below the table's progress are dropped before they are counted: they are a replay's.
        """
        source = piece.batch.source
        page = self._page(TopicPartition(source.topic, source.partition))
        offsets = source.offsets[piece.batch.columns.messages[piece.rows]]
        is_new = offsets >= page.base
        if not is_new.any():
            return _NOWHERE, _NOWHERE
        verdicts = piece.verdicts if is_new.all() else piece.verdicts[is_new]
        counts = np.bincount(verdicts, minlength=SKIPPED + 1)
        page.stored += int(counts[STORED])
        page.duplicates += int(counts[DUPLICATE])
        page.dead_letters += int(counts[CONFLICT])
        page.skipped += int(counts[SKIPPED])
        page.last_row_offset = max(page.last_row_offset, int(offsets.max()))
        conflicts = np.flatnonzero(is_new & (piece.verdicts == CONFLICT)) if counts[CONFLICT] else _NOWHERE
        return np.flatnonzero(is_new & (piece.verdicts == STORED)), conflicts

    def moves(self) -> dict[TopicPartition, PartitionProgress]:
        """Return what the epoch brought, of the topic partitions that moved."""
        for where, page in self._pages.items():
            assert page.last_row_offset < page.next_offset, f"{where}: a row beyond the ranges told as read"
        return {where: page.move() for where, page in self._pages.items() if page.moved}

    def close(self, committed: Entries) -> None:
        """Begin the next epoch behind a commit."""
        self.committed = committed
        self._pages.clear()

    def _begin(self, where: TopicPartition, page: _Page, first_offset: int) -> None:
        if where in self.committed or page.next_offset > page.base:
            raise StateError(
                f"{where}: read on from offset {first_offset}, but the table has it only to {page.next_offset}; "
                "messages would be lost: the recovery store is of another table"
            )
        page.base = page.next_offset = page.start = first_offset

    def _page(self, where: TopicPartition) -> _Page:
        page = self._pages.get(where)
        if page is None:
            entry = self.committed.get(where, PartitionProgress(0))
            page = self._pages[where] = _Page(entry.offset, entry.offset, entry.start)
        return page


def resume_state(committed: Entries, table_id: str) -> dict[str, Any]:
    """Return what a sink's snapshot holds: which table it writes, and how far the writer was in it."""
    offsets = {str(where): entry.offset for where, entry in committed.items()}
    return {"format": STATE_FORMAT, "table": table_id, "offsets": offsets}


def check_resume(state: Mapping[str, Any] | None, committed: Entries, table: str, table_id: str) -> None:
    """Refuse a recovery store that knows of more than the table holds; older is well, since it is replayed.

    Raises:
        StateError: the store is ahead of the table, of another table, or of a later format.
    """
    if state is None:
        return
    if state.get("format") != STATE_FORMAT:
        raise StateError(f"the recovery store holds format {state.get('format')}; this version reads {STATE_FORMAT}")
    offsets = {TopicPartition.parse(name): offset for name, offset in state["offsets"].items()}
    check_recovered(offsets, state.get("table"), committed, table, table_id)


def check_recovered(
    offsets: Mapping[TopicPartition, int], recorded_id: str | None, committed: Entries, table: str, table_id: str
) -> None:
    """Refuse what a recovery store recorded of a writer, as `check_resume` does; `recorded_id` may be unknown.

    Raises:
        StateError: the store is ahead of the table, or of another table.
    """
    if recorded_id not in {None, table_id}:
        raise StateError(
            f"the recovery store is of another table than {table} is now: that one was dropped and made again, or "
            "K2_NAMESPACE, K2_CATALOG or K2_DATA_DIR is another; set them back, or make a new store by "
            "`k2 recovery init DIR`"
        )
    for where, offset in sorted(offsets.items()):
        there = committed[where].offset if where in committed else None
        if there is None or offset > there:
            raise StateError(
                f"the recovery store is ahead of table {table}: {where} at offset {offset}, the table at "
                f"{'none' if there is None else there}; run `k2 recovery status`, then `k2 recovery restore` or `init`"
            )
