"""The ledger brought back to the trades: events of trades that are not in the table are none yet."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

import msgspec
import structlog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.fence import Entries
from k2.iceberg.row_filters import any_of, rows_from
from k2.iceberg.table_progress import progress_of
from k2.model.committed_offsets import CommittedOffsets
from k2.model.progress import PROGRESS, Progress, TopicPartition
from k2.ops.failpoints import failpoint

__all__ = ["WRITER", "SetFencingToken", "roll_back_events"]

WRITER: Final = "0"
"""The ledger's only writer: events are rare."""

SetFencingToken = Callable[[str | None], None]
"""Claims the trades' table for this start, or takes over what its cluster has claimed."""

_log = structlog.get_logger()


class _Place(NamedTuple):
    """Where an event comes from."""

    exchange: str
    symbol: str
    where: TopicPartition
    offset: int


def roll_back_events(committer: Committer, landed: CommittedOffsets, set_fencing_token: SetFencingToken) -> Progress:
    """Remove the events of trades that are not in their table.

    Trades and events land in two commits, and a crash may come between. Those trades are read again, perhaps in
    another order over the partitions, and cause other events then; so what the ledger has of them must go first.
    Events of trades that are in stay, whatever other writers lack: what came after counts on them.
    An instance that is not dead yet could still commit those trades, for whose events nobody would answer then; so the
    trades' table is claimed before anything is removed. Gives the ledger's progress afterwards.

    Raises:
        UnreachableError: the catalog or store did not answer, after retries.
        FencedError: another instance has committed trades meanwhile.
    """
    look = partial(_snapshot_ahead, landed=landed)
    while mark := committer.change("reading the ledger", look):
        set_fencing_token(mark)
        committer.change("withdrawing events", partial(_withdraw, landed=landed), also=(CommitFailedException,))
    set_fencing_token(None)
    return progress_of(committer.table)


def _snapshot_ahead(table: Table, landed: CommittedOffsets) -> str | None:
    """Return the current snapshot's id where it holds events of trades that did not land, else None."""
    return f"{table.metadata.current_snapshot_id}" if _ahead(table, landed) else None


def _withdraw(table: Table, landed: CommittedOffsets) -> None:
    places = _ahead(table, landed)
    if not places:
        return
    progress = progress_of(table)
    there = progress.of(WRITER)
    lowered = progress.replaced(WRITER, {**there, **_lowered(there, places, landed)})
    transaction = table.transaction()
    transaction.delete(any_of(_filters(places, landed)), snapshot_properties={"k2.withdrawn": str(len(places))})
    transaction.set_properties({PROGRESS: lowered.text()})
    failpoint("events.withdrawing")
    # Not `commit_transaction`, which retries on what it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001
    failpoint("events.withdrawn")
    _log.info("events withdrawn, since their trades are not in the table", events=len(places))


def _ahead(table: Table, landed: CommittedOffsets) -> list[_Place]:
    """Return the places of the events whose trades did not land."""
    there = progress_of(table).of(WRITER)
    floors = {where: min(landed.offsets(where)) for where in there}
    beyond = [rows_from(where, floors[where]) for where, entry in there.items() if entry.offset > floors[where]]
    if not beyond:
        return []
    wanted = ("exchange", "symbol", "topic", "partition", "offset")
    rows = table.scan(row_filter=any_of(beyond), selected_fields=wanted).to_arrow().to_pylist()
    places = (
        _Place(row["exchange"], row["symbol"], TopicPartition(row["topic"], row["partition"]), row["offset"])
        for row in rows
    )
    return [place for place in places if place.offset >= landed.offset(*place[:3])]


def _filters(places: Iterable[_Place], landed: CommittedOffsets) -> Iterator[BooleanExpression]:
    """Yield what finds these events: by topic partition where all writers are at one offset, else by symbol."""
    for where in sorted({place.where for place in places}):
        if len({*landed.offsets(where)}) == 1:
            yield rows_from(where, landed.offsets(where)[0])
            continue
        for exchange, symbol in sorted({place[:2] for place in places if place.where == where}):
            yield rows_from(where, landed.offset(exchange, symbol, where), exchange=exchange, symbol=symbol)


def _lowered(there: Entries, places: Iterable[_Place], landed: CommittedOffsets) -> Entries:
    counts = Counter(place.where for place in places)
    return {
        where: msgspec.structs.replace(
            there[where],
            offset=min(there[where].offset, max(landed.offsets(where))),
            received=there[where].received - count,
            stored=there[where].stored - count,
        )
        for where, count in counts.items()
    }
