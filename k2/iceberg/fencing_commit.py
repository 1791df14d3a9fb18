"""The fencing token of the trades table: it prevents instances that started earlier from committing."""

from pyiceberg.table import Table

from k2.iceberg.commit_notes import commit_notes_property
from k2.model.errors import FencedError
from k2.storage.commit_log import Remark
from k2.storage.table_properties import FENCING_TOKEN

__all__ = [
    "check_fencing_token",
    "fencing_token_of",
    "invalidate_commits_in_flight",
    "set_fencing_token",
]


def fencing_token_of(table: Table) -> str | None:
    """Return the fencing token in the table's metadata, as loaded."""
    return FENCING_TOKEN.read(table.metadata.properties)


def set_fencing_token(table: Table, token: str) -> None:
    """Set a table's fencing token; nothing is done if it is already set.

    This commits a snapshot without rows. So a commit that an earlier instance has staged conflicts, and that instance
    refreshes the table and finds the token.

    Raises:
        CommitFailedException: the table has moved since it was loaded.
    """
    if fencing_token_of(table) == token:
        return
    transaction = table.transaction()
    transaction.update_snapshot(snapshot_properties={Remark.FENCING_TOKEN: token}).fast_append().commit()
    notes = commit_notes_property(table.metadata, transaction._updates)  # noqa: SLF001
    transaction.set_properties(FENCING_TOKEN.set_to(token) | notes)
    # Not `commit_transaction`, which retries on the metadata that it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001


def invalidate_commits_in_flight(writer: str, table: Table) -> None:
    """Invalidate commits in flight, including those of dead processes, by committing a snapshot without rows.

    None of those commits was staged on that snapshot, so the catalog rejects them. A live process refreshes the table,
    and commits again.

    Raises:
        CommitFailedException: the table has moved since it was loaded.
    """
    transaction = table.transaction()
    transaction.update_snapshot(snapshot_properties={Remark.INVALIDATED_COMMITS: writer}).fast_append().commit()
    transaction.set_properties(commit_notes_property(table.metadata, transaction._updates))  # noqa: SLF001
    # Not `commit_transaction`, which retries on the metadata that it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001


def check_fencing_token(table: str, found: str | None, own: str | None) -> None:
    """Compare the table's fencing token with the one that this instance found when it started.

    Raises:
        FencedError: they differ, so another instance has started since, and rolled the ledger back.
    """
    if found != own:
        raise FencedError(
            f"another instance writes to table {table}: it started after this one, and rolled back events that this "
            f"one has in the ledger (fencing token {found}, expected {own}); stop one of the two and restart the other"
        )
