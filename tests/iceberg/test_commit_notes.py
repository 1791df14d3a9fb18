"""The trail of commits: each that landed is told once, whatever expires and whatever is killed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.iceberg.abandon_offsets import give_up
from k2.iceberg.catalog import open_catalog
from k2.iceberg.commit import Committer
from k2.iceberg.commit_log_writer import Keeper
from k2.iceberg.commit_notes import noted_in
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.errors import FencedError, TableError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings
from k2.query.audit import audit
from k2.storage.commit_log import Commit
from tests.iceberg.pieces import Row, letters_of, offsets_of, piece_of, read_to, settings_in, writer_of

NOTED = 3
ROWS = 2


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commits kept soon."""
    monkeypatch.setattr("k2.iceberg.commit.NOTED_MAX", NOTED)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job of two writers in a folder of its own."""
    return settings_in(tmp_path, writers=2)


def land(writer: TradesWriter, number: int) -> None:
    """Bring two rows and end the epoch."""
    first = ROWS * number
    writer.write_batch([piece_of([Row(first), Row(first + 1)]), read_to(first + ROWS)])
    writer.snapshot()


def table_of(settings: Settings, which: TableName = TableName.TRADES) -> Table:
    """Open a table as another program would."""
    return open_table(open_catalog(settings), settings, which)


def expire(table: Table) -> None:
    """Remove all snapshots but the current one, as another program would."""
    *old, _ = sorted(table.refresh().snapshots(), key=lambda one: one.sequence_number or 0)
    if old:
        table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()


def told(settings: Settings) -> list[int]:
    """Return the snapshot ids that the audit tells of, which must be complete."""
    found = audit(settings)
    assert found.adds_up
    return [one.snapshot_id for one in found.commits]


def kept(settings: Settings) -> list[int]:
    """Return the snapshot ids in the table `commits`."""
    rows = table_of(settings, TableName.COMMITS).scan().to_arrow().to_pylist()
    return [row["snapshot_id"] for row in sorted(rows, key=lambda row: row["sequence_number"])]


def test_every_commit_is_told_whenever_snapshots_expire(settings: Settings) -> None:
    """After each commit all but its snapshot are removed: what each was is told, once, to the end."""
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
        assert one.partitions == [move | {"duplicates": 0, "dead_letters": 0, "skipped": 0}]
        assert (one.writer, one.rows, one.files, one.remark) == (str(number % 2), ROWS, 1, None)
        assert one.committed_at.timestamp() * 1_000 == pytest.approx(made[number].timestamp_ms)
    assert len(noted_in(table.metadata)) <= 2 * NOTED
    assert 12 - 2 * NOTED <= len(kept(settings)) == len(set(kept(settings)))


@pytest.mark.parametrize("killed_at", ["before", "after"])
def test_a_crash_beside_the_keeping_loses_and_doubles_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """Killed before commits are kept, or after that and before the commit which takes them from the property."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    keep = writer._committer._keep

    def crash(commits: Sequence[Commit]) -> int:
        if killed_at == "after":
            keep(commits)
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._committer, "_keep", crash)
    with pytest.raises(KeyboardInterrupt):
        land(writer, NOTED)
    assert len(kept(settings)) == (NOTED if killed_at == "after" else 0)
    assert len(told(settings)) == NOTED
    again = writer_of(settings)
    for number in range(NOTED, 3 * NOTED):
        land(again, number)
        expire(table_of(settings))
        assert len(told(settings)) == number + 1
    assert len(kept(settings)) == len(set(kept(settings))) == 2 * NOTED


def test_a_try_that_did_not_land_is_not_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that met another's is told as it landed in the end, on the other's snapshot."""
    handle = TableHandle(settings, TableName.TRADES, None)
    writer = TradesWriter("0", handle, {}, letters_of(settings))
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
    assert tries[0] not in told(settings)
    assert told(settings)[-1] == tries[1]
    assert len(told(settings)) == 3


def test_processes_that_keep_at_once_keep_each_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second finds what the first kept, adds what it lacks, and leaves no file behind."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    commits = noted_in(table_of(settings).metadata)

    def keeper() -> Keeper:
        return Keeper(Committer(table_of(settings, TableName.COMMITS)), "id", "trades")

    first, second = keeper(), keeper()
    append = Keeper._append

    def late(one: Keeper, *arguments: Any) -> None:
        if one is second and not kept(settings):
            first.keep(commits[:2])
        append(one, *arguments)

    monkeypatch.setattr(Keeper, "_append", late)
    assert second.keep(commits) == commits[-1].sequence_number
    assert first.keep(commits) == commits[-1].sequence_number
    assert kept(settings) == [one.snapshot_id for one in commits]
    files = table_of(settings, TableName.COMMITS).location().removeprefix("file://")
    assert len([*Path(files).rglob("*.parquet")]) == 2


def test_a_table_from_before_there_was_a_trail(settings: Settings) -> None:
    """What its snapshots tell is kept with the first commits; what had expired by then is told to be lacking."""
    handle = TableHandle(settings, TableName.TRADES, None)
    handle._committer = Committer(handle.committer().table)
    old = TradesWriter("0", handle, {}, letters_of(settings))
    for number in range(5):
        land(old, number)
    assert len(told(settings)) == 5
    new = writer_of(settings)
    for number in range(5, 7):
        land(new, number)
    expire(table_of(settings))
    assert len(told(settings)) == 7


def test_commits_that_are_gone_are_said_to_lack(settings: Settings) -> None:
    """A trail that does not lead to the table's progress is not passed off as all of it."""
    handle = TableHandle(settings, TableName.TRADES, None)
    handle._committer = Committer(handle.committer().table)
    old = TradesWriter("0", handle, {}, letters_of(settings))
    for number in range(2):
        land(old, number)
    expire(table_of(settings))
    found = audit(settings)
    assert (len(found.commits), found.adds_up) == (1, False)


def test_claims_and_offsets_given_up_are_told(settings: Settings) -> None:
    """What the job did without rows is on record too, also once its snapshot is gone."""
    writer = writer_of(settings)
    land(writer, 0)
    committer = TableHandle(settings, TableName.TRADES, None).committer()
    committer.set_fencing_token("77", progress_of(committer.table))
    give_up(committer, TopicPartition("trades", 0), 10, 2)
    expire(table_of(settings))
    found = audit(settings)
    assert found.adds_up
    assert [(one.writer, one.rows, one.remark) for one in found.commits] == [
        ("0", 2, None),
        (None, 0, "claim 77"),
        ("0", 0, "given_up trades:0 2-9"),
        ("1", 0, "given_up trades:0 0-9"),
    ]


def test_a_table_made_anew_has_a_trail_of_its_own(settings: Settings) -> None:
    """The commits of the one that was dropped stay in the table `commits`, and are not those of the new one."""
    writer = writer_of(settings)
    for number in range(NOTED + 1):
        land(writer, number)
    open_catalog(settings).drop_table("market_data.trades")
    land(writer_of(settings), 0)
    assert len(told(settings)) == 1
    assert len(kept(settings)) == NOTED
    assert offsets_of(table_of(settings)) == [0, 1]


def test_a_table_that_was_put_back_keeps_what_it_does_anew(settings: Settings) -> None:
    """Sequence numbers come again: the new commits are kept, the old are told as undone, and the sums come out."""
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
    """Nothing is committed that could not be kept."""
    writer = writer_of(settings)
    for number in range(NOTED):
        land(writer, number)
    open_catalog(settings).drop_table("market_data.commits")
    with pytest.raises(TableError, match=r"table market_data.commits is gone"):
        land(writer, NOTED)
    assert len(offsets_of(table_of(settings))) == ROWS * NOTED


def test_keeping_that_conflicts_is_tried_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client's change of the table `commits` is built upon."""
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
    assert len(kept(settings)) == NOTED
    assert len(told(settings)) == NOTED + 1


def test_a_zombie_keeps_nothing(settings: Settings) -> None:
    """What it saw noted long ago has been kept since, and is not kept again before it is fenced."""
    zombie = writer_of(settings)
    for number in range(NOTED):
        land(zombie, number)
    alive = writer_of(settings)
    for number in range(NOTED, 4 * NOTED):
        land(alive, number)
    zombie.write_batch([piece_of([Row(100)]), read_to(101)])
    with pytest.raises(FencedError):
        zombie.snapshot()
    land(alive, 4 * NOTED)
    assert len(kept(settings)) == len(set(kept(settings)))
    assert len(told(settings)) == 4 * NOTED + 1
