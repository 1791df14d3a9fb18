"""`k2 catalog move` refuses what it cannot copy whole, in one sentence."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from typer.testing import Result

from k2.ops.settings import Settings
from k2.storage.catalog import open_catalog
from k2.storage.catalog_lock import share_catalog
from k2.storage.table_copy import copy_file
from k2.storage.table_copy_check import check_copy
from tests.cli.moved import is_unfinished, refused
from tests.query.tables import append, trade

K2 = Callable[..., Result]
MOVING: Final = "k2.storage.catalog_move"
COPYING: Final = "k2.storage.table_copy"


def test_a_running_job_keeps_its_folder(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """A move is refused while a process of the job lives."""
    descriptor = share_catalog(settings)
    assert descriptor is not None
    try:
        refused(k2("catalog", "move", str(new.data_dir)), 1, "is in use by another process: stop the job")
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
    assert not new.data_dir.exists()


def test_a_commit_meanwhile_is_not_lost(
    settings: Settings, table: Table, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that do not know the lock may commit; the move is then repeated."""

    def committing(*arguments: Any) -> TableMetadata:
        append(table.refresh(), [trade(9)])
        return check_copy(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"{MOVING}.check_copy", committing)
        refused(k2("catalog", "move", str(new.data_dir)), 1, "another program committed to a table of ")
    assert is_unfinished(new)


def test_a_copy_that_differs_is_refused(
    settings: Settings, table: Table, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data file with other content of the same length, as a bad disk may return it."""

    def torn(source: Path, target: Path, **options: Any) -> None:
        copy_file(source, target, **options)
        target.write_bytes(bytes(target.stat().st_size))

    monkeypatch.setattr(f"{COPYING}.copy_file", torn)
    refused(k2("catalog", "move", str(new.data_dir)), 1, ".parquet is missing or damaged: ")
    assert is_unfinished(new)


@pytest.mark.parametrize("harm", ["data file", "manifest", "metadata", "delete files", "elsewhere"])
def test_a_source_that_cannot_be_moved_is_named(
    settings: Settings, table: Table, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """With what to do; the target is refused until then."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    if harm == "data file":
        path = next(settings.data_dir.rglob("*.parquet"))
        os.truncate(path, 10)
        words = f"lacks the file {path}, or it was cut short; restore it"
    elif harm == "manifest":
        path = Path(snapshot.manifests(table.io)[0].manifest_path.removeprefix("file://"))
        path.unlink()
        words = f"{path} is missing or damaged"
    elif harm == "metadata":
        path = Path(table.metadata_location.removeprefix("file://"))
        os.truncate(path, 100)
        words = f"{path} is missing or damaged"
    elif harm == "delete files":
        monkeypatch.setattr(f"{COPYING}.ManifestContent", type("_", (), {"DATA": ManifestContent.DELETES}))
        words = "has delete files, which contain paths of data files; let an Iceberg engine rewrite"
    else:
        catalog = open_catalog(settings)
        outside = settings.data_dir.with_name("outside")
        catalog.create_table("market_data.other", table.schema(), location=f"file://{outside}")
        words = f"names file://{outside}, which is not in {settings.data_dir}; move that table with Spark's procedure"
    refused(k2("catalog", "move", str(new.data_dir)), 1, words)
    assert is_unfinished(new)


def test_a_bad_target_is_refused(settings: Settings, table: Table, k2: K2, new: Settings) -> None:
    """Inside of the source, with files of a warehouse, with a bad name, or not to be written; nothing is changed."""
    for target in (settings.data_dir, settings.data_dir / "inside"):
        refused(
            k2("catalog", "move", str(target)), 2, f"{target} is in the folder that is moved; give a folder outside"
        )
    refused(k2("catalog", "move", f"{new.data_dir}%"), 2, "a path with '%' cannot hold a local catalog")
    (new.data_dir / "warehouse").mkdir(parents=True)
    refused(k2("catalog", "move", str(new.data_dir)), 2, f"{new.data_dir}/warehouse already exists; give another")
    (new.data_dir.parent / "file").touch()
    refused(k2("catalog", "move", f"{new.data_dir.parent}/file"), 2, f"{new.data_dir.parent}/file")
    assert k2("catalog", "move", "").exit_code == 2
    assert not (settings.data_dir / "inside").exists()


def test_other_catalogs_are_not_moved(
    settings: Settings, k2: K2, new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absent, corrupt or empty one has no tables; one that is configured has its own tools."""
    database, target = settings.data_dir / "catalog.db", str(new.data_dir)
    refused(k2("catalog", "move", target), 2, f"there is no catalog {database} to move")
    settings.data_dir.mkdir()
    database.write_text("hello" * 1_000)
    refused(k2("catalog", "move", target), 1, f"the catalog {database} is corrupt")
    database.unlink()
    open_catalog(settings)
    refused(k2("catalog", "move", target), 2, f"{database} has no tables to move")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", "http://127.0.0.1:1")
    refused(k2("catalog", "move", target), 2, "only the catalog in K2_DATA_DIR is moved; copy its tables with")
