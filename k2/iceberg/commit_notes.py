"""The trail of commits, as the table itself has it: each commit notes itself in a property, in its own swap.

So it is noted if it landed and not if it did not, and the expiry of its snapshot, by whom ever, takes nothing away.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AddSnapshotUpdate, TableUpdate

from k2.storage.commit_log import COMMIT_NOTES, Commit, commit_notes_text, commit_of, parse_commit_notes

__all__ = ["COMMIT_NOTES_MAX", "commit_notes_property", "noted_commits"]

COMMIT_NOTES_MAX: Final = 50
"""So many commits in the property go to the table `commits`, and leave the property with the next commit."""


def noted_commits(metadata: TableMetadata) -> list[Commit]:
    """Return the commits that the metadata tells of beyond those kept, the oldest first.

    Those of an earlier version of the job, which noted none, are told by their snapshots.
    """
    noted = parse_commit_notes(metadata.properties.get(COMMIT_NOTES))
    last = noted[-1].sequence_number if noted else 0
    newer = [commit_of(snapshot) for snapshot in metadata.snapshots if (snapshot.sequence_number or 0) > last]
    return [*noted, *sorted((commit for commit in newer if commit), key=lambda commit: commit.sequence_number)]


def commit_notes_property(metadata: TableMetadata, updates: Iterable[TableUpdate], kept: int = 0) -> dict[str, str]:
    """Return the property with the commit that `updates` make, and without those kept up to a sequence number."""
    noted = noted_commits(metadata)
    previous_id = noted[-1].snapshot_id if noted else None
    made = [commit_of(update.snapshot) for update in updates if isinstance(update, AddSnapshotUpdate)]
    own = [msgspec.structs.replace(commit, previous_id=previous_id) for commit in made if commit]
    return {COMMIT_NOTES: commit_notes_text([*(commit for commit in noted if commit.sequence_number > kept), *own])}
