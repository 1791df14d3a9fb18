"""The ledger brought back to the trades: events of trades that are not in the table are none yet."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Final

import msgspec
import structlog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, Or
from pyiceberg.table import Table

from connectors.iceberg.commit import Committer
from connectors.iceberg.fence import Entries
from connectors.iceberg.progress import PROGRESS, progress_of
from runtime.failpoints import failpoint
from trades.progress import PartitionProgress, Progress, TopicPartition

__all__ = ["WRITER", "Claim", "withdraw"]

WRITER: Final = "0"
"""The ledger's only writer: events are rare."""

Claim = Callable[[str | None], None]
"""Claims the trades' table for this start, or takes over what its cluster has claimed."""

_log = structlog.get_logger()


def withdraw(committer: Committer, floors: Mapping[TopicPartition, int], claim: Claim) -> Progress:
    """Remove the events of messages at or beyond `floors`, the first offsets that the trades' table lacks.

    Trades and events land in two commits, and a crash may come between. Those trades are read again, perhaps in
    another order over the partitions, and cause other events then; so what the ledger has of them must go first.
    An instance that is not dead yet could still commit those trades, for whose events nobody would answer then; so the
    trades' table is claimed before anything is removed. Gives the ledger's progress afterwards.

    Raises:
        UnreachableError: the catalog or store did not answer, after retries.
        FencedError: another instance has committed trades meanwhile.
    """
    look = partial(_snapshot_beyond, floors=floors)
    while mark := committer.change("reading the ledger", look):
        claim(mark)
        committer.change("withdrawing events", partial(_withdraw, floors=floors), also=(CommitFailedException,))
    claim(None)
    return progress_of(committer.table)


def _snapshot_beyond(table: Table, floors: Mapping[TopicPartition, int]) -> str | None:
    """Give the current snapshot's id where it holds events beyond `floors`, else None."""
    ahead = _ahead(table, floors)
    return f"{table.metadata.current_snapshot_id}" if ahead and _count(table, ahead) else None


def _withdraw(table: Table, floors: Mapping[TopicPartition, int]) -> None:
    ahead = _ahead(table, floors)
    counts = _count(table, ahead) if ahead else Counter()
    if not counts:
        return
    progress = progress_of(table)
    there = progress.of(WRITER)
    lowered = progress.replaced(WRITER, {**there, **_lowered(there, ahead, counts)})
    transaction = table.transaction()
    transaction.delete(_beyond(ahead), snapshot_properties={"k2.withdrawn": str(counts.total())})
    transaction.set_properties({PROGRESS: lowered.text()})
    failpoint("events.withdrawing")
    # Not `commit_transaction`, which retries on what it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001
    failpoint("events.withdrawn")
    _log.info("events withdrawn, since their trades are not in the table", events=counts.total())


def _ahead(table: Table, floors: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Give the floors of the topic partitions in which the ledger is beyond them."""
    there = progress_of(table).of(WRITER)
    return {where: floors.get(where, 0) for where, entry in there.items() if entry.offset > floors.get(where, 0)}


def _count(table: Table, floors: Mapping[TopicPartition, int]) -> Counter[TopicPartition]:
    rows = table.scan(row_filter=_beyond(floors), selected_fields=("topic", "partition")).to_arrow()
    return Counter(TopicPartition(row["topic"], row["partition"]) for row in rows.to_pylist())


def _lowered(there: Entries, floors: Mapping[TopicPartition, int], counts: Mapping[TopicPartition, int]) -> Entries:
    return {where: _less(there[where], floor, counts.get(where, 0)) for where, floor in floors.items()}


def _less(entry: PartitionProgress, floor: int, events: int) -> PartitionProgress:
    return msgspec.structs.replace(entry, offset=floor, received=entry.received - events, stored=entry.stored - events)


def _beyond(floors: Mapping[TopicPartition, int]) -> BooleanExpression:
    # PyIceberg's own types miss its constructors.
    parts: list[BooleanExpression] = [
        And(
            EqualTo("topic", where.topic),  # type: ignore[call-arg,arg-type]
            EqualTo("partition", where.partition),  # type: ignore[call-arg,arg-type]
            GreaterThanOrEqual("offset", floor),  # type: ignore[call-arg,arg-type]
        )
        for where, floor in floors.items()
    ]
    return reduce(Or, parts)
