"""Commits without rows by which a start fences out earlier instances, and commits that they have in flight."""

from functools import partial

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.commit import Committer
from k2.iceberg.commit_notes import commit_notes_property
from k2.iceberg.fence import check_fence
from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.table_progress import progress_of
from k2.model.progress import Progress
from k2.storage.commit_log import Remark
from k2.storage.table_properties import FENCING_TOKEN

__all__ = ["adopt_fencing_token", "invalidate_commits_in_flight", "set_fencing_token"]


def set_fencing_token(committer: Committer, token: str, expected: Progress) -> None:
    """Fence out instances that started before this one, if the table's progress is `expected`.

    This commits a snapshot without rows. So a commit that an earlier instance has staged conflicts, and that instance
    refreshes the table and finds the token. Nothing is committed if the token is already set.

    Raises:
        FencedError: another instance has committed since the progress was read.
    """

    def act(table: Table) -> None:
        _check_progress(committer.name, table, expected)
        if FENCING_TOKEN.read(table.metadata.properties) != token:
            _commit_without_rows(table, Remark.FENCING_TOKEN, token, FENCING_TOKEN.set_to(token))

    committer.change("setting the fencing token", act, also=(CommitFailedException,))
    committer.token_guard.token = token


def adopt_fencing_token(committer: Committer, expected: Progress) -> None:
    """Commit under the fencing token in the table, which another process of this cluster may have set.

    Raises:
        FencedError: another instance has committed since the progress was read.
    """

    def act(table: Table) -> str | None:
        _check_progress(committer.name, table, expected)
        return FENCING_TOKEN.read(table.metadata.properties)

    committer.token_guard.token = committer.change("reading the fencing token", act)


def invalidate_commits_in_flight(committer: Committer, writer: str) -> None:
    """Invalidate commits in flight, including those of dead processes, by committing a snapshot without rows.

    None of those commits was staged on that snapshot, so the catalog rejects them. A live process refreshes the table,
    and commits again.
    """
    act = partial(_commit_without_rows, remark=Remark.INVALIDATED_COMMITS, text=writer, properties={})
    committer.change("settling dead letters", act, also=(CommitFailedException,))


def _check_progress(name: str, table: Table, expected: Progress) -> None:
    found = progress_of(table)
    for writer in sorted({*found.writers, *expected.writers}):
        check_fence(name, writer, found.of(writer), expected.of(writer))


def _commit_without_rows(table: Table, remark: Remark, text: str, properties: dict[str, str]) -> None:
    swap = MetadataSwap(table)
    swap.append((), {remark.value: text})
    swap.set_properties(properties | commit_notes_property(swap))
    swap.commit()
