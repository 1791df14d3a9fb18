"""The commit log: what a snapshot's summary says of its commit, and the text of the property with commit notes."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.storage.commit_log import Commit, PartitionMove, commit_notes_text, commit_of, parse_commit_notes, summary_of

PROGRESS = Progress(
    {
        "1": {
            TopicPartition("trades", 1): PartitionProgress(30, 9, 8, 1, start=3),
            TopicPartition("trades", 0): PartitionProgress(20, 9, 2, 3, 4, 0, start=3),
        }
    }
)
MOVES = [PartitionMove("trades", 0, 20, 9, 2, 3, 4, 0), PartitionMove("trades", 1, 30, 9, 8, 1, 0, 0)]
COUNTED = {f"k2.{name}": "1" for name in ("received", "stored", "duplicates", "dead_letters", "skipped")}
ADDED = {"added-records": "10", "added-data-files": "2", "added-files-size": "999", "total-records": "70"}
COMMIT = Commit(5, 4, 3, 1_700_000_000_123_000, "1", 10, 2, 999, MOVES)


class CommitSummary(NamedTuple):
    """A snapshot's summary."""

    additional_properties: Mapping[str, str]


class MadeSnapshot(NamedTuple):
    """A snapshot."""

    summary: CommitSummary | None
    snapshot_id: int = 5
    parent_snapshot_id: int | None = 4
    sequence_number: int | None = 3
    timestamp_ms: int = 1_700_000_000_123


def made(properties: Mapping[str, str]) -> MadeSnapshot:
    """Return a snapshot with this summary."""
    return MadeSnapshot(CommitSummary(properties))


def test_a_commit_is_read_from_its_summary() -> None:
    """Which writer made it, what it added, and the offset it reached in each topic partition, in their order."""
    assert commit_of(made({"k2.writer": "1", "k2.progress": PROGRESS.text(), **COUNTED, **ADDED})) == COMMIT


def test_the_lag_is_read_from_the_summary_if_it_is_there() -> None:
    """A commit has none if it was not known, or made by an earlier version."""
    for lag in (None, 0, 7):
        summary = summary_of("1", PROGRESS.of("1"), lag)
        assert ("k2.lag" in summary) is (lag is not None)
        found = commit_of(made(summary))
        assert found is not None
        assert (found.lag, found.remark) == (lag, None)


@pytest.mark.parametrize(
    "summary", [None, CommitSummary({}), CommitSummary(ADDED), CommitSummary({"other.k2.writer": "0"})]
)
def test_a_foreign_snapshot_is_not_a_commit_of_the_job(summary: CommitSummary | None) -> None:
    """Whatever it added, if it contains none of the job's properties."""
    assert commit_of(MadeSnapshot(summary)) is None


def test_what_else_was_said_is_the_remark() -> None:
    """Sorted by name, without properties that have their own field; a fencing commit has neither writer nor rows."""
    found = commit_of(MadeSnapshot(CommitSummary({"k2.skipped.to": "7", "k2.claim": "a b"}), 1, None, None, 2))
    assert found == Commit(1, None, 0, 2_000, None, 0, 0, 0, [], "claim a b; skipped.to 7")


def test_commits_survive_a_round_trip() -> None:
    """In their order."""
    commits = [COMMIT, Commit(6, 5, 4, 0, None, 0, 0, 0, [], "claim")]
    assert parse_commit_notes(commit_notes_text(iter(commits))) == commits
    assert parse_commit_notes(commit_notes_text([])) == []
    assert commit_notes_text([]) == '{"format":1,"commits":[]}'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"format":1}', "Object missing required field `commits`"),
        ('{"format":2,"commits":[]}', "has format 2; this version reads 1"),
    ],
)
def test_a_malformed_text_is_rejected(text: str, error: str) -> None:
    """Notes that cannot be read do not count as no commits."""
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        parse_commit_notes(text)


def test_a_row_consists_of_builtins() -> None:
    """Field by field, and likewise for the partitions."""
    row = COMMIT.row()
    assert row == {
        "snapshot_id": 5,
        "parent_id": 4,
        "sequence_number": 3,
        "committed_at": 1_700_000_000_123_000,
        "writer": "1",
        "rows": 10,
        "files": 2,
        "bytes": 999,
        "partitions": row["partitions"],
        "remark": None,
        "previous_id": None,
        "lag": None,
    }
    assert row["partitions"][1] == {
        "topic": "trades",
        "partition": 1,
        "offset": 30,
        "received": 9,
        "stored": 8,
        "duplicates": 1,
        "dead_letters": 0,
        "skipped": 0,
    }
