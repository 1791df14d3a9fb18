"""The commit log: what each commit added to the table, in a form that outlives the commit's snapshot."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.documents import read_document
from k2.model.progress import Counts, Progress

__all__ = [
    "COMMIT_NOTES",
    "Commit",
    "IcebergSnapshot",
    "PartitionMove",
    "SnapshotSummary",
    "commit_notes_text",
    "commit_of",
    "in_effect",
    "parse_commit_notes",
]

COMMIT_NOTES: Final = "k2.trail"
"""Table property: the newest commits, those that the table `commits` does not have yet; each commit rewrites it."""
_FORMAT: Final = 1
_OWN: Final = "k2."
_COUNTED: Final = frozenset({f"k2.{name}" for name in ("writer", "progress", *Counts.__struct_fields__)})


class IcebergSnapshot(Protocol):
    """A snapshot, with the field names of the Iceberg specification."""

    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int | None
    timestamp_ms: int

    @property
    def summary(self) -> "SnapshotSummary | None": ...  # noqa: D102


class SnapshotSummary(Protocol):
    """The summary that was recorded with a snapshot."""

    @property
    def additional_properties(self) -> Mapping[str, str]: ...  # noqa: D102


class PartitionMove(msgspec.Struct, frozen=True):
    """How a commit moved its writer's progress in one topic partition."""

    topic: str
    partition: int
    offset: int
    """The next offset to read after the commit."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    skipped: int
    """The counts are of this commit alone."""


class Commit(msgspec.Struct, frozen=True):
    """One commit of the job to its table: a row of the table `commits`, without the table's UUID."""

    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    """Increases with each commit to a table, whoever makes it."""
    committed_at: int
    """Microseconds since the epoch, by the clock of the process that committed."""
    writer: str | None
    """None for a commit that only set a fencing token."""
    rows: int
    files: int
    bytes: int
    partitions: list[PartitionMove]
    """The topic partitions that moved, sorted."""
    remark: str | None = None
    """What else the commit did: abandoned offsets, a fencing token."""
    previous_id: int | None = None
    """The job's previous snapshot; None for the first, and if it was not recorded."""

    def row(self) -> dict[str, Any]:
        """Return the commit as a dict of builtins."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row


class _Document(msgspec.Struct, frozen=True):
    format: int
    commits: list[Commit]


def commit_of(snapshot: IcebergSnapshot) -> Commit | None:
    """Return the commit that made a snapshot; None if it was not the job's."""
    summary = {} if snapshot.summary is None else snapshot.summary.additional_properties
    own = {name: text for name, text in summary.items() if name.startswith(_OWN)}
    if not own:
        return None
    rest = [f"{name.removeprefix(_OWN)} {text}" for name, text in sorted(own.items()) if name not in _COUNTED]
    return Commit(
        snapshot.snapshot_id,
        snapshot.parent_snapshot_id,
        snapshot.sequence_number or 0,
        snapshot.timestamp_ms * 1_000,
        own.get("k2.writer"),
        int(summary.get("added-records", 0)),
        int(summary.get("added-data-files", 0)),
        int(summary.get("added-files-size", 0)),
        _moves(Progress.in_properties(own)),
        "; ".join(rest) or None,
    )


def _moves(progress: Progress) -> list[PartitionMove]:
    return [
        PartitionMove(
            topic_partition.topic, topic_partition.partition, entry.offset, **msgspec.structs.asdict(entry.counts)
        )
        for entries in progress.writers.values()
        for topic_partition, entry in sorted(entries.items())
    ]


@compiled
def in_effect(
    snapshot_ids: NDArray[np.int64], previous_ids: NDArray[np.int64], numbers: NDArray[np.int64], last_id: int
) -> NDArray[np.bool_]:
    """Return which of the recorded commits led to the table's current state.

    A table that was rolled back assigns sequence numbers again, to the job and to others. Only the link from each
    commit to the previous one separates the current line of commits from an abandoned one.

    Args:
        snapshot_ids: int64[n], by descending sequence number; among equal numbers the likeliest first.
        previous_ids: int64[n], 0 if unknown: the previous commit is then the next one with a lower number.
        numbers: int64[n], the sequence numbers.
        last_id: the job's last commit to the table; 0 if unknown.

    Returns:
        bool[n].
    """
    found = np.zeros(len(snapshot_ids), dtype=np.bool_)
    expected, number = last_id, np.iinfo(np.int64).max
    for commit_idx in range(len(snapshot_ids)):
        if snapshot_ids[commit_idx] == expected or (expected == 0 and numbers[commit_idx] < number):
            found[commit_idx] = True
            expected, number = previous_ids[commit_idx], numbers[commit_idx]
    return found


def parse_commit_notes(text: str | None) -> list[Commit]:
    """Parse the property's text, the oldest commit first; None (a table without the property) means no commits.

    Raises:
        TableError: the text does not have the documented shape, or has a later format.
    """
    return [] if text is None else read_document(COMMIT_NOTES, text, _Document, _FORMAT).commits


def commit_notes_text(commits: Iterable[Commit]) -> str:
    """Return the property's text."""
    return msgspec.json.encode(_Document(_FORMAT, [*commits])).decode()
