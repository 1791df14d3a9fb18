"""The trail of commits: what each brought to the table, in a form that outlives the snapshot it made."""

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
    "Made",
    "Move",
    "Said",
    "commit_notes_text",
    "commit_of",
    "in_effect",
    "parse_commit_notes",
]

COMMIT_NOTES: Final = "k2.trail"
"""Table property: the newest commits, replaced in the commit that adds one, until the table `commits` has them."""
_FORMAT: Final = 1
_OWN: Final = "k2."
_COUNTED: Final = frozenset({f"k2.{name}" for name in ("writer", "progress", *Counts.__struct_fields__)})


class Made(Protocol):
    """A snapshot, named as the Iceberg specification does it."""

    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int | None
    timestamp_ms: int

    @property
    def summary(self) -> "Said | None": ...  # noqa: D102


class Said(Protocol):
    """What was said of a snapshot when it was made."""

    @property
    def additional_properties(self) -> Mapping[str, str]: ...  # noqa: D102


class Move(msgspec.Struct, frozen=True):
    """What a commit did to its writer's progress of one topic partition."""

    topic: str
    partition: int
    offset: int
    """To read next, once the commit was in."""
    received: int
    stored: int
    duplicates: int
    dead_letters: int
    skipped: int
    """The counts are of this commit alone."""


class Commit(msgspec.Struct, frozen=True):
    """One commit of the job to its table: a row of the table `commits`, but for whose it is."""

    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    """Rises from commit to commit of a table, whoever makes them."""
    committed_at: int
    """Microseconds since the epoch, by the clock of the process that committed."""
    writer: str | None
    """None of a commit that only claimed the table."""
    rows: int
    files: int
    bytes: int
    partitions: list[Move]
    """Those that moved, sorted."""
    remark: str | None = None
    """What else the job did by it: offsets given up, a claim."""
    previous_id: int | None = None
    """The job's last snapshot before; None of its first, and where nothing noted it."""

    def row(self) -> dict[str, Any]:
        """Return it as builtins alone."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row


class _Document(msgspec.Struct, frozen=True):
    format: int
    commits: list[Commit]


def commit_of(made: Made) -> Commit | None:
    """Return the commit that made a snapshot; None where it was not the job's."""
    summary = {} if made.summary is None else made.summary.additional_properties
    own = {name: text for name, text in summary.items() if name.startswith(_OWN)}
    if not own:
        return None
    rest = [f"{name.removeprefix(_OWN)} {text}" for name, text in sorted(own.items()) if name not in _COUNTED]
    return Commit(
        made.snapshot_id,
        made.parent_snapshot_id,
        made.sequence_number or 0,
        made.timestamp_ms * 1_000,
        own.get("k2.writer"),
        int(summary.get("added-records", 0)),
        int(summary.get("added-data-files", 0)),
        int(summary.get("added-files-size", 0)),
        _moves(Progress.in_properties(own)),
        "; ".join(rest) or None,
    )


def _moves(progress: Progress) -> list[Move]:
    return [
        Move(where.topic, where.partition, entry.offset, **msgspec.structs.asdict(entry.counts))
        for entries in progress.writers.values()
        for where, entry in sorted(entries.items())
    ]


@compiled
def in_effect(
    snapshot_ids: NDArray[np.int64], previous_ids: NDArray[np.int64], numbers: NDArray[np.int64], last_id: int
) -> NDArray[np.bool_]:
    """Tell which commits led to a table as it is, of those told of.

    A table that was put back gives numbers again, to the job and to others; only that each commit names the one before
    tells its own line from one that was left.

    Args:
        snapshot_ids: int64[n], by descending sequence number; of one number the likeliest first.
        previous_ids: int64[n], 0 where it is not known: it is the next one with a lower number then.
        numbers: int64[n], their sequence numbers.
        last_id: the table's last commit of the job; 0 where it is not known.

    Returns:
        bool[n].
    """
    found = np.zeros(len(snapshot_ids), dtype=np.bool_)
    expected, number = last_id, np.iinfo(np.int64).max
    for place in range(len(snapshot_ids)):
        if snapshot_ids[place] == expected or (expected == 0 and numbers[place] < number):
            found[place] = True
            expected, number = previous_ids[place], numbers[place]
    return found


def parse_commit_notes(text: str | None) -> list[Commit]:
    """Read the property's text, the oldest commit first; None (a table without it) is none.

    Raises:
        TableError: the text is not of the documented shape, or of a later format.
    """
    return [] if text is None else read_document(COMMIT_NOTES, text, _Document, _FORMAT).commits


def commit_notes_text(commits: Iterable[Commit]) -> str:
    """Return the property's text."""
    return msgspec.json.encode(_Document(_FORMAT, [*commits])).decode()
