"""Commit notes: each commit records itself in a table property, as part of the same metadata swap.

So a commit has a note if and only if it succeeded, and the note survives the expiry of the commit's snapshot.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from pyiceberg.table.metadata import TableMetadata

from k2.iceberg.metadata_swap import MetadataSwap
from k2.iceberg.pending_commit import PendingCommit
from k2.storage.commit_log import Commit, commit_of
from k2.storage.table_properties import COMMIT_NOTES

__all__ = ["COMMIT_NOTES_MAX", "CommitNotes", "MoveToCommitLog", "commit_notes_property", "noted_commits"]

MoveToCommitLog = Callable[[Sequence[Commit]], int]
"""Appends commits, the oldest first, to the commit log; returns the last sequence number that the log contains."""

COMMIT_NOTES_MAX: Final = 50
"""With this number of notes in the property, they are moved to the table `commits`; the next commit removes them."""


def noted_commits(metadata: TableMetadata) -> list[Commit]:
    """Return the commits in the metadata that were not removed to the commit log, the oldest first.

    Commits by an earlier version of the job, which wrote no notes, are derived from their snapshots.
    """
    noted = COMMIT_NOTES.read(metadata.properties)
    last = noted[-1].sequence_number if noted else 0
    newer = [commit_of(snapshot) for snapshot in metadata.snapshots if (snapshot.sequence_number or 0) > last]
    return [*noted, *sorted((commit for commit in newer if commit), key=lambda commit: commit.sequence_number)]


def commit_notes_property(swap: MetadataSwap, logged_up_to: int = 0) -> dict[str, str]:
    """Return the property with the commits of `swap` added and those up to number `logged_up_to` removed."""
    noted = noted_commits(swap.metadata)
    previous_id = noted[-1].snapshot_id if noted else None
    made = [commit_of(snapshot) for snapshot in swap.snapshots]
    added = [msgspec.structs.replace(commit, previous_id=previous_id) for commit in made if commit]
    remaining = (commit for commit in noted if commit.sequence_number > logged_up_to)
    return COMMIT_NOTES.set_to([*remaining, *added])


class CommitNotes:
    """The contribution that adds a commit's note to its own swap, and removes those moved to the commit log."""

    def __init__(self, move_to_commit_log: MoveToCommitLog) -> None:
        self._move_to_commit_log = move_to_commit_log
        self._logged_up_to = 0

    def __call__(self, swap: MetadataSwap, _pending: PendingCommit) -> None:
        """Add the note."""
        swap.set_properties(commit_notes_property(swap, self._logged_up_to))

    def is_move_due(self, metadata: TableMetadata) -> bool:
        """Return whether the notes are to be moved to the commit log."""
        return len(noted_commits(metadata)) >= COMMIT_NOTES_MAX

    def move(self, metadata: TableMetadata) -> None:
        """Append the notes to the commit log; the next commit removes them."""
        self._logged_up_to = self._move_to_commit_log(noted_commits(metadata))
