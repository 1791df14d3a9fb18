"""The claim on the trades' table: it keeps instances that began earlier from committing to it."""

from typing import Final

from pyiceberg.table import Table

from k2.iceberg.commit_notes import commit_notes_property
from k2.model.errors import FencedError

__all__ = [
    "FENCING_TOKEN",
    "check_fencing_token",
    "fencing_token_of",
    "invalidate_commits_in_flight",
    "set_fencing_token",
]

FENCING_TOKEN: Final = "k2.claim"  # noqa: S105  the name of a property
"""Table property, and what marks the snapshot that set it: the ledger's snapshot from which a start withdrew events."""


_KEPT_OUT: Final = "k2.kept_out"
"""What marks the snapshot that a start made before it cut dead letters of a writer: which writer."""


def fencing_token_of(table: Table) -> str | None:
    """Return the newest claim in the table's metadata as loaded."""
    return table.metadata.properties.get(FENCING_TOKEN)


def set_fencing_token(table: Table, mark: str) -> None:
    """Put a claim on a table; the same one twice is one.

    It makes a snapshot without rows: so a commit that an earlier instance has staged meets a conflict, looks at the
    table, and finds the claim.

    Raises:
        CommitFailedException: the table has moved since it was loaded.
    """
    if fencing_token_of(table) == mark:
        return
    transaction = table.transaction()
    transaction.update_snapshot(snapshot_properties={FENCING_TOKEN: mark}).fast_append().commit()
    transaction.set_properties({FENCING_TOKEN: mark, **commit_notes_property(table.metadata, transaction._updates)})  # noqa: SLF001
    # Not `commit_transaction`, which retries on what it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001


def invalidate_commits_in_flight(writer: str, table: Table) -> None:
    """Have each commit refused that is under way, also of a process that is dead: what is in is in, and no more.

    It makes a snapshot without rows, upon which none of them was staged. Who is alive looks, and commits again.

    Raises:
        CommitFailedException: the table has moved since it was loaded.
    """
    transaction = table.transaction()
    transaction.update_snapshot(snapshot_properties={_KEPT_OUT: writer}).fast_append().commit()
    transaction.set_properties(commit_notes_property(table.metadata, transaction._updates))  # noqa: SLF001
    # Not `commit_transaction`, which retries on what it read before.
    table._do_commit(transaction._updates, transaction._requirements)  # noqa: SLF001


def check_fencing_token(table: str, found: str | None, own: str | None) -> None:
    """Compare the claim in the table with the one that this instance found when it began.

    Raises:
        FencedError: they differ, so another instance has begun since, and changed the ledger for itself.
    """
    if found != own:
        raise FencedError(
            f"another instance writes to table {table}: it began after this one, and withdrew events that this one has "
            f"in the ledger (claim {found}, it was {own}); stop one of the two and start again"
        )
