"""Roll the ledger back to the trades table: delete events whose trades were never committed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.pending_commit import WriterProgress
from k2.iceberg.table_progress import progress_of
from k2.model.committed_offsets import CommittedOffsets
from k2.model.progress import Progress, TopicPartition
from k2.ops.failpoints import failpoint
from k2.storage.commit_log import Remark
from k2.storage.row_filters import any_of, rows_from
from k2.storage.table_properties import PROGRESS

__all__ = ["WRITER", "TradesFence", "roll_back_events"]

WRITER: Final = "0"
"""The ledger has only one writer, because events are rare."""

_log = structlog.get_logger()


class TradesFence(Protocol):
    """Fences the trades table, as `k2.iceberg.sink.TradesSink` does."""

    def set_fencing_token(self, token: str) -> None:
        """Fence out instances that started before this one."""

    def adopt_fencing_token(self) -> None:
        """Commit under the fencing token that another process of this cluster may have set."""


class _EventSource(NamedTuple):
    """The symbol and the Kafka coordinates of an event."""

    exchange: str
    symbol: str
    topic_partition: TopicPartition
    offset: int


def roll_back_events(
    committer: Committer, trades_committed: CommittedOffsets, fence: TradesFence | None = None
) -> Progress:
    """Delete the events of trades that are not committed; return the ledger's progress afterwards.

    Trades and events are two commits, and a crash may happen in between. Those trades are read again, possibly in
    another order across partitions, and then cause other events; so their events in the ledger must be deleted first.
    Events of committed trades stay, whatever other writers lack, because later trades were judged by them.

    An instance that is still alive could commit those trades later, without their events. So the trades table gets a
    fencing token before anything is deleted. Without a `fence`, no other job may write to the trades table.

    Raises:
        UnreachableError: the catalog or store did not answer, after retries.
        FencedError: another instance has committed trades meanwhile.
    """

    def roll_back(table: Table, token: str) -> None:
        # At each attempt: after a conflict, the ledger may have events of trades that another instance has committed.
        if fence is not None:
            fence.set_fencing_token(token)
        _roll_back(table, trades_committed)

    act = partial(_snapshot_to_roll_back, trades_committed=trades_committed)
    while token := committer.change("reading the ledger", act):
        committer.change("rolling back events", partial(roll_back, token=token), also=(CommitFailedException,))
    if fence is not None:
        fence.adopt_fencing_token()
    return progress_of(committer.table)


def _snapshot_to_roll_back(table: Table, trades_committed: CommittedOffsets) -> str | None:
    """Return the current snapshot's id if it has events of uncommitted trades, otherwise None."""
    return f"{table.metadata.current_snapshot_id}" if _uncommitted_events(table, trades_committed) else None


def _roll_back(table: Table, trades_committed: CommittedOffsets) -> None:
    events = _uncommitted_events(table, trades_committed)
    if not events:
        return
    progress = progress_of(table)
    entries = progress.of(WRITER)
    new_progress = progress.replaced(WRITER, {**entries, **_rolled_back(entries, events, trades_committed)})
    swap = MetadataSwap(table)
    row_filter = any_of(_filters(events, trades_committed))
    swap.delete(row_filter, {Remark.ROLLED_BACK_EVENTS.value: str(len(events))})
    swap.set_properties(PROGRESS.set_to(new_progress))
    failpoint("events.rolling_back")
    swap.commit()
    failpoint("events.rolled_back")
    _log.info("events_rolled_back", events=len(events), reason="their trades are not in the table")


def _uncommitted_events(table: Table, trades_committed: CommittedOffsets) -> list[_EventSource]:
    """Return the sources of the events whose trades are not committed."""
    entries = progress_of(table).of(WRITER)
    lowest = {topic_partition: min(trades_committed.offsets(topic_partition)) for topic_partition in entries}
    filters = [
        rows_from(topic_partition, lowest[topic_partition])
        for topic_partition, entry in entries.items()
        if entry.offset > lowest[topic_partition]
    ]
    if not filters:
        return []
    fields = ("exchange", "symbol", "topic", "partition", "offset")
    rows = table.scan(row_filter=any_of(filters), selected_fields=fields).to_arrow().to_pylist()
    events = (
        _EventSource(row["exchange"], row["symbol"], TopicPartition(row["topic"], row["partition"]), row["offset"])
        for row in rows
    )
    return [event for event in events if event.offset >= trades_committed.offset(*event[:3])]


def _filters(events: Iterable[_EventSource], trades_committed: CommittedOffsets) -> Iterator[BooleanExpression]:
    """Yield filters for these events: by topic partition if all writers are at one offset, otherwise by symbol."""
    for topic_partition in sorted({event.topic_partition for event in events}):
        if len({*trades_committed.offsets(topic_partition)}) == 1:
            yield rows_from(topic_partition, trades_committed.offsets(topic_partition)[0])
            continue
        for exchange, symbol in sorted({event[:2] for event in events if event.topic_partition == topic_partition}):
            offset = trades_committed.offset(exchange, symbol, topic_partition)
            yield rows_from(topic_partition, offset, exchange=exchange, symbol=symbol)


def _rolled_back(
    entries: WriterProgress, events: Iterable[_EventSource], trades_committed: CommittedOffsets
) -> WriterProgress:
    counts = Counter(event.topic_partition for event in events)
    return {
        topic_partition: msgspec.structs.replace(
            entries[topic_partition],
            offset=min(entries[topic_partition].offset, max(trades_committed.offsets(topic_partition))),
            received=entries[topic_partition].received - count,
            stored=entries[topic_partition].stored - count,
        )
        for topic_partition, count in counts.items()
    }
