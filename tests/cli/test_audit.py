"""`k2 audit`: fields, filters and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table
from typer.testing import Result

from k2.iceberg.tables import TableName, open_table
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of
from tests.query.tables import EPOCH, append, made, progress, set_progress, trade

K2 = Callable[..., Result]


@pytest.fixture
def commits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Make three commits, an hour apart; the snapshots of the first two have expired."""
    clock = SimpleNamespace(now=1_700_000_000.0, time=lambda: clock.now)
    monkeypatch.setattr("pyiceberg.table.snapshots.time", clock)
    job = settings_in(Path(settings.data_dir))
    writer = writer_of(job)
    for number in range(3):
        writer.write_batch([slice_of([row_at(number)]), read_to(number + 1)])
        writer.snapshot()
        clock.now += 3_600
    table = open_table(open_catalog(job), job, TableName.TRADES)
    *old, _ = table.snapshots()
    table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in old]).commit()
    return job


def test_audit(commits: Settings, k2: K2) -> None:
    """One row for each commit, with the documented fields, also for expired snapshots."""
    result = k2("audit", "--json")
    first, second, third = json.loads(result.stdout)
    where = {"topic": "trades", "partition": 0, "offset": 1}
    counts = {"received": 1, "stored": 1, "duplicates": 0, "dead_letters": 0, "skipped": 0, "corrections": 0}
    assert first == {
        "snapshot_id": first["snapshot_id"],
        "parent_id": None,
        "sequence_number": 1,
        "committed_at": "2023-11-14T22:13:20Z",
        "writer": "0",
        "rows": 1,
        "files": 1,
        "bytes": first["bytes"],
        "partitions": [where | counts],
        "remark": "started with no state",
        "lag": None,
        "undone": False,
        "expired": True,
    }
    assert [second["parent_id"], third["parent_id"]] == [first["snapshot_id"], second["snapshot_id"]]
    assert [second["remark"], third["remark"], third["expired"]] == [None, None, False]
    assert result.exit_code == 0
    assert "3 commits with 3 rows; 2 snapshots expired" in result.stderr


def test_tables_for_people_fit(commits: Settings, k2: K2) -> None:
    """By commit, and by partition of each; ids in the form that other tools take."""
    shown = k2("audit", columns=80)
    (first, *_) = json.loads(k2("audit", "--json").stdout)
    assert str(first["snapshot_id"]) in shown.stdout
    assert "2023-11-14 22:13:20" in shown.stdout
    parts = k2("audit", "--partitions", columns=80)
    assert parts.stdout.count("trades:0") == 3
    assert all(len(line) <= 80 for line in (shown.stdout + parts.stdout).splitlines())


def test_filters_select(commits: Settings, k2: K2) -> None:
    """By time, and by number of newest commits; commits filtered out do not make the commit log incomplete."""

    def numbers(*arguments: str) -> list[int]:
        result = k2("audit", "--json", *arguments)
        assert result.exit_code == 0
        return [one["sequence_number"] for one in json.loads(result.stdout)]

    assert numbers("--limit", "2") == [2, 3]
    assert numbers("--start", "2023-11-14T23:00:00Z") == [2, 3]
    assert numbers("--start", "2023-11-14T23:13:20Z", "--end", "2023-11-15T00:13:20Z") == [2]
    assert numbers("--end", "2023-11-14") == []


def test_an_incomplete_commit_log_is_exit_code_1(commits: Settings, k2: K2) -> None:
    """The remaining commits are shown, with the reason."""
    table = open_table(open_catalog(commits), commits, TableName.TRADES)
    with table.transaction() as transaction:
        transaction.remove_properties("k2.trail")
    result = k2("audit", "--json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (1, 1)
    assert "do not add up to the progress" in result.stderr


def test_an_unreadable_commit_log_is_reported(commits: Settings, k2: K2) -> None:
    """A property that another program changed is named, and does not count as no commits."""
    table = open_table(open_catalog(commits), commits, TableName.TRADES)
    with table.transaction() as transaction:
        transaction.set_properties({"k2.trail": '{"format":2,"commits":[]}'})
    result = k2("audit")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "table property k2.trail has format 2" in result.stderr


def test_undone_commits_are_reported(commits: Settings, k2: K2, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rollback, the later commits are on record, and are not counted as stored."""
    catalog = open_catalog(commits)
    before = open_table(catalog, commits, TableName.TRADES).metadata_location
    writer = writer_of(commits)
    monkeypatch.setattr("k2.iceberg.commit_notes.COMMIT_NOTES_MAX", 2)
    for number in range(3, 9):
        writer.write_batch([slice_of([row_at(number)]), read_to(number + 1)])
        writer.snapshot()
    catalog.drop_table("market_data.trades")
    catalog.register_table("market_data.trades", before)
    again = writer_of(commits)
    again.write_batch([slice_of([row_at(number) for number in range(3, 9)]), read_to(9)])
    again.snapshot()
    result = k2("audit", "--json")
    assert result.exit_code == 0
    assert [one["rows"] for one in json.loads(result.stdout) if not one["undone"]] == [1, 1, 1, 6]
    assert "commits with 9 rows;" in result.stderr
    assert "commits are undone and not counted in these rows" in result.stderr


@pytest.mark.parametrize("has_foreign", [False, True])
def test_a_table_rolled_back_and_forth_has_the_right_commits(
    commits: Settings,
    k2: K2,
    monkeypatch: pytest.MonkeyPatch,
    has_foreign: bool,  # noqa: FBT001
) -> None:
    """Also if others reused the numbers of abandoned commits, and their snapshots have expired since."""
    catalog = open_catalog(commits)
    monkeypatch.setattr("k2.iceberg.commit_notes.COMMIT_NOTES_MAX", 2)

    def land(first: int, last: int) -> None:
        writer = writer_of(commits)
        for number in range(first, last + 1):
            writer.write_batch([slice_of([row_at(number)]), read_to(number + 1)])
            writer.snapshot()

    def put(location: str) -> None:
        catalog.drop_table("market_data.trades")
        catalog.register_table("market_data.trades", location)

    def table() -> Table:
        return open_table(catalog, commits, TableName.TRADES)

    def effective() -> list[int]:
        result = k2("audit", "--json")
        assert result.exit_code == 0
        return [one["partitions"][0]["offset"] for one in json.loads(result.stdout) if not one["undone"]]

    land(3, 3)
    before = table().metadata_location
    land(4, 8)
    after = table().metadata_location
    assert effective() == [*range(1, 10)]
    put(before)
    if has_foreign:
        table().append(table().scan().to_arrow().slice(0, 0))
    foreign_id = table().metadata.current_snapshot_id
    assert effective() == [1, 2, 3, 4]
    land(4, 6)
    if has_foreign:
        assert foreign_id is not None
        table().maintenance.expire_snapshots().by_id(foreign_id).commit()
    assert effective() == [*range(1, 8)]
    put(after)
    assert effective() == [*range(1, 10)]


def test_an_empty_table_is_a_valid_result(settings: Settings, k2: K2) -> None:
    """Before the first commit: no rows, and exit code 0."""
    made(settings, TableName.TRADES)
    result = k2("audit", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "0 commits" in result.stderr


@pytest.fixture
def doubled(settings: Settings) -> Table:
    """Store four trades, two of which the second session repeats; the progress counts all rows."""
    table = made(settings, TableName.TRADES)
    rows = [trade(number, symbol="BTCUSDT") | {"session": 1} for number in range(4)]
    again = [one | {"session": 2, "offset": 10 + at, "timestamp": EPOCH} for at, one in enumerate(rows[1:3])]
    append(table, [*rows, *again])
    set_progress(table, progress(offset=12, received=6, stored=6))
    return table


def test_doubled_trades(doubled: Table, k2: K2, tmp_path: Path) -> None:
    """One line for each number with its copies, exit code 1; as JSON, a table for people, and a file."""
    result = k2("audit", "--doubled", "--json")
    lines = json.loads(result.stdout)
    where = {"topic": "trades", "partition": 0, "index": 0}
    assert lines[0] == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "sequence": 1,
        "price": "2.500000000000000000",
        "quantity": "2.000000000000000000",
        "side": "buy",
        "trade_id": "1",
        "copies": [
            where | {"session": 1, "timestamp": "2024-08-09T00:00:01Z", "offset": 1},
            where | {"session": 2, "timestamp": "2024-08-09T00:00:00Z", "offset": 10},
        ],
    }
    assert (result.exit_code, len(lines)) == (1, 2)
    assert "2 numbers with 4 rows:" in result.stderr
    shown = k2("audit", "--doubled", columns=80)
    assert (shown.exit_code, "session 2" in shown.stdout) == (1, True)
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    wide = k2("audit", "--doubled")
    assert "session 1, 2024-08-09 00:00:01, trades:0 offset 1; session 2, 2024-08-09 00:00:00, trades:0 offset 10" in (
        wide.stdout
    )
    path = tmp_path / "doubled.parquet"
    assert k2("audit", "--doubled", "--output", str(path)).exit_code == 1
    assert pq.read_table(path).num_rows == 2


def test_a_limit_bounds_the_lines_and_not_the_count(doubled: Table, k2: K2) -> None:
    """The first numbers are shown, and all are counted."""
    result = k2("audit", "--doubled", "--limit", "1", "--json")
    assert [one["sequence"] for one in json.loads(result.stdout)] == [1]
    assert (result.exit_code, "2 numbers with 4 rows" in result.stderr) == (1, True)
    assert k2("audit", "--doubled", "--limit", "1").stdout.count("session 1") == 1


def test_deleted_doubled_trades_are_reported_by_reconcile(doubled: Table, k2: K2) -> None:
    """Exit code 0 again, without a line; reconcile reports how many received trades are in no row any more."""
    assert k2("reconcile").exit_code == 0
    doubled.refresh()
    doubled.delete("session = 2 and sequence in (1, 2)")
    result = k2("audit", "--doubled", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "no number is stored with the same content" in result.stderr
    sums = k2("reconcile")
    assert sums.exit_code == 1
    assert "trades:0: 2 of 6 received are not accounted for" in sums.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--doubled", "--partitions"], "--doubled: cannot be combined"),
        (["--doubled", "--start", "2024-01-01"], "--doubled: cannot be combined"),
        (["--doubled", "--output", "x.txt"], "its name must end with one of"),
        (["--output", "x.json"], "--output: only --doubled writes a file"),
    ],
)
def test_invalid_options_of_doubled_are_named(doubled: Table, k2: K2, arguments: list[str], says: str) -> None:
    """Exit code 2, and the error names the option."""
    result = k2("audit", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_invalid_limits_and_spans_are_usage_errors(settings: Settings, k2: K2) -> None:
    """A limit of 0, or an empty span."""
    assert k2("audit", "--limit", "0").exit_code == 2
    assert "is not before --end" in k2("audit", "--start", "2024-01-02", "--end", "2024-01-01").stderr
