"""Whether the two tables belong together: the ledger is that of these trades, and of no others."""

from functools import partial
from typing import Final

import structlog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.table_progress import progress_of
from k2.model.errors import StateError, TableError

__all__ = ["LEDGER", "bind_tables"]

LEDGER: Final = "k2.ledger"
"""Property of the trades' table: the UUID of its ledger."""

_log = structlog.get_logger()


def bind_tables(trades: Committer, ledger: Committer, *, is_resumed: bool) -> None:
    """See that the ledger is that of the trades' table, or make it so where it is new.

    A ledger that was dropped and made again is rebuilt from the trades, but only by a start without a recovery store:
    the states in a store count its events as told.

    Raises:
        TableError: the ledger is that of another trades' table.
        StateError: the ledger was made again, and states are resumed.
    """
    has_events = bool(progress_of(ledger.table).partitions())
    trades.change(
        "noting the ledger",
        partial(_bind, ledger=ledger, has_events=has_events, is_resumed=is_resumed),
        also=(CommitFailedException,),
    )


def _bind(trades: Table, ledger: Committer, *, has_events: bool, is_resumed: bool) -> None:
    known = trades.metadata.properties.get(LEDGER)
    if known == ledger.table_id:
        return
    name, its_ledger = ".".join(trades.name()), ".".join(ledger.table.name())
    if has_events:
        raise TableError(
            f"the ledger {its_ledger} is not that of table {name}, which was made again, as its events are of others; "
            "rename or drop it as well, or set another K2_NAMESPACE"
        )
    if known is not None and is_resumed:
        raise StateError(
            f"the ledger {its_ledger} was dropped and made again, while the recovery store counts its events as told; "
            "start with a new store (`k2 recovery init DIR`): the ledger is then rebuilt from the trades"
        )
    if known is not None:
        _log.warning("the ledger was made again: it is rebuilt from the trades", table=its_ledger)
    with trades.transaction() as transaction:
        transaction.set_properties({LEDGER: ledger.table_id})
