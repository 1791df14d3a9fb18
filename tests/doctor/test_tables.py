"""Checks of catalog, tables, folders and recovery store: nothing is created, and what is wrong is named."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2.doctor import folders
from k2.doctor.broker import Tables
from k2.doctor.findings import Finding, NotCheckedError, Shared, State
from k2.doctor.recovery import Start, check_recovery_store
from k2.doctor.tables import Found, check_catalog, check_checkpoints, check_tables
from k2.iceberg.tables import TableName
from k2.maintenance.compaction import compact
from k2.model.errors import CatalogError, SettingsError, UnreachableError
from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from k2.storage.recovery.backup import make_store
from k2.storage.recovery.lock import lock_store
from tests.cli.moved import store
from tests.query.tables import append, made, progress, set_progress, trade


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a folder of their own that does not exist yet."""
    return Settings(data_dir=tmp_path / "data")


def states(found: Iterable[Finding]) -> dict[str, State]:
    """Return the state of each finding."""
    return {one.check: one.state for one in found}


def look(settings: Settings) -> tuple[list[Finding], Shared[Found], Shared[Tables]]:
    """Check the catalog and the tables, with the recovery store of the data folder."""
    found, tables, resumed = Shared[Found]("it"), Shared[Tables]("it"), Shared[bool]("whether it resumes")
    findings = [*check_catalog(settings, found)]
    [*check_recovery_store(settings, Start(), found, resumed)]
    return [*findings, *check_tables(settings, found, tables, resumed)], found, tables


def look_at_store(
    settings: Settings, found: Shared[Found], folder: Path | None = None, *, is_cluster: bool = False
) -> tuple[list[Finding], Shared[bool]]:
    """Check a recovery store; return also whether a start resumes from it."""
    resumed = Shared[bool]("whether it resumes")
    return [*check_recovery_store(settings, Start(folder, is_cluster), found, resumed)], resumed


def test_what_does_not_exist_yet_is_not_created(settings: Settings) -> None:
    """Neither a catalog nor a folder; the job makes them."""
    findings, found, tables = look(settings)
    findings += [
        *check_checkpoints(settings, found),
        *folders.check_warehouse(settings, found),
        *folders.check_dead_letters(settings),
        *look_at_store(settings, found)[0],
    ]
    assert {*states(findings).values()} == {State.OK}
    assert tables.get().progress.partitions() == []
    assert not settings.data_dir.exists()


def test_a_database_without_a_catalog_stays_empty(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configured SQLite file is not made, and one that is empty gets no tables of a catalog."""
    database = tmp_path / "other.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", f"sqlite:///{database}")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__WAREHOUSE", f"file://{tmp_path}/warehouse")
    assert {*states(look(settings)[0]).values()} == {State.OK}
    assert not database.exists()
    database.touch()
    assert {*states(look(settings)[0]).values()} == {State.OK}
    assert database.stat().st_size == 0


def test_good_tables_are_ok(settings: Settings) -> None:
    """The ledger belongs to the trades, and the progress is shared with other checks."""
    table = store(settings)
    made(settings, TableName.COMMITS)
    before = table.refresh().metadata_location
    findings, found, tables = look(settings)
    assert {*states(findings).values()} == {State.OK}
    assert "ledger" in states(findings)
    assert tables.get().progress == progress(offset=4, received=6, stored=4, dead_letters=1, corrections=1)
    checkpoints = [*check_checkpoints(settings, found)]
    assert "reads all rows of the table: 16 key groups without a checkpoint" in checkpoints[0].text
    assert table.refresh().metadata_location == before


def _rename_ledger(settings: Settings, _table: Table) -> None:
    open_catalog(settings).drop_table((settings.namespace, "trades"))
    made(settings, TableName.TRADES)
    ledger = made(settings, TableName.SEQUENCE_EVENTS)
    set_progress(ledger, progress(offset=4))


def _another_format(_settings: Settings, table: Table) -> None:
    with table.transaction() as transaction:
        transaction.set_properties({"k2.format": "9"})


@pytest.mark.parametrize(
    ("harm", "check", "words"),
    [
        (_rename_ledger, "ledger", "is not that of table market_data.trades"),
        (_another_format, "table trades", "k2.format=9"),
    ],
)
def test_tables_that_the_job_would_refuse_are_failures(
    settings: Settings, harm: Callable[[Settings, Table], None], check: str, words: str
) -> None:
    """With the sentence of the job."""
    harm(settings, store(settings))
    (finding,) = [one for one in look(settings)[0] if one.state is State.FAILED]
    assert finding.check == check
    assert words in finding.text


def test_another_number_of_writers_is_a_failure(settings: Settings) -> None:
    """It is fixed when the table is made."""
    store(settings)
    other = settings.model_copy(update={"writers": 2})
    (finding,) = [one for one in look(other)[0] if one.state is State.FAILED]
    assert "K2_WRITERS=2" in finding.text


def test_a_lost_catalog_is_an_error(settings: Settings) -> None:
    """As at a start: the warehouse has files of tables that no catalog names."""
    store(settings)
    (settings.data_dir / "catalog.db").unlink()
    with pytest.raises(CatalogError, match="k2 catalog register"):
        look(settings)


def test_a_lost_metadata_file_is_an_error(settings: Settings) -> None:
    """It is named; the catalog itself answers."""
    file = store(settings).refresh().metadata_location.removeprefix("file://")
    Path(file).unlink()
    with pytest.raises(CatalogError, match="is missing; restore it"):
        look(settings)


def test_a_catalog_that_does_not_answer_is_unreachable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is named."""
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", "http://127.0.0.1:1")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        look(settings)


def test_folders_are_tried_and_left_as_they_were(settings: Settings) -> None:
    """The probe file is removed."""
    store(settings)
    _, found, _ = look(settings)
    before = sorted(settings.data_dir.rglob("*"))
    for check in (folders.check_warehouse(settings, found), folders.check_dead_letters(settings)):
        (finding,) = check
        assert finding.state is State.OK
        assert "can be written" in finding.text
    assert sorted(settings.data_dir.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that cannot be made, because a file is in its place; the setting is named."""
    (tmp_path / "file").touch()
    (finding,) = folders.check_folder("dlq", tmp_path / "file" / "dlq", "K2_DLQ_DIR", None)
    assert (finding.state, "fix K2_DLQ_DIR" in finding.text) == (State.FAILED, True)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    (finding,) = folders.check_folder("dlq", tmp_path, "K2_DLQ_DIR", None)
    assert (finding.state, "Permission denied" in finding.text) == (State.FAILED, True)


@pytest.mark.parametrize(("days", "state"), [(30, State.OK), (3, State.WARNING), (0.5, State.FAILED)])
def test_free_space_is_compared_with_the_use_of_a_day(tmp_path: Path, days: float, state: State) -> None:
    """A week is enough."""
    free = os.statvfs(tmp_path)
    rate = free.f_bavail * free.f_frsize / days
    (finding,) = folders.check_folder("warehouse", tmp_path, "it", rate)
    assert finding.state is state, finding.text


def test_the_use_of_a_day_comes_from_the_commits(settings: Settings) -> None:
    """Over their span, which must not be too short; what a compaction writes again is not new."""
    table = made(settings, TableName.TRADES)
    append(table, [trade(0)])
    (snapshot,) = table.refresh().metadata.snapshots
    assert snapshot.summary is not None
    size = int(snapshot.summary.additional_properties["added-files-size"])
    committed_at = snapshot.timestamp_ms / 1_000
    assert folders.bytes_per_day(table, committed_at + 1) is None
    assert folders.bytes_per_day(table, committed_at + 43_200) == pytest.approx(2 * size)
    assert folders.bytes_per_day(table, committed_at + 90_000) is None
    append(table, [trade(1)])
    rate = folders.bytes_per_day(table.refresh(), committed_at + 43_200)
    (group,) = compact(settings, TableName.TRADES)
    assert group.new_files == 1
    assert folders.bytes_per_day(table.refresh(), committed_at + 43_200) == pytest.approx(rate)


def test_a_recovery_store_is_looked_at(settings: Settings, tmp_path: Path) -> None:
    """That of the data folder if it is there, or one that is named; in use or not, and what it lacks."""
    _, found, _ = look(settings)
    folder = make_store(settings.data_dir / "recovery", 2).folder
    ((finding,), _) = look_at_store(settings, found)
    assert (finding.state, "not in use" in finding.text) == (State.OK, True)
    held = lock_store(folder, 0)
    ((finding,), _) = look_at_store(settings, found, folder)
    assert (finding.state, "in use by a running job" in finding.text) == (State.OK, True)
    os.close(held)
    with pytest.raises(SettingsError, match="is not a folder"):
        look_at_store(settings, found, tmp_path / "none")


def test_a_part_of_a_store_is_right_only_in_a_cluster(settings: Settings) -> None:
    """As at a start. Alone it is refused, without the advice to replace what other processes may have."""
    _, found, _ = look(settings)
    folder = make_store(settings.data_dir / "recovery", 4).folder
    (folder / "part-1.sqlite3").unlink()
    (finding,), resumed = look_at_store(settings, found, is_cluster=True)
    assert (finding.state, "--replace" in finding.text) == (State.WARNING, False)
    assert "lacks partition 1 of 4, which is right if other processes of the cluster have it" in finding.text
    assert resumed.get()
    (finding,), _ = look_at_store(settings, found)
    assert finding.state is State.FAILED
    assert finding.text.startswith("unless other processes of a cluster have the rest (then add its -a), ")
    assert "lacks partition 1 of 4; put it back" in finding.text


def test_partitions_that_do_not_match_are_refused_in_a_cluster_too(settings: Settings, tmp_path: Path) -> None:
    """The start checks them whatever is missing."""
    _, found, _ = look(settings)
    folder = make_store(settings.data_dir / "recovery", 4).folder
    (folder / "part-1.sqlite3").unlink()
    other = make_store(tmp_path / "other", 5).folder
    (other / "part-4.sqlite3").rename(folder / "part-4.sqlite3")
    (finding,), _ = look_at_store(settings, found, is_cluster=True)
    assert finding.state is State.FAILED
    assert "holds partitions of several recovery stores" in finding.text
    assert "unless" not in finding.text


def test_an_empty_folder_is_that_of_a_later_process(settings: Settings, tmp_path: Path) -> None:
    """It is a warning that says for which processes it is right; in a cluster others may have states."""
    _, found, _ = look(settings)
    for is_cluster in (False, True):
        (finding,), resumed = look_at_store(settings, found, tmp_path, is_cluster=is_cluster)
        assert finding.state is State.WARNING
        assert "is right for processes 1 and later of a cluster" in finding.text
        if is_cluster:
            resumed.withhold()
            with pytest.raises(NotCheckedError):
                resumed.get()
        else:
            assert not resumed.get()


@pytest.mark.parametrize("is_recreated", [False, True])
def test_a_dropped_ledger_is_refused_with_a_store_that_is_resumed(settings: Settings, *, is_recreated: bool) -> None:
    """As by a start, with its sentence; without states the ledger is rebuilt, which is a warning."""
    store(settings)
    open_catalog(settings).drop_table((settings.namespace, "sequence_events"))
    if is_recreated:
        made(settings, TableName.SEQUENCE_EVENTS)
    findings, found, tables = look(settings)
    (finding,) = [one for one in findings if one.check == "ledger"]
    assert (finding.state, "rebuilds it from the trades" in finding.text) == (State.WARNING, True)
    folder = make_store(settings.data_dir / "recovery", 1).folder
    (finding,) = [one for one in look(settings)[0] if one.check == "ledger"]
    assert finding.state is State.WARNING, "the store is new"
    with closing(sqlite3.connect(folder / "part-0.sqlite3")) as connection, connection:
        connection.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 1)")
    (finding,) = [one for one in look(settings)[0] if one.check == "ledger"]
    assert (finding.state, "k2 recovery init DIR" in finding.text) == (State.FAILED, True)
    assert ("dropped and recreated" in finding.text) is is_recreated
    resumed = Shared[bool]("whether it resumes")
    resumed.withhold()
    tables = Shared[Tables]("it")
    (finding,) = [one for one in check_tables(settings, found, tables, resumed) if one.check == "ledger"]
    assert (finding.state, "name the store by -r" in finding.text) == (State.UNKNOWN, True)


def test_a_commit_of_the_future_is_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this machine, or of the one that committed, is wrong."""
    store(settings)
    now = time.time()
    monkeypatch.setattr("k2.doctor.tables.time.time", lambda: now - 3_600)
    assert states(look(settings)[0])["table trades clock"] is State.WARNING
