"""`k2 catalog`: a lost catalog is brought back, backed up and restored, whatever is in the way."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pyiceberg.table import Table
from typer.testing import Result

from k2.iceberg.table_binding import bind_tables
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.market import open_market
from k2.query.query_builders import trades as all_trades
from k2.storage.catalog import find_table, open_catalog
from k2.storage.catalog_lock import share_catalog
from k2.storage.checkpoints import NamedCheckpoints
from k2.storage.table_properties import CHECKPOINTS
from tests.cli.moved import parsed, refused
from tests.query.tables import append, event, made, progress, set_progress, trade

K2 = Callable[..., Result]


@pytest.fixture
def table(settings: Settings) -> Table:
    """Return `trades` with two commits, next to its ledger and commit log."""
    ledger = TableHandle(settings, TableName.SEQUENCE_EVENTS, None).committer()
    bind_tables(TableHandle(settings, TableName.TRADES, None).committer(), ledger, is_resumed=False)
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 2, 2)])
    table = made(settings, TableName.TRADES)
    append(table, [trade(0), trade(1)])
    append(table, [trade(3)])
    set_progress(table, progress(offset=4, received=4, stored=3, duplicates=1))
    return table


def forget(settings: Settings) -> None:
    """Remove the catalog's database."""
    for suffix in ("", "-wal", "-shm"):
        (settings.data_dir / f"catalog.db{suffix}").unlink(missing_ok=True)


def path_of(location: str) -> Path:
    """Return the path of a local location."""
    return Path(location.removeprefix("file://"))


def offsets(settings: Settings) -> list[int]:
    """Return the offsets of the rows that a query finds."""
    with open_market(settings) as market:
        return sorted(market.table(all_trades())["offset"].to_pylist())


def test_registered_tables_are_as_before(settings: Settings, table: Table, k2: K2) -> None:
    """All three, at their newest version, with snapshot and progress in the answer; afterwards it is refused."""
    versions = {which: made(settings, which).metadata_location for which in TableName}
    forget(settings)
    # The time of a file says nothing: a copy of a warehouse has others.
    for number, file in enumerate(sorted(settings.data_dir.rglob("*.metadata.json"), reverse=True)):
        os.utime(file, (number, number))
    found = parsed(k2("catalog", "register", "--json"))["tables"]
    assert {one["table"]: one["metadata"] for one in found} == {
        f"market_data.{which}": location for which, location in versions.items()
    }
    snapshot = table.refresh().metadata.current_snapshot_id
    assert (found[0]["snapshot_id"], found[0]["rows"], found[0]["progress"]) == (snapshot, 3, {"trades:0": 4})
    assert offsets(settings) == [0, 1, 3]
    refused(k2("catalog", "register"), 2, "table market_data.trades is already registered in catalog 'k2'")


def test_a_dropped_table_of_the_same_name_is_left_aside(settings: Settings, table: Table, k2: K2) -> None:
    """Its versions have higher numbers, but were updated earlier, and it is another table."""
    for name in ("trades", "sequence_events", "commits"):
        open_catalog(settings).drop_table(("market_data", name))
    ledger = TableHandle(settings, TableName.SEQUENCE_EVENTS, None).committer()
    bind_tables(TableHandle(settings, TableName.TRADES, None).committer(), ledger, is_resumed=False)
    newest = made(settings, TableName.TRADES)
    append(newest, [trade(7)])
    forget(settings)
    found = parsed(k2("catalog", "register", "--json"))["tables"]
    assert found[0]["metadata"] == newest.metadata_location
    assert offsets(settings) == [7]


@pytest.mark.parametrize("harm", ["torn metadata", "no snapshot", "torn data file"])
def test_a_damaged_newest_version_is_refused(settings: Settings, table: Table, k2: K2, harm: str) -> None:
    """It is named; on request the newest whole version is registered, and the rows are those of that version."""
    append(table, [trade(9)])
    before = offsets(settings)
    if harm == "torn metadata":
        os.truncate(path_of(table.metadata_location), 100)
        named = path_of(table.metadata_location).name
    elif harm == "no snapshot":
        snapshot = table.current_snapshot()
        assert snapshot is not None
        named = path_of(snapshot.manifest_list).name
        path_of(snapshot.manifest_list).unlink()
    else:
        (file,) = (task.file.file_path for task in table.scan(row_filter="offset = 9").plan_files())
        named = path_of(file).name
        os.truncate(path_of(file), 10)
    forget(settings)
    refused(k2("catalog", "register"), 1, named)
    assert "--skip-damaged" in k2("catalog", "register").stderr
    assert find_table_is_refused(settings)
    parsed(k2("catalog", "register", "--skip-damaged", "--json"))
    assert (before, offsets(settings)) == ([0, 1, 3, 9], [0, 1, 3])


@pytest.mark.parametrize("skip_damaged", [False, True])
def test_going_back_to_older_versions_forgets_checkpoints(
    settings: Settings, table: Table, k2: K2, *, skip_damaged: bool
) -> None:
    """They count events as written that an older ledger may lack: the next start compares all rows with it."""
    with table.transaction() as transaction:
        transaction.set_properties(CHECKPOINTS.set_to(NamedCheckpoints({3: []}), "0"))
    forget(settings)
    parsed(k2("catalog", "register", "--json", *(["--skip-damaged"] if skip_damaged else [])))
    registered = find_table(settings, "trades")
    assert registered is not None
    assert len(CHECKPOINTS.read_all(registered.metadata.properties)) == (0 if skip_damaged else 1)


def find_table_is_refused(settings: Settings) -> bool:
    """Return whether the catalog counts as lost, whatever a refused command left."""
    with pytest.raises(Exception, match="k2 catalog register"):
        find_table(settings, "trades")
    return True


def test_a_version_of_a_lost_race_is_reported(settings: Settings, table: Table, k2: K2) -> None:
    """Two files of the newest version: one is registered, the other named on stderr."""
    path = path_of(table.metadata_location)
    other = path.with_name(f"{path.name[:6]}00000000-0000-0000-0000-000000000000.metadata.json")
    other.write_text(path.read_text().replace('"last-updated-ms":', '"last-updated-ms":1,"old":'))
    forget(settings)
    result = k2("catalog", "register", "--json")
    assert parsed(result)["tables"][0]["metadata"] == table.metadata_location
    assert f"{other.name} has the same version" in result.stderr


def test_tables_that_do_not_belong_together_are_refused(settings: Settings, table: Table, k2: K2) -> None:
    """Without its ledger, the trades are not registered; nothing is."""
    forget(settings)
    shutil.rmtree(settings.data_dir / "warehouse" / "market_data" / "sequence_events")
    refused(k2("catalog", "register"), 1, "the ledger market_data.sequence_events of table market_data.trades (UUID ")
    assert not (settings.data_dir / "catalog.db").exists()


@pytest.mark.parametrize("left", ["nothing", "an empty warehouse", "data files"])
def test_a_folder_without_tables_is_named(settings: Settings, k2: K2, left: str) -> None:
    """Nothing is created in a wrong folder."""
    folder = settings.data_dir / "warehouse" / "market_data" / "trades"
    if left != "nothing":
        folder.mkdir(parents=True)
    if left == "data files":
        (folder / "x.parquet").touch()
    refused(k2("catalog", "register"), 1, "no metadata file of table market_data.trades is in ")
    assert not (settings.data_dir / "catalog.db").exists()


def test_a_moved_warehouse_is_named(settings: Settings, table: Table, k2: K2, tmp_path: Path) -> None:
    """Paths in its files are those of the former folder."""
    forget(settings)
    settings.data_dir.rename(tmp_path / "elsewhere")
    settings.data_dir.mkdir()
    shutil.move(tmp_path / "elsewhere" / "warehouse", settings.data_dir / "warehouse")
    parsed(k2("catalog", "register", "--json"))
    forget(settings)
    moved = Settings(data_dir=tmp_path / "elsewhere")
    (settings.data_dir / "warehouse").rename(moved.data_dir / "warehouse")
    result = k2_in(moved, k2, "catalog", "register")
    refused(result, 1, f"has the paths of {table.location()}: the warehouse was moved")


def k2_in(settings: Settings, k2: K2, *arguments: str) -> Result:
    """Run a command with another folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K2_DATA_DIR", str(settings.data_dir))
        return k2(*arguments)


@pytest.mark.parametrize("command", ["register", "restore"])
def test_a_running_job_keeps_its_catalog(
    settings: Settings, table: Table, k2: K2, tmp_path: Path, command: str
) -> None:
    """What replaces the catalog is refused while a process of the job lives; a backup is not."""
    backup = str(tmp_path / "backup.db")
    descriptor = share_catalog(settings)
    assert descriptor is not None
    try:
        assert k2("catalog", "backup", backup).exit_code == 0
        arguments = [backup, "--replace"] if command == "restore" else []
        refused(k2("catalog", command, *arguments), 1, "is in use by another process: stop the job")
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def test_a_restored_backup_is_as_before(settings: Settings, table: Table, k2: K2, tmp_path: Path) -> None:
    """After the database was lost or torn; a catalog that has tables is kept unless asked, and then moved aside."""
    backup = tmp_path / "new" / "backup.db"
    document = parsed(k2("catalog", "backup", str(backup), "--json"))
    assert document["tables"] == ["market_data.commits", "market_data.sequence_events", "market_data.trades"]
    assert sorted(backup.parent.iterdir()) == [backup]
    forget(settings)
    assert parsed(k2("catalog", "restore", str(backup), "--json"))["replaced"] is None
    assert offsets(settings) == [0, 1, 3]
    refused(k2("catalog", "restore", str(backup)), 2, "move it aside with --replace")
    aside = Path(parsed(k2("catalog", "restore", str(backup), "--replace", "--json"))["replaced"])
    assert (aside / "catalog.db").is_file()
    database = settings.data_dir / "catalog.db"
    forget(settings)
    database.write_text("hello" * 1_000)
    parsed(k2("catalog", "restore", str(backup), "--json"))
    assert offsets(settings) == [0, 1, 3]


def test_an_older_backup_loses_nothing_in_silence(settings: Settings, table: Table, k2: K2, tmp_path: Path) -> None:
    """It is refused if the warehouse has later versions, or lacks the file that the backup names."""
    backup = str(tmp_path / "backup.db")
    parsed(k2("catalog", "backup", backup, "--json"))
    named = path_of(table.metadata_location)
    append(table, [trade(9)])
    forget(settings)
    refused(k2("catalog", "restore", backup), 1, "the backup is older than table market_data.trades")
    parsed(k2("catalog", "restore", backup, "--older", "--json"))
    assert offsets(settings) == [0, 1, 3]
    forget(settings)
    named.unlink()
    refused(k2("catalog", "restore", backup, "--older"), 1, f"{named} for table market_data.trades, which is missing")
    parsed(k2("catalog", "register", "--json"))
    assert offsets(settings) == [0, 1, 3, 9]


def test_an_older_backup_takes_no_other_namespace_back(
    settings: Settings, table: Table, k2: K2, tmp_path: Path
) -> None:
    """Two jobs may share a catalog: what the other has committed since is not undone, even if the file is lost."""
    other = settings.model_copy(update={"namespace": "other"})
    append(made(other, TableName.TRADES), [trade(1)])
    backup = str(tmp_path / "backup.db")
    parsed(k2("catalog", "backup", backup, "--json"))
    append(made(other, TableName.TRADES), [trade(2)])
    refused(k2("catalog", "restore", backup, "--replace"), 1, "the backup is older than table other.trades")
    forget(settings)
    refused(k2("catalog", "restore", backup), 1, "the backup is older than table other.trades")
    parsed(k2("catalog", "restore", backup, "--older", "--json"))


@pytest.mark.parametrize("step", ["copied", "moved aside"])
def test_an_interrupted_restore_is_repeated(
    settings: Settings, table: Table, k2: K2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The catalog is the former one or absent, which is refused; then the command succeeds."""
    backup, database = str(tmp_path / "backup.db"), settings.data_dir / "catalog.db"
    parsed(k2("catalog", "backup", backup, "--json"))
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if (path.suffix == ".restoring") == (step == "moved aside"):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        assert k2("catalog", "restore", backup, "--replace").exit_code != 0
    assert database.exists() == (step == "copied")
    if step == "moved aside":
        assert find_table_is_refused(settings)
    parsed(k2("catalog", "restore", backup, "--replace", "--json"))
    assert offsets(settings) == [0, 1, 3]


def test_what_is_no_backup_is_refused(settings: Settings, table: Table, k2: K2, tmp_path: Path) -> None:
    """An absent, foreign or torn file, and a backup that would replace a file."""
    backup = tmp_path / "backup.db"
    refused(k2("catalog", "restore", str(backup)), 2, "is not a file")
    backup.write_text("hello" * 1_000)
    refused(k2("catalog", "restore", str(backup)), 1, f"{backup} is corrupt: file is not a database")
    refused(k2("catalog", "backup", str(backup)), 2, "already exists")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    refused(k2("catalog", "restore", str(other)), 2, f"{other} is not a catalog: no such table")
    assert k2("catalog", "restore", "").exit_code == 2


def test_other_catalogs_are_refused(settings: Settings, k2: K2, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog on a server has its own tools; an absent one has nothing to back up."""
    refused(k2("catalog", "backup", "b.db"), 2, "there is no catalog ")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", "http://127.0.0.1:1")
    for arguments in (["backup", "b.db"], ["restore", "b.db"]):
        refused(k2("catalog", *arguments), 2, "catalog 'k2' is not in an SQLite file; back it up and restore it with")
    refused(k2("catalog", "register"), 2, "catalog 'k2' is not in an SQL database: its server keeps the list of tables")
