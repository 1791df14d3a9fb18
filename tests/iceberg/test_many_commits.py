"""Many commits to one table: what a commit reads and writes stays small, so that it takes no longer than the first."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyiceberg.table import CommitTableRequest, Table, TableIdentifier
from pyiceberg.table.snapshots import Snapshot

from k2.iceberg.commit import Committer
from k2.iceberg.ledger_writer import LedgerWriter
from k2.iceberg.snapshot_expiry import AssertRemovable, removable, removals
from k2.iceberg.snapshot_retention import DAY_MS, HOUR_MS, REMOVED_MIN, Retention, is_own, retention_of
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.table_progress import progress_of
from k2.iceberg.tables import MANIFESTS_MERGED, TableName, open_table
from k2.iceberg.trades_writer import TradesWriter
from k2.model.committed_offsets import CommittedOffsets
from k2.model.progress import Progress, TopicPartition
from k2.model.sequence_events import EventKind, SequenceEvent
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import dlq_of, offsets_of, read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of

HERE = TopicPartition("trades", 0)
NEWEST = 5
SMALL = {
    "history.expire.min-snapshots-to-keep": str(NEWEST),
    "history.expire.max-snapshot-age-ms": str(3 * DAY_MS),
    "k2.expire.hourly-age-ms": str(12 * HOUR_MS),
}
COMMITS = 300
METADATA_LOG_MAX = 50
SNAPSHOT_BYTES_MAX = 1_500
"""Bytes in the metadata of one snapshot that advances one topic partition."""
OTHER_BYTES_MAX = 20_000


class Clock(SimpleNamespace):
    """A clock that stands still until a test moves it."""

    now = datetime(2024, 1, 1, tzinfo=UTC)

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self.now.timestamp()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that PyIceberg uses for its snapshots, so that no test crosses the end of an hour."""
    clock = Clock()
    monkeypatch.setattr("pyiceberg.table.snapshots.time", clock)
    return clock


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a job of two writers in a folder of its own."""
    return settings_in(tmp_path, writers=2)


@pytest.fixture
def table(settings: Settings) -> Table:
    """Return its table `trades`, which keeps few snapshots."""
    return limited(settings, TableName.TRADES)


def limited(settings: Settings, which: TableName) -> Table:
    """Return a table that keeps few snapshots."""
    table = open_table(open_catalog(settings), settings, which)
    with table.transaction() as transaction:
        transaction.set_properties(SMALL)
    return table


def land(writer: TradesWriter, offset: int) -> None:
    """Write one row and close the epoch."""
    writer.write_batch([slice_of([row_at(offset)]), read_to(offset + 1)])
    writer.snapshot()


def own_of(table: Table) -> list[Snapshot]:
    """Return the job's snapshots in the order of their commits."""
    return sorted(filter(is_own, table.refresh().snapshots()), key=lambda snapshot: snapshot.sequence_number or 0)


def rows_in(table: Table, snapshot: Snapshot) -> int:
    """Count the rows as of a snapshot."""
    return table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows


def test_the_cost_of_a_commit_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """After 120 and 300 commits, the lists that each commit copies have the same length, and all rows are stored."""
    settings = settings_in(tmp_path)
    writer = writer_of(settings)
    lengths = []
    for offset in range(COMMITS):
        land(writer, offset)
        lengths.append(len(writer._committer.table.snapshots()))
    table = open_table(open_catalog(settings), settings, TableName.TRADES)
    own = own_of(table)
    assert max(lengths) <= Retention().newest + REMOVED_MIN
    assert [snapshot.sequence_number for snapshot in own] == list(range(COMMITS - len(own) + 1, COMMITS + 1))
    assert len(table.metadata.snapshot_log) == len(own)
    assert [rows_in(table, snapshot) for snapshot in (own[0], own[50])] == [
        own[0].sequence_number,
        own[50].sequence_number,
    ]
    assert len(own[-1].manifests(table.io)) <= 2 * MANIFESTS_MERGED
    check_metadata_files(table, len(own))
    assert offsets_of(table) == list(range(COMMITS))
    assert progress_of(table).of("0")[HERE].stored == COMMITS


def check_metadata_files(table: Table, snapshots: int) -> None:
    """Compare the file that a commit reads and writes, and the earlier ones kept, with their bounds."""
    assert len(table.metadata.metadata_log) <= METADATA_LOG_MAX
    folder = Path(table.metadata_location.removeprefix("file://")).parent
    assert len(list(folder.glob("*.metadata.json"))) <= METADATA_LOG_MAX + 1
    assert len(table.io.new_input(table.metadata_location)) <= SNAPSHOT_BYTES_MAX * snapshots + OTHER_BYTES_MAX


def test_the_last_snapshot_of_each_hour_and_day_is_kept(settings: Settings, table: Table, clock: Clock) -> None:
    """Four days, a commit each half hour: a bounded list, which allows reads as of an earlier time.

    A foreign snapshot, a tag and a branch stay, whatever their age.
    """
    writer = writer_of(settings)
    most = 0
    for offset in range(4 * 48):
        land(writer, offset)
        most = max(most, len(writer._committer.table.snapshots()))
        if offset == 3:
            refer_to(table, own_of(table)[2:])
        clock.now += timedelta(minutes=30)
    assert most <= retention_of(table.properties).own_max + 3
    kept = {datetime.fromtimestamp(one.timestamp_ms / 1_000, UTC).strftime("%d %H:%M") for one in own_of(table)}
    hourly = {f"04 {hour:02}:30" for hour in range(12, 24)}
    assert {"01 01:00", "01 01:30", "01 23:30", "02 23:30", "03 23:30", *hourly} <= kept
    assert not kept & {"01 00:30", "01 02:00", "02 00:30", "03 20:30", "04 02:00", "04 12:00"}
    assert {"audit", "study"} <= set(table.refs())
    assert len(table.snapshots()) == len(kept) + 1
    as_of = table.snapshot_as_of_timestamp(int(datetime(2024, 1, 4, 15, 45, tzinfo=UTC).timestamp() * 1_000))
    assert as_of is not None
    assert rows_in(table, as_of) == 3 * 48 + 15 * 2 + 2


def refer_to(table: Table, snapshots: list[Snapshot]) -> None:
    """Tag one snapshot, branch off at another, and append nothing, as a foreign client does."""
    first, second = snapshots
    table.manage_snapshots().create_tag(first.snapshot_id, "audit").commit()
    table.manage_snapshots().create_branch(second.snapshot_id, "study").commit()
    table.append(pa.Table.from_pylist([], schema=table.schema().as_arrow()))


def beaten_by(monkeypatch: pytest.MonkeyPatch, writer: TradesWriter, other: Callable[[], None]) -> list[int]:
    """Make another client commit just before each commit that removes snapshots; return the snapshots of those."""
    catalog = writer._committer.table.catalog
    commit = catalog.commit_table
    tries: list[int] = []

    def commit_table(table: Table, requirements: tuple, updates: tuple) -> object:
        removed = len([update for update in updates if update.action == "remove-snapshots"])
        tries.append(removed)
        if removed and sum(map(bool, tries)) == 1:
            other()
        return commit(table, requirements, updates)

    monkeypatch.setattr(catalog, "commit_table", commit_table)
    return tries


def until_removal_is_due(writer: TradesWriter) -> int:
    """Commit until the next commit is to remove snapshots; return its offset."""
    offset = 0
    while not removable(writer._committer.table.metadata):
        land(writer, offset)
        offset += 1
    return offset


@pytest.mark.parametrize("in_time", [True, False])
def test_a_concurrent_tag_keeps_its_snapshot(
    settings: Settings, table: Table, monkeypatch: pytest.MonkeyPatch, *, in_time: bool
) -> None:
    """A tag made between two commits is seen; one made while a commit is under way makes that commit retry."""
    writer = writer_of(settings)
    offset = until_removal_is_due(writer)
    first = own_of(table)[0]
    tries = beaten_by(
        monkeypatch,
        writer,
        lambda: None if in_time else table.manage_snapshots().create_tag(first.snapshot_id, "audit").commit(),
    )
    if in_time:
        table.manage_snapshots().create_tag(first.snapshot_id, "audit").commit()
    land(writer, offset)
    land(writer, offset + 1)
    assert own_of(table)[0] == first
    assert table.refs()["audit"].snapshot_id == first.snapshot_id
    assert offsets_of(table) == list(range(offset + 2))
    assert tries == ([0, REMOVED_MIN] if in_time else [REMOVED_MIN, 0, REMOVED_MIN])


@pytest.mark.parametrize("in_time", [True, False])
def test_a_concurrent_expiry_does_no_harm(
    settings: Settings, table: Table, monkeypatch: pytest.MonkeyPatch, *, in_time: bool
) -> None:
    """Snapshots that another tool removed are not removed again, and the commit succeeds, however close the race."""

    def expire() -> None:
        *old, _ = table.refresh().snapshots()
        table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()

    writer = writer_of(settings)
    offset = until_removal_is_due(writer)
    tries = beaten_by(monkeypatch, writer, (lambda: None) if in_time else expire)
    if in_time:
        expire()
    land(writer, offset)
    assert len(own_of(table)) == 2
    assert offsets_of(table) == list(range(offset + 1))
    assert tries == ([0] if in_time else [REMOVED_MIN, 0])


def test_a_commit_in_doubt_is_found_among_many(
    settings: Settings, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its response is lost, and others' commits push its snapshot out before the lookup: it is not repeated."""
    handle = TableHandle(settings, TableName.TRADES, None)
    handle._committer = Committer(handle.committer().table, sleep=lambda _: None)
    writer, other = TradesWriter("0", handle, {}, dlq_of(settings)), writer_of(settings, "1")
    catalog = handle.committer().table.catalog
    commit, commits = catalog.commit_table, []

    def commit_table(*arguments: object) -> object:
        commits.append(commit(*arguments))
        latest = own_of(table)[-1]
        for offset in range(30):
            land(other, offset)
        assert latest not in own_of(table)
        raise TimeoutError("slow")

    monkeypatch.setattr(catalog, "commit_table", commit_table)
    land(writer, 0)
    assert len(commits) == 1
    assert offsets_of(table) == sorted([0, *range(30)])
    assert {name: progress_of(table).of(name)[HERE].stored for name in "01"} == {"0": 1, "1": 30}


def test_a_long_list_of_snapshots_shrinks_gradually(
    settings: Settings, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No commit removes more than its share, so that none takes long; none removes any if removal is off."""
    monkeypatch.setattr("k2.iceberg.snapshot_expiry.REMOVED_MAX", 20)
    with table.transaction() as transaction:
        transaction.set_properties({"k2.expire.enabled": "false"})
    writer = writer_of(settings)
    for offset in range(50):
        land(writer, offset)
    with table.transaction() as transaction:
        transaction.set_properties({"k2.expire.enabled": "true"})
    lengths = [len(own_of(table))]
    for offset in range(50, 54):
        land(writer, offset)
        lengths.append(len(own_of(table)))
    assert lengths == [50, 31, 12, 13, 14]


def test_snapshots_of_the_ledger_are_removed_as_well(settings: Settings) -> None:
    """It has as many commits as the trades if gaps are frequent."""
    table = limited(settings, TableName.SEQUENCE_EVENTS)
    writer = LedgerWriter(TableHandle(settings, TableName.SEQUENCE_EVENTS, None), {}, CommittedOffsets(Progress(), 1))
    for offset in range(40):
        writer.write_batch([[SequenceEvent("kraken", "X", 1, EventKind.GAP_OPENED, 1, 2, 3, "trades", 0, offset)]])
        writer.snapshot()
    assert len(own_of(table)) <= NEWEST + REMOVED_MIN
    assert table.scan().to_arrow().num_rows == 40


def test_removals_have_the_form_that_rest_catalogs_accept(table: Table) -> None:
    """One id in each update, and only requirements of the specification."""
    requirement = AssertRemovable(uuid=table.metadata.table_uuid, removed=(5, 6))
    request = CommitTableRequest(
        identifier=TableIdentifier(namespace=("market_data",), name="trades"),
        requirements=(requirement,),
        updates=removals((5, 6)),
    )
    assert request.model_dump()["requirements"] == ({"type": "assert-table-uuid", "uuid": table.metadata.table_uuid},)
    assert request.model_dump()["updates"] == (
        {"action": "remove-snapshots", "snapshot-ids": [5]},
        {"action": "remove-snapshots", "snapshot-ids": [6]},
    )
