"""`k2 catalog move`: the copy of a data folder reads as its source at every snapshot, however often it was begun."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from bytewax.recovery import init_db_dir
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType
from typer.testing import Result

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.reconcile import reconcile
from k2.storage.catalog import open_catalog
from k2.storage.catalog_register import find_tables
from k2.storage.dead_letters.folders import replay_journal
from k2.storage.dead_letters.replay_journal import replayed_letters
from k2.storage.recovery.store import partition_files
from k2.storage.table_copy import CopiedTable, copy_table
from tests.cli.moved import contents, is_equal, is_unfinished, killed, opened, parsed, refused, rows, versions
from tests.model.dead_letters import dead_letter
from tests.query.replays import record_replays
from tests.query.tables import append, trade, write_letters

K2 = Callable[..., Result]
MOVING: Final = "k2.storage.catalog_move"
COPYING: Final = "k2.storage.table_copy"


def test_a_moved_folder_reads_as_before(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """Also without the source, and it goes on; the answer says what was copied."""
    before = contents(settings.data_dir)
    document = parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    assert contents(settings.data_dir) == before
    assert is_equal(settings, new)
    assert [one.holds for one in reconcile(new)] == [True]
    moved = {one["table"]: one for one in document["tables"]}
    assert [*moved] == [f"market_data.{name}" for name in sorted(TableName)]
    trades = moved["market_data.trades"]
    assert (trades["rows"], trades["files"], trades["progress"]) == (4, 4, {"trades:0": 4})
    assert (document["dead_letter_files"], document["recovery_store"]) == (1, None)
    settings.data_dir.rename(settings.data_dir.with_name("gone"))
    named = str(settings.data_dir).encode()
    assert not [name for name, content in contents(new.data_dir).items() if named in content]
    assert find_tables(new)[0].metadata.table_uuid == table.metadata.table_uuid
    append(opened(new), [trade(7)])
    assert [row["offset"] for row in rows(opened(new))] == [0, 1, 3, 7, 100_000]


def test_people_are_shown_what_comes_next(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """The tables, what else was copied, and the setting that selects the copy."""
    result = k2("catalog", "move", str(new.data_dir))
    assert result.exit_code == 0, result.stderr
    *_, letters, store, last = result.stdout.splitlines()
    assert letters == "dead letters: 1 file copied"
    assert store == "recovery store: none in K2_DATA_DIR; the job can use one of another folder (-r) as before"
    assert f"set K2_DATA_DIR={new.data_dir}, start the job, then delete the source" in last
    refused(k2("catalog", "move", str(new.data_dir)), 2, f"{new.data_dir} already has a catalog; give another folder")


def test_every_kind_of_commit_is_moved(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """Deletes, rewritten files, merged manifests, an expired snapshot, a tag, and paths in properties."""
    table.delete("offset = 1")
    table.overwrite(table.scan(row_filter="exchange == 'binance'").to_arrow(), overwrite_filter="exchange == 'binance'")
    merging = {"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "2"}
    with table.transaction() as transaction:
        transaction.set_properties({**merging, "write.data.path": f"{table.location()}/data"})
    append(table, [trade(8)])
    append(table, [trade(9)])
    first, second, *_ = versions(table)
    table.manage_snapshots().create_tag(second, "kept").commit()
    table.maintenance.expire_snapshots().by_id(first).commit()
    parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    assert is_equal(settings, new)
    moved = opened(new)
    assert [row["offset"] for row in rows(moved)] == [0, 3, 8, 9, 100_000]
    assert first not in versions(moved)
    assert moved.refs()["kept"].snapshot_id == second
    assert moved.properties["write.data.path"] == f"{moved.location()}/data"
    paths = ["file_path"]
    assert moved.inspect.files().drop_columns(paths) == table.refresh().inspect.files().drop_columns(paths)
    entries = [one.inspect.entries().select(["status", "snapshot_id", "sequence_number"]) for one in (moved, table)]
    assert entries[0] == entries[1]


def test_other_tables_of_the_catalog_are_moved(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """With their schemas and partitionings, in their namespaces."""
    catalog = open_catalog(settings)
    catalog.create_namespace("other", {"location": f"file://{settings.data_dir}/elsewhere"})
    fields = NestedField(1, "venue", StringType(), required=False), NestedField(2, "id", LongType(), required=False)
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "venue"))
    quotes = catalog.create_table("other.quotes", Schema(*fields), partition_spec=spec)
    quotes.append(pa.table({"venue": ["okx", None], "id": [1, 2]}))
    with quotes.update_schema() as schema:
        schema.add_column("note", StringType())
        schema.rename_column("id", "number")
    with quotes.update_spec() as update:
        update.add_field("number", BucketTransform(4), "bucket")
    quotes.append(pa.table({"venue": ["okx"], "number": [3], "note": ["late"]}))
    parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    moved = open_catalog(new).load_table("other.quotes")
    assert (moved.schemas(), moved.specs()) == (quotes.schemas(), quotes.specs())
    for version in versions(quotes):
        assert moved.scan(snapshot_id=version).to_arrow() == quotes.scan(snapshot_id=version).to_arrow()
    assert moved.scan(row_filter="venue == 'okx'").to_arrow()["number"].to_pylist() == [3, 1]
    assert open_catalog(new).load_namespace_properties("other")["location"] == f"file://{new.data_dir}/elsewhere"


@pytest.mark.parametrize("step", ["first data file", "second table", "dead letters", "check", "before the rename"])
def test_an_interrupted_move_is_repeated(
    settings: Settings, table: Table, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The source is as before, the target is refused; a later call takes what the source has by then."""
    before = contents(settings.data_dir)

    copied: list[CopiedTable] = []

    def killed_at_second(*arguments: Any, **options: Any) -> CopiedTable:
        if copied:
            killed()
        copied.append(copy_table(*arguments, **options))
        return copied[0]

    with monkeypatch.context() as patch:
        if step == "first data file":
            patch.setattr(f"{COPYING}.shutil.copy2", killed)
        elif step == "second table":
            patch.setattr(f"{MOVING}.copy_table", killed_at_second)
        elif step == "dead letters":
            patch.setattr(f"{MOVING}.copy_file", killed)
        elif step == "check":
            patch.setattr(f"{MOVING}.check_copy", killed)
        else:
            patch.setattr(Path, "rename", killed)
        assert k2("catalog", "move", str(new.data_dir)).exit_code != 0
    assert contents(settings.data_dir) == before
    assert is_unfinished(new)
    append(table, [trade(9)])
    write_letters(settings, [dead_letter(2), dead_letter(5)])
    record_replays(settings, [(dead_letter(2), 50)])
    table.refresh()
    parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    assert is_equal(settings, new)
    assert replayed_letters(replay_journal(new).entries()) == {dead_letter(2).coordinates: 50}
    assert {path.name for path in new.data_dir.iterdir()} == {"catalog.db", "catalog.db.lock", "dlq", "warehouse"} | {
        path.name for path in new.data_dir.glob("catalog.db-*")
    }


def test_whole_data_files_are_not_copied_again(
    settings: Settings, table: Table, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated move goes on with those that are missing or cut short."""
    with monkeypatch.context() as patch:
        patch.setattr(f"{MOVING}._finish", killed)
        k2("catalog", "move", str(new.data_dir))
    one, *others = sorted(new.data_dir.rglob("*.parquet"))
    os.truncate(one, 10)
    numbers = {path: path.stat().st_ino for path in others}
    parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    assert {path: path.stat().st_ino for path in others} == numbers
    assert is_equal(settings, new)


def test_a_folder_of_another_machine(settings: Settings, table: Table, k2: K2, new: Settings, tmp_path: Path) -> None:
    """The copy names the path that it will have there, and is no catalog where it was written."""
    there = Settings(data_dir=tmp_path / "there")
    document = parsed(k2("catalog", "move", str(new.data_dir), "--as", str(there.data_dir), "--json"))
    assert document["data_dir"] == str(there.data_dir)
    shutil.copytree(new.data_dir, there.data_dir)
    shutil.rmtree(new.data_dir)
    assert is_equal(settings, there)
    refused(k2("catalog", "move", str(new.data_dir), "--as", "there"), 2, "--as 'there' is not an absolute path")


def test_hard_links_take_no_space(
    settings: Settings, table: Table, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data files are the same files; dead letters, to which the job appends, are not."""

    def refusing(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", refusing)
        result = k2("catalog", "move", str(new.data_dir), "--hard-links")
        refused(result, 2, "Invalid cross-device link; leave out --hard-links")
    parsed(k2("catalog", "move", str(new.data_dir), "--hard-links", "--json"))
    links = {path.suffix: path.stat().st_nlink for path in new.data_dir.rglob("*") if path.is_file()}
    assert (links[".parquet"], links[".jsonl"], links[".json"], links[".avro"]) == (2, 1, 1, 1)
    assert is_equal(settings, new)


def test_the_recovery_store_is_moved(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """That of `k2 run` in K2_DATA_DIR; a repeated move replaces the copy."""
    (settings.data_dir / "recovery").mkdir()
    init_db_dir(settings.data_dir / "recovery", 2)  # type: ignore[no-untyped-call]
    store = parsed(k2("catalog", "move", str(new.data_dir), "--json"))["recovery_store"]
    assert store == str(new.data_dir / "recovery")
    assert len(partition_files(Path(store))) == 2
    (new.data_dir / "catalog.db").rename(new.data_dir / "catalog.db.moving")
    parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    assert len(partition_files(Path(store))) == 2


def test_dead_letters_of_another_folder_stay(
    settings: Settings, table: Table, k2: K2, new: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2_DLQ_DIR names them as before."""
    monkeypatch.setenv("K2_DLQ_DIR", str(tmp_path / "letters"))
    assert parsed(k2("catalog", "move", str(new.data_dir), "--json"))["dead_letter_files"] is None
    assert not (new.data_dir / "dlq").exists()


def test_a_folder_behind_a_link_is_moved(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """Metadata names the link that took the place of a folder moved by hand."""
    elsewhere = settings.data_dir.with_name("elsewhere")
    settings.data_dir.rename(elsewhere)
    settings.data_dir.symlink_to(elsewhere)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K2_DATA_DIR", str(elsewhere))
        parsed(k2("catalog", "move", str(new.data_dir), "--json"))
    assert is_equal(settings, new)
