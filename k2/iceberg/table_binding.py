"""Table binding: the ledger belongs to this trades table, and to no other."""

from functools import partial

import structlog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName
from k2.model.errors import StateError, TableError
from k2.storage.table_properties import LEDGER_ID

__all__ = ["bind_tables", "is_bound"]

_log = structlog.get_logger()


def bind_tables(trades: Committer, ledger: Committer, *, is_resumed: bool) -> None:
    """Check that the ledger belongs to the trades table; bind them if the ledger is new.

    A ledger that was dropped and recreated is rebuilt from the trades, but only by a start without a recovery store:
    the states in a store count its events as written.

    Raises:
        TableError: the ledger belongs to another trades table.
        StateError: the ledger was recreated, and states are resumed.
    """
    has_events = bool(progress_of(ledger.table).partitions())
    trades.change(
        "recording the ledger",
        partial(_bind, ledger=ledger, has_events=has_events, is_resumed=is_resumed),
        also=(CommitFailedException,),
    )


def _bind(trades: Table, ledger: Committer, *, has_events: bool, is_resumed: bool) -> None:
    if is_bound(trades, ledger.table, has_events=has_events, is_resumed=is_resumed):
        return
    if LEDGER_ID.read(trades.metadata.properties) is not None:
        _log.warning("ledger_recreated", table=".".join(ledger.table.name()), effect="it is rebuilt from the trades")
    with trades.transaction() as transaction:
        transaction.set_properties(LEDGER_ID.set_to(ledger.table_id))


def is_bound(trades: Table, ledger: Table | None, *, has_events: bool, is_resumed: bool) -> bool:
    """Return whether the ledger belongs to the trades table; False if it is new, and can be bound to it.

    None stands for a ledger that does not exist, which a start creates.

    Raises:
        TableError: the ledger belongs to another trades table.
        StateError: the ledger was recreated, and states are resumed.
    """
    bound_id = LEDGER_ID.read(trades.metadata.properties)
    if ledger is not None and bound_id == str(ledger.metadata.table_uuid):
        return True
    trades_name, ledger_name = ".".join(trades.name()), ".".join((*trades.name()[:-1], TableName.SEQUENCE_EVENTS))
    if has_events:
        raise TableError(
            f"the ledger {ledger_name} is not that of table {trades_name}, which was recreated: it has events of other "
            "trades; rename or drop it as well, or set another K2_NAMESPACE"
        )
    if bound_id is not None and is_resumed:
        how = "dropped" if ledger is None else "dropped and recreated"
        raise StateError(
            f"the ledger {ledger_name} was {how}, but the recovery store counts its events as written; start with a "
            "new store (`k2 recovery init DIR`) to rebuild the ledger from the trades"
        )
    return False
