"""The ledger brought back to the trades: events of trades that are not in the table are none yet."""

from collections import Counter
from collections.abc import Mapping
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

__all__ = ["WRITER", "withdraw"]

WRITER: Final = "0"
"""The ledger's only writer: events are rare."""

_log = structlog.get_logger()


def withdraw(committer: Committer, floors: Mapping[TopicPartition, int]) -> Progress:
    """Remove the events of messages at or beyond `floors`, the first offsets that the trades' table lacks.

    Trades and events land in two commits, and a crash may come between. Those trades are read again, perhaps in
    another order over the partitions, and cause other events then; so what the ledger has of them must go first.
    Gives the ledger's progress afterwards.

    Raises:
        UnreachableError: the catalog or store did not answer, after retries.
    """
    return committer.change("withdrawing events", partial(_withdraw, floors=floors), also=(CommitFailedException,))


def _withdraw(table: Table, floors: Mapping[TopicPartition, int]) -> Progress:
    progress = progress_of(table)
    there = progress.of(WRITER)
    ahead = {where: floors.get(where, 0) for where, entry in there.items() if entry.offset > floors.get(where, 0)}
    counts = _count(table, ahead) if ahead else Counter()
    if not counts:
        return progress
    lowered = progress.replaced(WRITER, {**there, **_lowered(there, ahead, counts)})
    transaction = table.transaction()
    transaction.delete(_beyond(ahead), snapshot_properties={"k2.withdrawn": str(counts.total())})
    transaction.set_properties({PROGRESS: lowered.text()})
    failpoint("events.withdrawing")
    # Not `commit_transaction`, which retries on what it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001
    failpoint("events.withdrawn")
    _log.info("events withdrawn, since their trades are not in the table", events=counts.total())
    return lowered


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
