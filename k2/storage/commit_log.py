"""The commit log: what each commit added to the table, in a form that outlives the commit's snapshot."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from k2.model.documents import read_document
from k2.model.progress import Counts, PartitionDelta, Progress, TopicPartition

__all__ = [
    "MOVE_COUNTS",
    "Commit",
    "IcebergSnapshot",
    "PartitionMove",
    "Remark",
    "SnapshotSummary",
    "commit_notes_text",
    "commit_of",
    "in_effect",
    "parse_commit_notes",
    "summary_of",
]

_FORMAT: Final = 1
_OWN: Final = "k2."
_WRITER: Final = "k2.writer"
_PROGRESS: Final = "k2.progress"
_LAG: Final = "k2.lag"
MOVE_COUNTS: Final = ("received", "stored", "duplicates", "dead_letters", "skipped")
"""The counts that the commit log has of each topic partition; the rest of `received` are corrections."""
_COUNTED: Final = frozenset({_WRITER, _PROGRESS, _LAG, *(f"{_OWN}{name}" for name in Counts.__struct_fields__)})


class Remark(StrEnum):
    """Entries of a snapshot's summary that say what else the commit did."""

    ACCEPTED_LOG = "k2.accepted_log"
    """Where a log that was cut and grew again is read on, as `topic:partition from first`, without a comparison."""
    ABANDONED_OFFSETS = "k2.given_up"
    """The range of abandoned offsets, as `topic:partition first-last`."""
    COMPACTED = "k2.compacted"
    """The number of data files that `k2 maintain compact` replaced; the rows are the same."""
    FENCING_TOKEN = "k2.claim"  # noqa: S105  the name of an entry
    """The fencing token that a start set: the ledger snapshot that it rolled back from."""
    LEFT_OUT = "k2.left_out"
    """The offsets before the start of partitions that a writer commits for the first time, as `topic:partition
    first-last (K2_START=rule)`."""
    REMOVED_ROWS = "k2.removed"
    """The rows that `k2 maintain retain` removed, as `before DAY: topic:partition rows, ...`."""
    INVALIDATED_COMMITS = "k2.kept_out"
    """The writer for which a start invalidated commits in flight before it truncated dead letters."""
    ROLLED_BACK_EVENTS = "k2.withdrawn"
    """The number of events that a start rolled back; in the ledger only."""
    STARTED = "k2.started"
    """The writer's first commit since a start of the job; the text says where its state came from."""


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

    @property
    def corrections(self) -> int:
        """The received corrections: what is neither stored nor otherwise accounted for."""
        return self.received - self.stored - self.duplicates - self.dead_letters - self.skipped


class Commit(msgspec.Struct, frozen=True):
    """One commit of the job to its table: a row of the table `commits`, without the table's UUID."""

    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    """Increases with each commit to a table, whoever makes it."""
    committed_at: int
    """Microseconds since the epoch, by the clock of the process that committed."""
    writer: str | None
    """None for a commit of no writer: it set a fencing token, or invalidated commits in flight."""
    rows: int
    files: int
    bytes: int
    partitions: list[PartitionMove]
    """The topic partitions that moved, sorted."""
    remark: str | None = None
    """What else the commit did: abandoned offsets, a fencing token; or that it was the first since a start."""
    previous_id: int | None = None
    """The job's previous snapshot; None for the first, and if it was not recorded."""
    lag: int | None = None
    """Messages that the writer's process had not read yet; None if it was not known, or by an earlier version."""

    def row(self) -> dict[str, Any]:
        """Return the commit as a dict of builtins."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row


class _Document(msgspec.Struct, frozen=True):
    format: int
    commits: list[Commit]


def summary_of(writer: str, moves: Mapping[TopicPartition, PartitionDelta], lag: int | None = None) -> dict[str, str]:
    """Return the summary of the snapshot of a commit: its writer, its lag, its counts and offsets, of it alone."""
    counts = sum((move.counts for move in moves.values()), Counts())
    return {
        _WRITER: writer,
        **{f"{_OWN}{name}": str(count) for name, count in msgspec.structs.asdict(counts).items()},
        _PROGRESS: Progress({writer: moves}).text(),
        **({} if lag is None else {_LAG: str(lag)}),
    }


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
        own.get(_WRITER),
        # A compaction only writes rows again, and adds none.
        0 if Remark.COMPACTED in own else int(summary.get("added-records", 0)),
        int(summary.get("added-data-files", 0)),
        int(summary.get("added-files-size", 0)),
        _moves(Progress.parse(own[_PROGRESS]) if _PROGRESS in own else Progress()),
        "; ".join(rest) or None,
        lag=int(own[_LAG]) if _LAG in own else None,
    )


def _moves(progress: Progress) -> list[PartitionMove]:
    return [
        PartitionMove(
            topic_partition.topic,
            topic_partition.partition,
            entry.offset,
            **{name: getattr(entry, name) for name in MOVE_COUNTS},
        )
        for entries in progress.writers.values()
        for topic_partition, entry in sorted(entries.items())
    ]


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
    commits = zip(snapshot_ids.tolist(), previous_ids.tolist(), numbers.tolist(), strict=True)
    for commit_idx, (snapshot_id, previous_id, commit_number) in enumerate(commits):
        if snapshot_id == expected or (expected == 0 and commit_number < number):
            found[commit_idx] = True
            expected, number = previous_id, commit_number
    return found


def parse_commit_notes(text: str) -> list[Commit]:
    """Parse commit notes, the oldest commit first.

    Raises:
        ValueError: the text does not have the documented shape, or has another format version.
    """
    return read_document(text, _Document, _FORMAT).commits


def commit_notes_text(commits: Iterable[Commit]) -> str:
    """Return commit notes as text."""
    return msgspec.json.encode(_Document(_FORMAT, [*commits])).decode()
