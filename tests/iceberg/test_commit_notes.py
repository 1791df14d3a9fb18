"""The commit log: each commit is recorded once, whatever expires and whatever is killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.abandon_offsets import abandon_offsets
from k2.iceberg.commit import Committer
from k2.iceberg.commit_log_writer import CommitLogWriter
from k2.iceberg.commit_notes import noted_commits
from k2.iceberg.fencing_commit import set_fencing_token
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.errors import FencedError, TableError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.storage.catalog import open_catalog
from k2.storage.commit_log import Commit
from tests.iceberg.trades_table import dlq_of, offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

NOTED = 3
ROWS = 2


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move commit notes to the table `commits` after few commits."""
    monkeypatch.setattr("k2.iceberg.commit_notes.COMMIT_NOTES_MAX", NOTED)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job of two writers in a folder of its own."""
    return settings_in(tmp_path, writers=2)


def land(writer: TradesWriter, number: int) -> None:
    """Write two rows and close the epoch."""
    first = ROWS * number
    writer.write_batch([slice_of([row_at(first), row_at(first + 1)]), read_to(first + ROWS)])
    writer.snapshot()


def table_of(settings: Settings, which: TableName = TableName.TRADES) -> Table:
    """Load a table as another program would."""
    return open_table(open_catalog(settings), settings, which)


def expire(table: Table) -> None:
    """Remove all snapshots but the current one, as another program would."""
    *old, _ = sorted(table.refresh().snapshots(), key=lambda one: one.sequence_number or 0)
    if old:
        table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()


def audited(settings: Settings) -> list[int]:
    """Return the snapshot ids in the audit log, which must be complete."""
    found = audit(settings)
    assert found.adds_up
    return [one.snapshot_id for one in found.commits]


def logged(settings: Settings) -> list[int]:
    """Return the snapshot ids in the table `commits`."""
    rows = table_of(settings, TableName.COMMITS).scan().to_arrow().to_pylist()
    return [row["snapshot_id"] for row in sorted(rows, key=lambda row: row["sequence_number"])]


def test_every_commit_is_recorded_whenever_snapshots_expire(settings: Settings) -> None:
    """All but the newest snapshot expire after each commit: each commit is still recorded, once, to the end."""
    table, writers = table_of(settings), [writer_of(settings, "0"), writer_of(settings, "1")]
    made = []
    for number in range(12):
        land(writers[number % 2], number)
        made.append(table.refresh().current_snapshot())
        expire(table)
        found = audit(settings)
        assert found.adds_up
        assert [one.expired for one in found.commits] == [True] * number + [False]
    assert [(one.snapshot_id, one.parent_id, one.sequence_number) for one in found.commits] == [
        (one.snapshot_id, one.parent_snapshot_id, one.sequence_number) for one in made if one is not None
    ]
    for number, one in enumerate(found.commits):
        move = {"topic": "trades", "partition": 0, "offset": ROWS * (number + 1), "received": ROWS, "stored": ROWS}
        assert one.partitions == [move | {"duplicates": 0, "dead_letters": 0, "skipped": 0, "corrections": 0}]
        remark = "started with no state" if number < 2 else None
        assert (one.writer, one.rows, one.files, one.remark) == (str(number % 2), ROWS, 1, remark)
        assert one.committed_at.timestamp() * 1_000 == pytest.approx(made[number].timestamp_ms)
    assert len(noted_commits(table.metadata)) <= 2 * NOTED
    assert 12 - 2 * NOTED <= len(logged(settings)) == len(set(logged(settings)))


@pytest.mark.parametrize("killed_at", ["before", "after"])
def test_a_crash_while_notes_are_moved_loses_and_doubles_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """Killed before notes are written to `commits`, or after that and before the commit that drops the notes."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    notes = writer._committer._notes
    assert notes is not None
    append = notes._move_to_commit_log

    def crash(commits: Sequence[Commit]) -> int:
        if killed_at == "after":
            append(commits)
        raise KeyboardInterrupt

    monkeypatch.setattr(notes, "_move_to_commit_log", crash)
    with pytest.raises(KeyboardInterrupt):
        land(writer, NOTED)
    assert len(logged(settings)) == (NOTED if killed_at == "after" else 0)
    assert len(audited(settings)) == NOTED
    again = writer_of(settings)
    for number in range(NOTED, 3 * NOTED):
        land(again, number)
        expire(table_of(settings))
        assert len(audited(settings)) == number + 1
    assert len(logged(settings)) == len(set(logged(settings))) == 2 * NOTED


def test_a_try_that_was_not_applied_is_not_recorded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a conflict, a commit is recorded as it was finally applied, on top of the other's snapshot."""
    handle = TableHandle(settings, TableName.TRADES, None)
    writer = TradesWriter("0", handle, {}, dlq_of(settings))
    land(writer, 0)
    tries: list[int] = []
    catalog = handle.committer().table.catalog
    commit = catalog.commit_table

    def commit_table(table: Table, requirements: tuple[Any, ...], updates: tuple[Any, ...]) -> object:
        tries.append(updates[0].snapshot.snapshot_id)
        if len(tries) == 1:
            land(writer_of(settings, "1"), 0)
        return commit(table, requirements, updates)

    monkeypatch.setattr(catalog, "commit_table", commit_table)
    land(writer, 1)
    assert len(tries) == 2
    assert tries[0] not in audited(settings)
    assert audited(settings)[-1] == tries[1]
    assert len(audited(settings)) == 3


def test_processes_that_move_notes_at_once_record_each_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds what the first recorded, adds what is missing, and leaves no file behind."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    commits = noted_commits(table_of(settings).metadata)

    def writer_process() -> CommitLogWriter:
        return CommitLogWriter(Committer(table_of(settings, TableName.COMMITS)), "id", "trades")

    first, second = writer_process(), writer_process()
    append = CommitLogWriter._append

    def late(one: CommitLogWriter, *arguments: Any) -> None:
        if one is second and not logged(settings):
            first.append(commits[:2])
        append(one, *arguments)

    monkeypatch.setattr(CommitLogWriter, "_append", late)
    assert second.append(commits) == commits[-1].sequence_number
    assert first.append(commits) == commits[-1].sequence_number
    assert logged(settings) == [one.snapshot_id for one in commits]
    files = table_of(settings, TableName.COMMITS).location().removeprefix("file://")
    assert len([*Path(files).rglob("*.parquet")]) == 2


def test_a_table_from_before_the_commit_log(settings: Settings) -> None:
    """What its snapshots say is recorded with the first commits; commits that had expired by then count as missing."""
    handle = TableHandle(settings, TableName.TRADES, None)
    handle._committer = Committer(handle.committer().table)
    old = TradesWriter("0", handle, {}, dlq_of(settings))
    for number in range(5):
        land(old, number)
    assert len(audited(settings)) == 5
    new = writer_of(settings)
    for number in range(5, 7):
        land(new, number)
    expire(table_of(settings))
    assert len(audited(settings)) == 7


def test_missing_commits_are_reported(settings: Settings) -> None:
    """A commit log that does not lead to the table's progress is not reported as complete."""
    handle = TableHandle(settings, TableName.TRADES, None)
    handle._committer = Committer(handle.committer().table)
    old = TradesWriter("0", handle, {}, dlq_of(settings))
    for number in range(2):
        land(old, number)
    expire(table_of(settings))
    found = audit(settings)
    assert (len(found.commits), found.adds_up) == (1, False)


def test_fencing_and_abandoned_offsets_are_recorded(settings: Settings) -> None:
    """Commits of the job without rows are recorded as well, also once their snapshots are gone."""
    writer = writer_of(settings)
    land(writer, 0)
    committer = TableHandle(settings, TableName.TRADES, None).committer()
    set_fencing_token(committer, "77", progress_of(committer.table))
    abandon_offsets(committer, TopicPartition("trades", 0), 10, 2)
    expire(table_of(settings))
    found = audit(settings)
    assert found.adds_up
    assert [(one.writer, one.rows, one.remark) for one in found.commits] == [
        ("0", 2, "started with no state"),
        (None, 0, "claim 77"),
        ("0", 0, "given_up trades:0 2-9"),
        ("1", 0, "given_up trades:0 0-9"),
    ]


def test_a_recreated_table_has_its_own_commit_log(settings: Settings) -> None:
    """Commits of the dropped table stay in the table `commits`, and are not reported as those of the new one."""
    writer = writer_of(settings)
    for number in range(NOTED + 1):
        land(writer, number)
    open_catalog(settings).drop_table("market_data.trades")
    land(writer_of(settings), 0)
    assert len(audited(settings)) == 1
    assert len(logged(settings)) == NOTED
    assert offsets_of(table_of(settings)) == [0, 1]


def test_a_rolled_back_table_records_its_new_commits(settings: Settings) -> None:
    """Sequence numbers repeat: the new commits are recorded, the old reported as undone, and the sums hold."""
    catalog, writer = open_catalog(settings), writer_of(settings)
    for number in range(2 * NOTED + 1):
        land(writer, number)
        if number == 1:
            before = table_of(settings).metadata_location
    catalog.drop_table("market_data.trades")
    catalog.register_table("market_data.trades", before)
    again = writer_of(settings)
    for number in range(2, 3 * NOTED):
        land(again, number)
        expire(table_of(settings))
        found = audit(settings)
        assert found.adds_up
        assert [one.sequence_number for one in found.commits if not one.undone] == list(range(1, number + 2))
    undone = [one.sequence_number for one in found.commits if one.undone]
    assert undone == [*range(3, 2 * NOTED + 1)]


def test_a_dropped_table_of_commits_stops_the_job(settings: Settings) -> None:
    """Nothing is committed that could not be recorded."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    open_catalog(settings).drop_table("market_data.commits")
    with pytest.raises(TableError, match=r"table market_data.commits was dropped"):
        land(writer, NOTED)
    assert len(offsets_of(table_of(settings))) == ROWS * NOTED


def test_moving_notes_is_retried_after_a_conflict(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client's change of the table `commits` is kept."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    fails = [CommitFailedException("beaten")]
    do_commit = Table._do_commit

    def beaten(table: Table, *arguments: Any) -> None:
        if table.name()[-1] == TableName.COMMITS and fails:
            raise fails.pop()
        do_commit(table, *arguments)

    monkeypatch.setattr(Table, "_do_commit", beaten)
    land(writer, NOTED)
    assert not fails
    assert len(logged(settings)) == NOTED
    assert len(audited(settings)) == NOTED + 1


def test_a_zombie_records_nothing(settings: Settings) -> None:
    """Notes that it read long ago have been recorded since, and are not recorded again before it is fenced."""
    zombie = writer_of(settings)
    for number in range(NOTED):
        land(zombie, number)
    alive = writer_of(settings)
    for number in range(NOTED, 4 * NOTED):
        land(alive, number)
    zombie.write_batch([slice_of([row_at(100)]), read_to(101)])
    with pytest.raises(FencedError):
        zombie.snapshot()
    land(alive, 4 * NOTED)
    assert len(logged(settings)) == len(set(logged(settings)))
    assert len(audited(settings)) == 4 * NOTED + 1
